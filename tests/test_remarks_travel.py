"""What the weights of a suite say reaches every reader of a number: from the plan to the export."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from browser_helpers import chart
from conftest import Lab
from playwright.sync_api import Page, expect
from safetensors.torch import load_file, save_file
from sqlalchemy import create_engine, text

import ucurve
from ucurve.cli import main
from ucurve.experiments.study import Study
from ucurve.import_export.report import collect, html
from ucurve.registry.suites import Suite
from ucurve.spec import Verdict

SHARED_LAB = True

TINY = Path(ucurve.__file__).parent / "builtin" / "suites" / "tiny"
SOURCES = {0: 7000, 437: 437, 3500: 3500, 7000: 3500}  # step: whose weights it has
SAME = "step3500 and step7000 have identical weights in different files: not all of them are"
TRAINED = "step0 is not an initialisation: "
FROM_CONFIG = "scale init_std takes sigma from the initialiser of the config instead"


def tried(lab: Lab, name: str) -> Suite:
    """The suite once a worker has tried its models."""
    deadline = time.monotonic() + 120
    while True:
        suite = next(suite for suite in lab.client.suites() if suite.name == name)
        if not any(checkpoint.is_pending for checkpoint in suite.checkpoints):
            return suite
        assert time.monotonic() < deadline, "no worker tries the models"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def suite(lab: Lab, files: Path) -> str:
    """A suite whose last step has the weights of the one before, and whose step 0 is trained."""
    folder = files / "twins"
    for step, source in SOURCES.items():
        (origin,) = TINY.glob(f"seed0-step{source}-*")
        shutil.copytree(origin, folder / f"step{step}")
        weights = folder / f"step{step}" / "model.safetensors"
        save_file(load_file(weights), weights, metadata={"format": "pt", "saved at": str(step)})
    registered = lab.client.add_suite(
        "twins", path=str(folder), tokens_per_step=2048, evaluation="tiny-held-out"
    )
    assert [remark.kind for remark in registered.remarks] == ["same_weights", "initialisation"]
    assert all(any(text in w for w in registered.warnings) for text in (SAME, TRAINED))
    return tried(lab, registered.name).name


@pytest.fixture(scope="module")
def spec(suite: str) -> dict[str, Any]:
    return {"kind": "gaussian_perturbation", "suite": suite, "gammas": [0.2], "draws": 2}


@pytest.fixture(scope="module")
def id(lab: Lab, spec: dict[str, Any]) -> int:
    submitted = lab.client.submit(spec, name="twins under noise")
    assert_said(submitted.remarks)
    assert lab.client.wait(submitted.id, timeout=180).state == "done"
    return submitted.id


def assert_said(words: object) -> None:
    """The remarks about the twins and about step 0 are in these words."""
    for expected in (SAME, TRAINED, FROM_CONFIG):
        assert expected in str(words), f"{expected!r} is missing"


def test_lists_and_the_plan_say_it(
    lab: Lab, spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_said(lab.client.plan(spec).warnings)
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    for command in (["suites", "list"], ["plan", str(path)]):
        assert main(["--url", lab.url, *command]) == 0
        assert_said(capsys.readouterr().out)


def test_verdicts_and_captions_say_it_where_it_matters(lab: Lab, id: int) -> None:
    verdicts: list[Verdict] = lab.client.verdicts(id)
    assert verdicts
    for verdict in verdicts:
        assert SAME in " ".join(verdict.caveats)
        scale = verdict.labels.get("scale")
        assert (TRAINED in " ".join(verdict.caveats)) is (scale != "current_std")
    combined = lab.client.study_verdicts([id])
    assert_said([verdict.caveats for verdict in combined])
    for figure in lab.client.figures(id).values():
        assert_said(figure.caption)


def test_experiment_report_and_provenance_say_it(
    lab: Lab, id: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_said(lab.client.experiment(id).remarks)
    assert_said(lab.client.experiment_provenance(id).remarks)
    page = html(collect(lab.client, [id]))
    for part in ("verdicts", "provenance"):
        assert_said(page.split(f"{part}", 1)[1])
    for command in ("show", "verdicts"):
        assert main(["--url", lab.url, command, str(id)]) == 0
        assert_said(capsys.readouterr().out)
    # No number moves: sigma comes from the config, as for suites without a step 0.
    table = lab.client.rows(id)
    scales = {row.labels["scale"] for row in table}
    assert scales == {None, "current_std", "init_std"}


def test_an_export_says_it(lab: Lab, id: int, tmp_path: Path) -> None:
    folder = str(tmp_path / "export")
    assert main(["--url", lab.url, "export", folder, "--suite", "twins"]) == 0
    (row,) = [
        row
        for row in pq.read_table(tmp_path / "export" / "suites.parquet").to_pylist()
        if row["name"] == "twins"
    ]
    assert_said(row["remarks"])
    assert_said((tmp_path / "export" / "site" / f"experiment-{id}.html").read_text())


def test_the_page_of_an_experiment_says_it(lab: Lab, id: int, page: Page) -> None:
    page.goto(f"/experiment?id={id}")
    remarks = page.locator("summary").filter(has_text="remarks on the weights")
    expect(remarks).to_be_visible(timeout=30_000)
    drawn = chart(page)
    line, figure = remarks.bounding_box(), drawn.bounding_box()
    assert line is not None
    assert figure is not None
    assert line["height"] < 60, "one line, so that the chart is not pushed down"
    assert line["y"] < figure["y"]
    remarks.click()
    for words in (SAME, TRAINED):  # above the chart, then beside the verdicts
        expect(page.get_by_text(words).first).to_be_visible()
        expect(page.get_by_test_id("stAlert").filter(has_text=words)).to_be_visible()
    page.goto("/suites")
    expect(page.get_by_text(SAME).first).to_be_visible(timeout=30_000)


def test_a_worker_completes_what_is_known_of_weights_that_it_has_at_hand(lab: Lab, id: int) -> None:
    """The built-in suites are registered by their hashes alone."""
    tiny = lab.client.submit(
        {
            "kind": "gaussian_perturbation", "suite": "tiny", "gammas": [0.2], "draws": 1,
            "checkpoints": ["seed0-step437-tokens894976"], "scale": "init_std",
        }
    )  # fmt: skip
    assert lab.client.wait(tiny.id, timeout=120).state == "done"
    assert lab.client.experiment(tiny.id).remarks == []
    (checkpoint,) = (
        c for c in lab.client.experiment_provenance(tiny.id).checkpoints if c.step == 437
    )
    query = text("SELECT content FROM weights_contents WHERE weights_sha256 = :sha256")
    engine = create_engine(lab.database_url)
    with engine.connect() as connection:
        content = connection.scalar(query, {"sha256": checkpoint.weights_sha256})
    engine.dispose()
    assert content["files"] == {"model.safetensors": checkpoint.weights_sha256}
    assert "gpt_neox.final_layer_norm.weight" in content["tensors"]


def test_checkpoints_that_a_plan_leaves_out_are_named_in_the_plan_and_in_the_form(
    lab: Lab, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], page: Page
) -> None:
    for revision in ("step437", "last"):
        shutil.copytree(files / "twins" / "step437", files / "copies" / revision)
    lab.client.add_suite(
        "copies", path=str(files / "copies"), tokens_per_step=2048, evaluation="tiny-held-out"
    )
    tried(lab, "copies")
    spec = {
        "kind": "gaussian_perturbation", "suite": "copies", "gammas": [0.2], "draws": 1,
        "checkpoints": ["last", "step437"], "scale": "current_std",
    }  # fmt: skip
    left_out = "left out last (the weights of step437): equal weights are measured once."
    preview = lab.client.plan(spec)
    assert (preview.num_points, f"checkpoints: {left_out}" in preview.warnings) == (2, True)
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    assert main(["--url", lab.url, "plan", str(path)]) == 0
    assert left_out in capsys.readouterr().out
    submitted = lab.client.submit(spec, name="copies")
    assert f"checkpoints: {left_out}" in submitted.warnings
    page.goto(f"/new?clone={submitted.id}")
    expect(page.get_by_text(left_out)).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/experiment?id=*", timeout=30_000)
    expect(page.get_by_text(left_out)).to_be_visible(timeout=30_000)


def test_a_submission_says_what_its_plan_said(
    lab: Lab, suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {
        "kind": "gaussian_perturbation", "suite": suite, "gammas": [0.3], "draws": 1,
        "checkpoints": ["step437", "step437", "step3500"], "by_group": True,
    }  # fmt: skip
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))

    def said(*command: str) -> list[str]:
        assert main(["--url", lab.url, *command]) == 0
        lines = capsys.readouterr().out.splitlines()[1:]
        return [line for line in lines if not line.startswith("Queued: ")]

    planned = said("plan", str(path))
    assert_said(planned)
    assert "checkpoints: named more than once, and measured once: step437." in planned
    assert said("submit", str(path)) == planned
    id = lab.client.experiments(suite=[suite], limit=1).experiments[0].id
    assert said("extend", str(id), "--draws", "1") == planned
    parts = [{"name": f"{n} seeds", "spec": {**spec, "draws": n}} for n in (1, 2)]
    study = {"name": "said", "title": "Said", "experiments": parts}
    answers = lab.client.submit_study(Study.model_validate(study))
    preview = lab.client.plan(spec)
    for answer in answers:
        assert (answer.warnings, answer.plan_notes) == (preview.warnings, preview.notes)
        assert_said(answer.remarks)
    for each in lab.client.experiments(suite=[suite], state=["queued", "running"]).experiments:
        lab.client.cancel(each.id)
