"""The commands explain, measure, agreement, edit, extend and delete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Lab
from test_cli import Shell

from ucurve.spec import Point

SHARED_LAB = True

SPEC = {
    "kind": "gaussian_perturbation",
    "suite": "tiny",
    "gammas": [0.1],
    "draws": 1,
    "scale": "current_std",
    "checkpoints": {"log_spaced": 2},
}


@pytest.fixture
def ucurve(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, lab.url)


@pytest.fixture(scope="module")
def experiment(lab: Lab) -> int:
    """A small one on real weights, done."""
    made = lab.client.submit(SPEC, name="first")
    assert lab.client.wait(made.id, timeout=120).state == "done"
    return made.id


def test_a_point_file_is_reproduced_without_the_lab(
    ucurve: Shell, lab: Lab, experiment: int, tmp_path: Path
) -> None:
    row = next(row for row in lab.client.rows(experiment) if row.labels["gamma"])
    _, told, _ = ucurve("explain", str(row.id))
    for part in (
        row.identity,
        '"gamma": 0.1',
        "worker-1",
        "torch",
        f"ucurve --url {lab.url} measure {row.id}",
        "experiment",
    ):
        assert part in told
    explained = [ucurve("explain", str(row.id))[1] for row in lab.client.rows(experiment)]
    assert any(
        "end of its log (UTC):" in one and "worker.context: made " in one for one in explained
    )
    file = tmp_path / "point.json"
    assert ucurve("explain", str(row.id), "-o", str(file))[0] == 0
    elsewhere = Shell(ucurve.capsys, "http://127.0.0.1:9")  # nobody answers there
    status, told, err = elsewhere("measure", str(file), "--artefacts", str(tmp_path / "empty"))
    assert (status, err) == (0, "")
    assert "bitwise identical" in told
    assert repr(row.metrics["nll_mean"]) in told
    point = json.loads(file.read_text())
    assert Point(point["inputs"], {}).identity == point["identity"] == row.identity
    point["recorded"]["metrics"]["nll_mean"] *= 1 + 1e-6
    file.write_text(json.dumps(point))
    assert (
        "largest relative difference: 1e-06"
        in elsewhere("measure", str(file), "--artefacts", str(tmp_path / "empty"))[1]
    )
    point["inputs"]["perturbation"]["gamma"] = 0.2
    file.write_text(json.dumps(point))
    status, _, err = elsewhere("measure", str(file))
    assert (status, "the file was modified" in err, err.count("\n")) == (1, True, 1)
    file.write_text("{}")
    assert elsewhere("measure", str(file))[0] == 2


def test_re_measuring_on_the_same_machine_is_bit_identical(
    ucurve: Shell, lab: Lab, experiment: int, tmp_path: Path
) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    status, told, _ = ucurve(
        "submit", str(tmp_path / "spec.json"), "--fresh", "--name", "again", "--wait"
    )
    assert (status, " cached" in told) == (0, False)
    again = lab.client.experiments(limit=1).experiments[0]
    assert again.fresh
    total = again.progress.total
    status, told, _ = ucurve("agreement", str(again.id))
    assert f"{total} of {total} evaluations are bitwise identical" in told
    assert "original on worker-1" in told
    assert "did not re-measure any points" in ucurve("agreement", str(experiment))[1]
    row = lab.client.rows(again.id)[0]
    assert "re-measured (repeat 1)" in ucurve("explain", str(row.id))[1]


def test_edit_extend_and_delete_from_the_command_line(
    ucurve: Shell, lab: Lab, experiment: int
) -> None:
    status, told, _ = ucurve("extend", str(experiment), "--set", "gammas=[0.1,0.2]", "--wait")
    assert (status, " cached" in told) == (0, True)
    made = str(lab.client.experiments(limit=1).experiments[0].id)
    assert (
        "[a b]: priority 2, starred"
        in ucurve("edit", made, "--tag", "a", "--tag", "b", "--priority", "2", "--star")[1]
    )
    assert lab.client.experiment(int(made)).starred
    assert ucurve("edit", made)[0] == 2
    status, _, err = ucurve("edit", made, "--webhook", "chat")
    assert (status, err.startswith("ucurve: --webhook: ")) == (2, True)
    status, _, err = ucurve("table", made, "--at", "noon")
    assert (status, err.startswith("ucurve: --at: ")) == (2, True)
    assert "open" in ucurve("table", made, "--at", "2020-01-01")[1]
    assert "its measurements stay" in ucurve("delete", made)[1]
    assert ucurve("show", made)[0] == 2
