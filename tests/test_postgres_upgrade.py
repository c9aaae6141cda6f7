"""A data folder of an older Postgres: upgraded with every row, the old cluster kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_backup import rows

from ucurve.lab import embedded, launch, postgres_upgrade
from ucurve.lab.data_folder import EmbeddedError
from ucurve.lab.embedded import POSTGRES_VERSION, Engines
from ucurve.lab.installation import connect

pytestmark = pytest.mark.engines
OLD = "16"
START = """
import sys
from pathlib import Path
from ucurve.lab.embedded import Engines

Engines(Path(sys.argv[1])).start()
"""
ROWS = """
    INSERT INTO users (name, role, turn) VALUES ('ada', 'admin', 0.1), ('Zoë', 'viewer', 1e-300);
    INSERT INTO measurements (identity, kind, inputs, source, labels, group_key, seconds,
        requires_device, requires_memory_gb, state, metrics, finished_at)
    SELECT md5(i::text), 'k', '{"a": 0.1}', '{}', '{"suite": "tiny", "tokens": 5}', 'g', 1, 'any',
        0, 'done', '{"loss": 1.2345678901234567}', now() FROM generate_series(1, 500) i;
    INSERT INTO attempts (measurement_id, worker, device, versions, log)
    SELECT id, 'w', 'cpu', '{}', E'two\\nlines \\\\ \\t' FROM measurements"""


@contextmanager
def older_ucurve() -> Iterator[None]:
    """Run engines as a ucurve that shipped an older Postgres did."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "POSTGRES_VERSION", OLD)
        yield


@pytest.fixture(scope="module")
def old_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder made by an older Postgres, with rows in it."""
    data = tmp_path_factory.mktemp("old") / "lab"
    with older_ucurve(), Engines(data) as engines:
        launch.migrate(launch.environment(engines.database_url, engines.broker_url, "", data))
        with connect(engines.database_url) as session:
            session.execute(ROWS.encode())
    assert (data / "postgres" / "PG_VERSION").read_text().strip() == OLD
    return data


@pytest.fixture
def data(old_data: Path, tmp_path: Path) -> Path:
    """A copy for each test; a cluster may be moved."""
    shutil.copytree(old_data, tmp_path / "lab")
    return tmp_path / "lab"


def content(data: Path) -> dict[str, list[str]]:
    with Engines(data) as engines, connect(engines.database_url) as session:
        return rows(session)


def test_an_older_cluster_is_upgraded_row_for_row_and_kept(data: Path) -> None:
    with older_ucurve():
        before = content(data)
    assert len(before["attempts"]) == 500
    messages: list[str] = []
    with Engines(data, report=messages.append) as engines, connect(engines.database_url) as session:
        assert rows(session) == before
        version = session.execute("SHOW server_version").fetchone()
        assert version is not None
        assert version[0].startswith(POSTGRES_VERSION)
        new = session.execute("INSERT INTO tokens (owner, name, sha256) VALUES ('ada', 'a', 'b') "
                              "RETURNING id").fetchone()  # fmt: skip
        assert new == (1,)
    assert [message.split(" ")[0] for message in messages] == ["upgrading", "the"]
    assert str(data / f"postgres-{OLD}") in messages[1]
    (data / "postgres").rename(data / "postgres-new")
    (data / f"postgres-{OLD}").rename(data / "postgres")
    with older_ucurve():  # the old cluster still serves the old ucurve
        assert content(data) == before


def test_a_failed_upgrade_leaves_the_old_cluster_and_can_be_repeated(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # As if one table had lost a row on the way.
        states = iter([1, 2])
        patch.setattr(postgres_upgrade, "digests", lambda session: next(states))
        with pytest.raises(EmbeddedError, match="differs from the old database"):
            Engines(data).start()
    assert (data / "postgres" / "PG_VERSION").read_text().strip() == OLD
    assert not (data / f"postgres-{OLD}").exists()
    assert len(content(data)["measurements"]) == 500


def test_a_killed_upgrade_begins_again_at_the_next_start(data: Path) -> None:
    upgrading = subprocess.Popen([sys.executable, "-c", START, str(data)])
    deadline = time.monotonic() + 60
    while not (data / "postgres.upgrading" / "postmaster.pid").exists():
        assert upgrading.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    upgrading.kill()
    upgrading.wait()
    assert (data / "postgres" / "PG_VERSION").read_text().strip() == OLD
    assert len(content(data)["measurements"]) == 500
    assert not list(data.glob("postgres.*"))


def test_an_upgrade_that_ended_between_its_last_steps_is_finished_by_the_next_start(
    data: Path,
) -> None:
    before = content(data)
    (data / "postgres").rename(data / "postgres.upgraded")
    assert content(data) == before
    assert (data / "postgres" / "PG_VERSION").read_text().strip() == POSTGRES_VERSION


@pytest.mark.parametrize(
    ("version", "remedy"),
    [("19", "install the newer ucurve"), ("9", "no programs of Postgres 9 here: install them")],
)
def test_a_version_without_programs_is_refused_and_not_touched(
    version: str, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text(f"{version}\n")
    with pytest.raises(EmbeddedError, match=remedy):
        Engines(tmp_path).start()
    assert (tmp_path / "postgres" / "PG_VERSION").read_text() == f"{version}\n"


def test_an_upgrade_without_room_says_how_much_it_needs(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(data)._replace(free=5)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(EmbeddedError, match=r"needs [\d.]+ MB in .* which has 5 bytes free"):
        Engines(data).start()
