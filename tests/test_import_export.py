"""Export and import between two real databases: complete, idempotent, nothing overwritten."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from conftest import Lab, execute
from playwright.sync_api import Browser
from ports import free_port

from ucurve.cli import main
from ucurve.client import Client
from ucurve.lab.embedded import Engines

NOISE = {
    "kind": "gaussian_perturbation",
    "checkpoints": ["seed0-step437-tokens894976", "seed0-step7000-tokens14336000"],
    "gammas": [0.2],
    "scale": "init_std",
    "draws": 2,
}
LINEAR = {"kind": "linear_model", "num_features": 6, "width": 8, "draws": 3, "targets": 2}


@pytest.fixture(scope="module")
def ids(lab: Lab) -> list[int]:
    made = [
        lab.client.submit(
            NOISE, name="noise </script> on tiny", tags=["shared"], notes="Why & what"
        ),
        lab.client.submit(LINEAR, name="linear"),
    ]
    assert all(lab.client.wait(one.id, timeout=120).state == "done" for one in made)
    return [one.id for one in made]


@pytest.fixture(scope="module")
def exported(lab: Lab, ids: list[int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "all"
    assert main(["--url", lab.url, "export", str(folder), "--origin", "lab A"]) == 0
    return folder


@pytest.fixture(scope="module")
def other(
    engines: Engines, template: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """Another team's lab: its own database and API, and no worker."""
    execute(engines, f"CREATE DATABASE other_team TEMPLATE {template}")
    running = Lab(
        engines.database_url_of("other_team"), broker_url, tmp_path_factory.mktemp("other")
    )
    try:
        running.start_api(UCURVE_OWNER="bob")
        yield running
    finally:
        running.stop()
        execute(engines, "DROP DATABASE other_team WITH (FORCE)")


def imported(lab: Lab, folder: Path) -> int:
    return main(["--url", lab.url, "import", str(folder)])


def contents(client: Client) -> dict[str, Any]:
    """Everything that an import may have changed."""
    names = (
        "experiments",
        "points",
        "measurements",
        "attempts",
        "suites",
        "checkpoints",
        "datasets",
        "reference_curves",
    )
    return {name: [row for page in client.export_pages(name) for row in page] for name in names}


def test_another_lab_shows_the_same_tables_figures_and_verdicts(
    lab: Lab, other: Lab, ids: list[int], exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(other, exported) == 0
    assert "2 new, 0 existing" in capsys.readouterr().out
    theirs = {one.name: one for one in other.client.experiments().experiments}
    for id in ids:
        mine = lab.client.experiment(id)
        here = theirs[mine.name]
        assert (here.state, here.owner, here.progress.total) == ("done", "bob", mine.progress.total)
        assert here.created_at == mine.created_at
        assert "imported" in here.tags
        assert f"Imported from lab A, where it is experiment {id} of {mine.owner}." in here.notes
        places = ["measurement"]  # the numbers of rows are a lab's own
        assert (
            lab.client.table(id)
            .drop(columns=[*places, "reused"])
            .equals(other.client.table(here.id).drop(columns=[*places, "reused"]))
        )
        drawn, again = (
            {
                name: without(figure.datasets, "measurement")
                for name, figure in client.figures(number).items()
            }
            for client, number in ((lab.client, id), (other.client, here.id))
        )
        assert drawn == again
        assert [v.sentence for v in lab.client.verdicts(id)] == [
            v.sentence for v in other.client.verdicts(here.id)
        ]
    [attempt] = other.client.provenance(other.client.rows(here.id)[0].id).attempts
    [original] = lab.client.provenance(lab.client.rows(id)[0].id).attempts
    assert (attempt.worker, attempt.device, attempt.versions) == (
        original.worker,
        original.device,
        original.versions,
    )
    assert (attempt.started_at, attempt.finished_at) == (original.started_at, original.finished_at)
    assert {row["origin"] for row in contents(other.client)["attempts"]} == {"lab A"}


def without(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: without(item, name) for key, item in value.items() if key != name}
    return [without(item, name) for item in value] if isinstance(value, list) else value


def test_a_second_import_reports_that_nothing_changed(
    lab: Lab, other: Lab, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(other, exported)
    for where in (other, lab):  # the lab that it came from knows it all, too
        before = contents(where.client)
        capsys.readouterr()
        assert imported(where, exported) == 0
        assert "nothing changed" in capsys.readouterr().out
        assert contents(where.client) == before


def test_imported_results_are_cached_for_the_same_grid(other: Lab, exported: Path) -> None:
    imported(other, exported)
    preview = other.client.plan(NOISE)
    assert (preview.num_points, preview.num_existing) == (6, 6)


def rewritten(exported: Path, folder: Path, table: str, change: Any) -> Path:
    """The export with one table's rows changed, and a manifest that agrees with it."""
    from ucurve.import_export.parquet import read_table, write_table
    from ucurve.registry.artifacts import file_sha256

    shutil.copytree(exported, folder)
    rows = list(read_table(exported, table))
    change(rows)
    for row in rows:
        row.update(
            {name: str(value) for name, value in row.items() if name.endswith("_at") and value}
        )
    write_table(folder, table, [rows])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][f"{table}.parquet"] = {
        "sha256": file_sha256(folder / f"{table}.parquet"),
        "rows": len(rows),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_an_export_of_an_earlier_release_is_imported_without_the_columns_that_it_lacks(
    other: Lab, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ucurve.registry.artifacts import file_sha256

    folder = tmp_path / "earlier"
    shutil.copytree(exported, folder)
    later = ["words", "training_phase", "replicate_name", "position_source"]
    path = folder / "checkpoints.parquet"
    pq.write_table(pq.read_table(path).drop_columns(later), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.name]["sha256"] = file_sha256(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert imported(other, folder) == 0, capsys.readouterr().err


def test_a_measurement_of_both_labs_keeps_our_value_and_gains_an_attempt(
    other: Lab, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(other, exported)
    ours = other.client.rows(other.client.experiments(text="linear").experiments[0].id)[0]

    def measured_elsewhere(attempts: list[dict[str, Any]]) -> None:
        for one in attempts:
            one["worker"] = "another machine"
            one["metrics"] = {name: value + 0.25 for name, value in one["metrics"].items()}

    folder = rewritten(exported, tmp_path / "elsewhere", "attempts", measured_elsewhere)
    capsys.readouterr()
    assert imported(other, folder) == 0
    said = capsys.readouterr().out
    total = sum(one.progress.total for one in other.client.experiments().experiments)
    assert f"0 new, 0 completed, {total} with an additional attempt" in said
    assert f"measured in both labs: {total}, 0 bitwise identical" in said
    assert "mse: largest difference 0.25" in said
    found = other.client.provenance(ours.id)
    assert [attempt.worker for attempt in found.attempts][-1] == "another machine"
    assert len(found.attempts) == 2
    [after] = [row for row in other.client.rows(found.experiments[0]) if row.id == ours.id]
    assert (after.metrics, after.attempt) == (ours.metrics, ours.attempt)


def test_a_row_with_a_wrong_identity_is_rejected_before_anything_is_sent(
    other: Lab, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tampered(rows: list[dict[str, Any]]) -> None:
        rows[4]["inputs"] = rows[4]["inputs"].replace("{", '{"gamma": 7, ', 1)

    folder = rewritten(exported, tmp_path / "tampered", "measurements", tampered)
    before = contents(other.client)
    assert imported(other, folder) == 2
    [line] = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "measurements.parquet, row 5: the identity is not the SHA-256 of the inputs" in line
    assert contents(other.client) == before
    row = {
        **before["measurements"][0],
        "identity": hashlib.sha256(b"{}").hexdigest(),
        "attempts": [],
    }
    del row["id"], row["metrics"], row["nonfinite"], row["attempt"]
    row |= {name: json.loads(row[name]) for name in ("inputs", "source", "labels")}
    answer = httpx.post(
        f"{other.url}/v1/import/measurements", json={"origin": "lab X", "measurements": [row]}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/measurements/0"


def test_a_truncated_or_changed_file_is_named(
    other: Lab, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(exported, folder)
    path = folder / "attempts.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert imported(other, folder) == 2
    assert "attempts.parquet does not match manifest.json" in capsys.readouterr().err
    assert imported(other, tmp_path) == 2
    assert "has no manifest.json" in capsys.readouterr().err


def test_a_name_with_other_contents_here_is_not_overwritten(
    other: Lab, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_weights(rows: list[dict[str, Any]]) -> None:
        of_tiny = next(row for row in rows if row["suite"] == "tiny")
        of_tiny["weights_sha256"] = "0" * 64

    def new_name(rows: list[dict[str, Any]]) -> None:
        rows.append({**rows[0], "name": "theirs", "owner": "alice"})

    folder = rewritten(exported, tmp_path / "a", "checkpoints", other_weights)
    folder = rewritten(folder, tmp_path / "b", "suites", new_name)
    before = {suite.name: suite for suite in other.client.suites()}
    assert imported(other, folder) == 0
    said = capsys.readouterr().out
    assert "added: suite theirs" in said
    assert "not imported, the same name has other contents here: suite tiny" in said
    after = {suite.name: suite for suite in other.client.suites()}
    assert {name: after[name] for name in before} == before
    assert "Imported from lab A." in after["theirs"].description


def test_an_export_is_complete_or_absent_and_replaces_only_with_force(
    lab: Lab, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (exported / "manifest.json").read_bytes()
    assert main(["--url", lab.url, "export", str(exported)]) == 2
    assert "--force" in capsys.readouterr().err
    assert (exported / "manifest.json").read_bytes() == before
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["--url", lab.url, "export", str(tmp_path), "--force"]) == 2
    assert "is not an export" in capsys.readouterr().err
    part = tmp_path / "part"
    assert main(["--url", lab.url, "export", str(part), "--tag", "shared", "--no-site"]) == 0
    assert (
        main(["--url", lab.url, "export", str(part), "--tag", "shared", "--no-site", "--force"])
        == 0
    )
    rows = {
        name.removesuffix(".parquet"): f["rows"]
        for name, f in json.loads((part / "manifest.json").read_text())["files"].items()
    }
    assert (rows["experiments"], rows["measurements"], rows["suites"]) == (1, 6, 1)
    assert main(["--url", f"http://127.0.0.1:{free_port()}", "export", str(tmp_path / "none")]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part", "thesis.txt"]


def test_the_site_works_from_disk_without_network(
    browser: Browser, exported: Path, ids: list[int]
) -> None:
    asked: list[str] = []
    said: list[str] = []
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((exported / "index.html").as_uri())
    rows = page.locator("#experiments tbody tr:visible")
    assert rows.count() == 2
    page.fill("#search", "linear")
    assert rows.count() == 1
    page.fill("#search", "noise tiny")
    page.click("#experiments a:visible")
    page.wait_for_selector(".live svg.marks")
    titles = page.locator("figure h3").all_inner_texts()
    page.wait_for_function(f"document.querySelectorAll('.live svg.marks').length == {len(titles)}")
    assert len(titles) >= 5
    assert page.locator(".live svg.marks path").count() > 50
    text = page.inner_text("main")
    assert "noise </script> on tiny" in text
    assert "SHA-256 of the weights" in text
    assert page.locator(".verdict").count() > 0
    page.click("text=All 6 measurements")
    assert page.locator(".rows tbody tr").count() == 6
    page.click("text=All experiments of lab A")
    assert page.locator("#experiments").is_visible()
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(exported.as_uri())] == []
