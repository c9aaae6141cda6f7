"""Backups: taken while the lab measures, restored row for row, and never half a file or lab."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab, execute

from db.models import Base
from ucurve.cli import main
from ucurve.client import Client
from ucurve.lab import table_copy
from ucurve.lab.backup import write_backup
from ucurve.lab.backup_file import BackupFileError, BackupWriter, Manifest, verify
from ucurve.lab.data_folder import EmbeddedError
from ucurve.lab.embedded import Engines
from ucurve.lab.findings import surroundings
from ucurve.lab.installation import Installation, connect, of_engines, opened
from ucurve.lab.restore import restore_backup

NUM_WORKERS = 1
TEST_KINDS = True
ENVIRONMENT = {"UCURVE_LEASE_SECONDS": "4", "UCURVE_WEBHOOK_HOSTS": "127.0.0.1"}


def quiet(name: str, done: int, total: int) -> None:
    """Progress that goes nowhere."""


def rows(session: Any) -> dict[str, list[str]]:
    """Every row of every table, computed columns included."""
    session.execute("SET TimeZone = 'UTC'")
    names = [*table_copy.tables(session), table_copy.REVISION]
    return {
        name: sorted(str(row[0]) for row in session.execute(f'SELECT t::text FROM "{name}" t'))
        for name in names
    }


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the folders of models, where no lab may be."""
    return tmp_path_factory.mktemp("backup")


@pytest.fixture(scope="module")
def measuring(team: Lab) -> Lab:
    """A lab with users, stars, finished results and a long queue that a worker measures."""
    team.start_worker()
    root = team.client
    root.set_user("sam", role="submitter")
    sam = Client(team.url, root.create_token("laptop", owner="sam").secret)
    done = sam.submit({"kind": "linear_model"}, name="finished before")
    root.star(done.id)
    assert sam.wait(done.id, timeout=120).state == "done"
    sam.submit(
        {"kind": "slow_count", "to": list(range(1, 40)), "step_seconds": 0.02},
        webhook="http://127.0.0.1:9/x",
    )
    return team


def charts(client: Client) -> dict[str, object]:
    """Every figure of the finished experiment, with its data."""
    return {name: (figure.chart, figure.datasets) for name, figure in client.figures(1).items()}


def of_lab(lab: Lab) -> Installation:
    return Installation(lab.database_url, lab.artefacts, lab.data)


@pytest.fixture(scope="module")
def artefact(measuring: Lab) -> Path:
    """A suite in the artefact folder that rows name, and what a backup leaves out."""
    suite = measuring.artefacts / "suites" / "mine" / "seed0-step1"
    suite.mkdir(parents=True)
    (suite / "model.safetensors").write_bytes(os.urandom(3_000_000))
    for name in ("hub/x/model.bin", "state/abc/count", "tuned/abc/w.safetensors"):
        (measuring.artefacts / name).parent.mkdir(parents=True, exist_ok=True)
        (measuring.artefacts / name).write_bytes(b"a cache")
    with connect(measuring.database_url) as session:
        session.execute("INSERT INTO suites (name) VALUES ('mine')")
        session.execute(
            """INSERT INTO checkpoints (suite, revision, location, weights_sha256) VALUES
            ('mine', 'here', '{"scheme": "artefacts", "path": "suites/mine/seed0-step1"}', %s),
            ('mine', 'gone', '{"scheme": "artefacts", "path": "suites/mine/gone"}', 'abc'),
            ('mine', 'far', '{"scheme": "path", "path": "/far/away"}', 'abc')""",
            [hashlib.sha256((suite / "model.safetensors").read_bytes()).hexdigest()],
        )
    return suite / "model.safetensors"


@pytest.fixture(scope="module")
def running(measuring: Lab, artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup taken while the worker measures."""
    file = tmp_path_factory.mktemp("running") / "lab.tar"
    before = measuring.client.experiment(2).progress.done
    write_backup(of_lab(measuring), file, "suites", quiet)
    client = measuring.client
    assert client.experiment(2).state == "running", "it was to be taken while measuring"
    assert client.experiment(2).progress.done >= before
    return file


def test_a_backup_holds_every_table_of_the_models(running: Path) -> None:
    manifest = verify(running, quiet)
    assert set(manifest.tables) == {table.name for table in Base.metadata.sorted_tables}
    assert {f"tables/{name}.tsv.zst" for name in manifest.tables} <= manifest.files.keys()


def test_a_backup_is_private_and_lists_what_it_lacks(running: Path, artefact: Path) -> None:
    assert stat.S_IMODE(running.stat().st_mode) == 0o600
    assert [path.name for path in running.parent.iterdir()] == [running.name]
    manifest = verify(running, quiet)
    names = [name for name in manifest.files if name.startswith("artefacts/")]
    assert names == ["artefacts/suites/mine/seed0-step1/model.safetensors"]
    content = hashlib.sha256(artefact.read_bytes()).hexdigest()
    assert manifest.files[names[0]].sha256 == content
    assert manifest.missing == ["suites/mine/gone"]
    assert manifest.outside == ["/far/away"]
    assert manifest.damaged == []
    listed = subprocess.run(["tar", "tf", running], capture_output=True, text=True, check=True)
    assert "webhook-secret" in listed.stdout
    assert "admin-token" not in listed.stdout


def test_weights_that_changed_since_they_were_registered_are_named(
    measuring: Lab, artefact: Path, tmp_path: Path
) -> None:
    original = artefact.read_bytes()
    artefact.write_bytes(original[:-1] + b"x" + original[:1])
    try:
        manifest, _ = write_backup(of_lab(measuring), tmp_path / "lab.tar", "suites", quiet)
    finally:
        artefact.write_bytes(original)
    assert manifest.damaged == ["suites/mine/seed0-step1"]


def test_weights_that_an_index_names_are_compared_and_not_those_of_an_older_save(
    measuring: Lab, artefact: Path, tmp_path: Path
) -> None:
    original, shard = artefact.read_bytes(), "model-00001-of-00001.safetensors"
    index = artefact.with_name("model.safetensors.index.json")
    artefact.with_name(shard).write_bytes(original)
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    artefact.write_bytes(b"an older save")
    try:
        manifest, _ = write_backup(of_lab(measuring), tmp_path / "lab.tar", "suites", quiet)
    finally:
        artefact.write_bytes(original)
        artefact.with_name(shard).unlink()
        index.unlink()
    assert manifest.damaged == []


def test_all_artefacts_include_caches_but_never_the_admin_token(
    measuring: Lab, artefact: Path, tmp_path: Path
) -> None:
    (measuring.artefacts / "admin-token").write_text("a secret")
    manifest, _ = write_backup(of_lab(measuring), tmp_path / "all.tar", "all", quiet)
    assert {"artefacts/hub/x/model.bin", "artefacts/state/abc/count"} <= manifest.files.keys()
    assert "artefacts/admin-token" not in manifest.files


def test_a_backup_while_measuring_is_one_moment_of_the_database(
    running: Path,
    engines: Engines,
    template: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute(engines, f"CREATE DATABASE restored TEMPLATE {template}")  # migrated and never used
    url = engines.database_url_of("restored")
    monkeypatch.setenv("UCURVE_DATABASE_URL", url)
    monkeypatch.setenv("UCURVE_ARTEFACTS", str(tmp_path / "artefacts"))
    try:
        assert main(["restore", str(running)]) == 0
        with connect(url) as session:
            counted = session.execute(
                "SELECT num_points, num_done, count(*), count(*) FILTER (WHERE m.state = 'done') "
                "FROM experiments e JOIN experiment_points p ON p.experiment_id = e.id "
                "JOIN measurements m ON m.id = p.measurement_id GROUP BY e.id ORDER BY e.id"
            ).fetchall()
            new = session.execute(
                "INSERT INTO attempts (measurement_id, worker, device, versions) "
                "VALUES (1, 'w', 'cpu', '{}') RETURNING id"
            ).fetchone()
            taken = session.execute("SELECT count(*), max(id) FROM attempts").fetchone()
        assert [row[:2] for row in counted] == [row[2:] for row in counted]
        assert taken is not None
        assert new == taken[1:], "the sequence goes on where it was"
        assert (tmp_path / "artefacts/suites/mine/seed0-step1/model.safetensors").exists()
        assert main(["restore", str(running)]) == 2, "it is not empty any more"
    finally:
        execute(engines, "DROP DATABASE restored WITH (FORCE)")


def test_a_restored_lab_is_equal_row_for_row_and_goes_on(
    measuring: Lab, artefact: Path, tmp_path: Path
) -> None:
    client = measuring.client
    table, verdicts, figures = client.table(1), client.verdicts(1), charts(client)
    for child in measuring.children.values():
        child.kill()  # a lease and an attempt of a dead worker are in the backup
    file, data = tmp_path / "lab.tar", tmp_path / "restored"
    write_backup(of_lab(measuring), file, "suites", quiet)
    with connect(measuring.database_url) as session:
        original = rows(session)
    restore_backup(file, data, quiet)
    assert not list(tmp_path.glob("*.restoring"))
    with Engines(data) as engines:
        lab = Lab(engines.database_url, engines.broker_url, data, token=measuring.token)
        with of_engines(engines).connect() as session:
            assert rows(session) == original
        assert (data / "webhook-secret").read_text() == (
            measuring.data / "webhook-secret"
        ).read_text()
        assert stat.S_IMODE((data / "webhook-secret").stat().st_mode) == 0o600
        copied = data / artefact.relative_to(measuring.data)
        assert copied.read_bytes() == artefact.read_bytes()
        assert not (data / "artefacts" / "hub").exists()
        try:
            lab.start_api(UCURVE_ACCESS="tokens", UCURVE_OWNER="root")
            lab.start_worker()
            assert {user.name for user in lab.client.users()} == {"root", "sam"}
            assert lab.client.stars() == [1]
            assert lab.client.table(1).equals(table)
            assert lab.client.verdicts(1) == verdicts
            assert charts(lab.client) == figures
            rest = lab.client.wait(2, timeout=240)
            assert (rest.state, rest.progress.done) == ("done", rest.progress.total)
        finally:
            lab.stop()


def test_members_may_have_long_names_and_are_listed_by_tar(tmp_path: Path) -> None:
    name = "artefacts/" + "/".join(["a long name of a suite"] * 12)
    with BackupWriter(tmp_path / "lab.tar") as backup:
        for part in (name, "artefacts/empty"):
            with backup.member(part) as file:
                file.write(b"x" * 1000 if part == name else b"")
        size = backup.finish(manifest_of(backup))
    assert size == (tmp_path / "lab.tar").stat().st_size
    assert verify(tmp_path / "lab.tar", quiet).files[name].size == 1000
    with tarfile.open(tmp_path / "lab.tar") as archive:
        assert name in archive.getnames()


# ---- what is refused, in one line


@pytest.mark.parametrize("cut", [0, 100, 1024, 5000, -2000, -1025])
def test_a_truncated_backup_is_refused(
    running: Path, cut: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.tar").write_bytes(running.read_bytes()[:cut])
    refuse(tmp_path / "cut.tar", tmp_path, capsys)


@pytest.mark.parametrize("where", [0.001, 0.01, 0.3, 0.6, 0.9, 0.9999])
def test_a_backup_with_one_flipped_bit_is_refused(
    running: Path, where: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(running.read_bytes())
    place = int(len(content) * where)
    with tarfile.open(running) as archive:  # padding between members holds nothing
        members = [member for member in archive if member.size]
    inside = next((m for m in members if m.offset_data + m.size > place), members[-1])
    content[min(max(place, inside.offset_data), inside.offset_data + inside.size - 1)] ^= 16
    (tmp_path / "flipped.tar").write_bytes(content)
    refuse(tmp_path / "flipped.tar", tmp_path, capsys)


def test_files_of_others_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "some.txt").write_text("a text\n" * 1000)
    with tarfile.open(tmp_path / "foreign.tar", "w") as archive:
        archive.add(tmp_path / "some.txt", "some.txt")
    for name in ("some.txt", "foreign.tar", "absent.tar", "."):
        refuse(tmp_path / name, tmp_path, capsys)


def test_a_backup_whose_member_leaves_the_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BackupWriter(tmp_path / "lab.tar") as backup:
        with backup.member("artefacts/../../outside") as file:
            file.write(b"x")
        backup.finish(manifest_of(backup))
    refuse(tmp_path / "lab.tar", tmp_path, capsys)
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"revision": "9999", "ucurve": "7.1"}, "install ucurve 7.1 or newer"),
        ({"format": 2}, "cannot read: install a newer one"),
    ],
)
def test_a_backup_of_a_newer_ucurve_names_the_version_to_install(
    changed: dict[str, object], remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BackupWriter(tmp_path / "lab.tar") as backup:
        backup.finish(manifest_of(backup).model_copy(update=changed))
    assert remedy in refuse(tmp_path / "lab.tar", tmp_path, capsys)


def manifest_of(backup: BackupWriter) -> Manifest:
    """A manifest without tables."""
    return Manifest(
        created_at="2026-11-29T00:00:00Z", ucurve="0", postgres="18", revision="0001",
        tables={}, sequences={}, artefacts="none", files=dict(backup.files),
    )  # fmt: skip


def refuse(file: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Restoring this file is refused in one line and leaves nothing."""
    assert main(["restore", str(file), "--data", str(folder / "lab")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("ucurve: ")
    assert file.name in told[-1] or str(file) in told[-1]
    assert not any("Traceback" in line for line in told)
    assert not list(folder.glob("lab*.restoring"))
    assert not (folder / "lab").exists()
    return told[-1]


def test_a_folder_with_a_lab_is_not_restored_into(
    running: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "artefacts").mkdir()
    assert main(["restore", str(running), "--data", str(tmp_path)]) == 2
    assert f"{tmp_path} is not empty" in capsys.readouterr().err


def test_a_database_of_another_program_is_not_restored_into(
    running: Path,
    engines: Engines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    execute(engines, "CREATE DATABASE foreign_tables")
    url = engines.database_url_of("foreign_tables")
    monkeypatch.setenv("UCURVE_DATABASE_URL", url)
    monkeypatch.setenv("UCURVE_ARTEFACTS", str(tmp_path / "artefacts"))
    try:
        with connect(url) as session:
            session.execute("CREATE TABLE theirs (id int PRIMARY KEY)")
        assert main(["restore", str(running)]) == 2
        assert "is not empty (theirs): create an empty one" in capsys.readouterr().err
        with connect(url) as session:
            assert table_copy.tables(session) == ["theirs"]
    finally:
        execute(engines, "DROP DATABASE foreign_tables WITH (FORCE)")
    assert not (tmp_path / "artefacts").exists()


def test_nothing_is_overwritten_and_a_half_file_is_never_taken_for_a_whole(
    running: Path, measuring: Lab, tmp_path: Path
) -> None:
    with pytest.raises(BackupFileError, match="exists"):
        write_backup(of_lab(measuring), running, "none", quiet)
    (tmp_path / "lab.tar.partial").write_bytes(b"of a killed backup" * 10**6)

    def stop(name: str, done: int, total: int) -> None:
        assert not (tmp_path / "lab.tar").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_backup(of_lab(measuring), tmp_path / "lab.tar", "none", stop)
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_noticed_before_anything_is_written(
    measuring: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(
        BackupFileError, match=r"5 bytes free and the backup may need .*another folder"
    ):
        write_backup(of_lab(measuring), tmp_path / "lab.tar", "none", quiet)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_nothing(
    measuring: Lab, artefact: Path, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(BackupFileError, match="File too large; nothing is left of it"):
            write_backup(of_lab(measuring), tmp_path / "lab.tar", "suites", quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_database_that_ends_meanwhile_leaves_nothing(
    measuring: Lab, engines: Engines, tmp_path: Path
) -> None:
    def end(name: str, done: int, total: int) -> None:
        execute(engines, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                         "WHERE datname LIKE '%backup%' AND pid <> pg_backend_pid()")  # fmt: skip

    with pytest.raises(EmbeddedError, match="the database failed during the backup"):
        write_backup(of_lab(measuring), tmp_path / "lab.tar", "suites", end)
    assert not list(tmp_path.iterdir())


def test_a_stopped_lab_is_backed_up_and_an_absent_one_is_named(
    running: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(tmp_path / "b.tar"), "--data", str(tmp_path / "none")]) == 2
    assert "there is no lab in" in capsys.readouterr().err
    restore_backup(running, tmp_path / "lab", quiet)
    assert main(["backup", str(tmp_path / "b.tar"), "--data", str(tmp_path / "lab")]) == 0
    first, second = verify(running, quiet), verify(tmp_path / "b.tar", quiet)
    assert first.tables == second.tables
    assert first.sequences == second.sequences
    assert "warning: suites/mine/gone is registered" in capsys.readouterr().out


def test_a_running_lab_is_used_as_it_is_and_not_stopped(engines: Engines) -> None:
    with opened(engines.data) as lab:
        assert lab.database_url == engines.database_url
        with lab.connect() as session:
            session.execute("SELECT 1")
    assert all(child.alive for child in engines.children)
    assert surroundings(engines.data, "", "").running


def test_a_database_that_cannot_be_reached_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UCURVE_DATABASE_URL", "postgresql+psycopg://ucurve@127.0.0.1:9/ucurve")
    assert main(["backup", str(tmp_path / "lab.tar")]) == 2
    assert "cannot connect to the database" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
