"""The command line and the client against a running lab."""

from __future__ import annotations

import csv
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from ports import free_port
from test_suites import write_model

from ucurve import __version__, code_version
from ucurve.cli import main
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError

SHARED_LAB = True

SMALL = {"kind": "linear_model", "num_features": 6, "width": 8, "draws": 4, "targets": 2}


class Shell:
    """Runs commands; returns (exit status, standard output, standard error)."""

    def __init__(self, capsys: pytest.CaptureFixture[str], url: str) -> None:
        self.capsys = capsys
        self.url = url

    def __call__(self, *words: str) -> tuple[int, str, str]:
        try:
            status = main(["--url", self.url, *words])
        except SystemExit as exit:
            status = int(exit.code or 0)
        output = self.capsys.readouterr()
        return status, output.out, output.err


@pytest.fixture
def ucurve(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, lab.url)


@pytest.fixture(scope="module")
def finished(lab: Lab) -> int:
    """A small finished experiment."""
    experiment = lab.client.submit(SMALL, name="small", tags=["test"])
    assert lab.client.wait(experiment.id, timeout=120).state == "done"
    return experiment.id


def written(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_submit_waits_and_reports_the_final_state(ucurve: Shell, tmp_path: Path) -> None:
    spec = written(tmp_path / "spec.json", {**SMALL, "seed": 1})
    status, out, _ = ucurve(
        "submit", spec, "--wait", "--name", "by hand", "--tag", "a", "--tag", "b"
    )
    assert status == 0
    assert "is done: " in out
    assert ", 0 failed" in out
    status, out, _ = ucurve("list")
    assert status == 0
    assert "by hand" in out
    assert "a b" in out


def test_a_submission_can_come_from_standard_input(
    ucurve: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sys.stdin", io.StringIO(json.dumps({"name": "piped", "spec": {**SMALL, "seed": 2}}))
    )
    status, out, _ = ucurve("submit", "-")
    assert (status, "(piped)" in out) == (0, True)


def test_the_table_is_the_same_as_csv_json_and_frame(
    ucurve: Shell, lab: Lab, finished: int
) -> None:
    frame = lab.client.table(finished)
    _, out, _ = ucurve("table", str(finished), "--format", "csv")
    by_csv = {
        int(row["measurement"]): float(row["mse_mean"])
        for row in csv.DictReader(io.StringIO(out))
        if row["mse_mean"]
    }
    _, out, _ = ucurve("table", str(finished), "--format", "json")
    by_json = {
        row["id"]: row["metrics"]["mse_mean"]
        for row in json.loads(out)
        if "mse_mean" in row["metrics"]
    }
    measured = frame[frame["mse_mean"].notna()]
    assert len(measured) > 0
    assert (
        by_csv == by_json == dict(zip(measured["measurement"], measured["mse_mean"], strict=True))
    )


@pytest.mark.parametrize(
    ("form", "start"),
    [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("csv", b"dataset,")],
)
def test_figures_are_written_in_every_format(
    ucurve: Shell, finished: int, tmp_path: Path, form: str, start: bytes
) -> None:
    status, out, _ = ucurve(
        "figures", str(finished), "-o", str(tmp_path / "new folder"), "--format", form
    )
    files = [Path(line) for line in out.splitlines()]
    assert status == 0
    assert {path.parent for path in files} == {tmp_path / "new folder"}
    assert all(path.read_bytes().startswith(start) and path.suffix == f".{form}" for path in files)


def test_show_verdicts_and_lists_print_their_contents(ucurve: Shell, finished: int) -> None:
    assert "linear_model" in ucurve("show", str(finished))[1]
    assert "closed form" in ucurve("verdicts", str(finished))[1]
    overall = ucurve("verdicts", str(finished))[1]
    listed = ucurve("verdicts", str(finished), "--all")[1]
    assert listed.count("\n") > overall.count("\n") - overall.count("(use --all to list)")
    assert "worker-1" in ucurve("workers")[1]
    assert ucurve("suites", "list")[0] == 0
    assert "tiny-held-out" in ucurve("datasets", "list")[1]
    assert ucurve("version")[1].startswith("ucurve 0.")


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_version_and_code_hash_are_printed(ucurve: Shell, words: list[str]) -> None:
    assert ucurve(*words) == (0, f"ucurve {__version__} (code {code_version()})\n", "")


@pytest.mark.parametrize("command", ["figures", "compare"])
def test_figures_are_written_only_where_requested(
    ucurve: Shell, finished: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = ucurve(command, str(finished))
    assert status == 0
    assert "use -o DIR to write the figures" in out
    assert list(tmp_path.iterdir()) == []
    assert ucurve(command, str(finished), "-o", "figures")[0] == 0
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg"}


@pytest.mark.parametrize("digits", ["²", "+-5", "2_0", "0", "x"])
def test_numbers_that_are_not_positive_integers_are_rejected(ucurve: Shell, digits: str) -> None:
    status, _, err = ucurve("list", f"--limit={digits}")
    assert (status, "is not a positive integer" in err) == (2, True)


def test_an_experiment_is_paused_resumed_and_cancelled(ucurve: Shell, lab: Lab) -> None:
    id = str(lab.client.submit({"kind": "linear_model", "draws": 1000, "seed": 4}).id)
    assert "is paused" in ucurve("pause", id)[1]
    assert lab.client.experiment(int(id)).state == "paused"
    assert ucurve("resume", id)[0] == 0
    assert lab.client.experiment(int(id)).state in ("queued", "running")
    assert "is cancelled" in ucurve("cancel", id)[1]
    status, _, err = ucurve("resume", id)
    assert status == 1
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('{"kind": ', "line 1, column 10"),
        ("[1, 2]", '{"kind": "linear_model"}'),
        ({"kind": "astrology"}, "linear_model"),
        ({"kind": "linear_model", "draws": "many"}, "draws: "),
        ({"kind": "linear_model", "fixed_gammas": [0.1, -1]}, "fixed_gammas[1]: "),
        ({"kind": "linear_model", "magic": 1}, "magic: "),
        ({"name": "x" * 300, "spec": {"kind": "linear_model"}}, "name: "),
        (
            {"kind": "gaussian_perturbation", "exclude": ["*bias", "*embed_ot*"]},
            "exclude[1]: '*embed_ot*' matches none of the 28 tensors of 'tiny'. The nearest names "
            "are embed_out.weight",
        ),
    ],
)
def test_an_invalid_spec_is_rejected_in_one_line_that_names_the_field(
    ucurve: Shell, lab: Lab, tmp_path: Path, content: Any, names: str
) -> None:
    before = lab.client.experiments(limit=1).total
    status, out, err = ucurve("submit", written(tmp_path / "spec.json", content))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert names in err
    assert lab.client.experiments(limit=1).total == before


def test_missing_files_and_experiments_are_named(ucurve: Shell, tmp_path: Path) -> None:
    status, _, err = ucurve("submit", str(tmp_path / "nothing.json"))
    assert (status, "nothing.json: No such file" in err) == (2, True)
    status, _, err = ucurve("show", "123456")
    assert (status, "123456" in err) == (2, True)
    status, _, err = ucurve("suites", "add", "mine", "--path", str(tmp_path / "nowhere"))
    assert (status, "path" in err) == (2, True)
    status, _, err = ucurve("datasets", "add", "mine", "--text", str(tmp_path / "nowhere.txt"))
    assert (status, "text" in err) == (2, True)


def test_a_text_file_is_registered_as_a_dataset(ucurve: Shell, tmp_path: Path) -> None:
    text = written(tmp_path / "novel.txt", "Call me Ishmael. " * 100)
    status, out, _ = ucurve("datasets", "add", "novel", "--text", text)
    assert status == 0
    assert "novel" in out
    assert "novel" in ucurve("datasets", "list")[1]


def test_a_suite_is_shown_corrected_and_then_registered(ucurve: Shell, tmp_path: Path) -> None:
    for seed, name in enumerate(("step2000", "sft-step100", "odd")):
        write_model(tmp_path / "models" / name, seed)
    source = ("suites", "add", "corrected", "--path", str(tmp_path / "models"))
    ranges = ("--tokens-per-step", "0:10,1000:20")
    status, out, err = ucurve(*source, *ranges, "--dry-run")
    assert status == 0, err
    assert "step: step2000" in out
    assert "30,000" in out
    assert "sft" in out
    assert "sft-step100: trained after pre-training" in err
    table = tmp_path / "positions.csv"
    assert ucurve(*source, *ranges, "--save-positions", str(table))[0] == 0
    assert "corrected" not in ucurve("suites", "list")[1]
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["revision"] for row in rows] == ["step2000", "odd", "sft-step100"]
    table.write_text("revision,tokens\nodd,lots\n")
    status, _, err = ucurve(*source, "--positions", str(table))
    assert (status, "line 2, column tokens: 'lots'" in err) == (2, True)
    table.write_text("revision,tokens\nodd,40000\n")
    status, out, err = ucurve(*source, *ranges, "--positions", str(table))
    assert status == 0, err
    assert "table of positions" in out
    assert "suite corrected: 3 checkpoints" in out
    status, _, err = ucurve(*source, "--tokens-per-step", "1000:5")
    assert (status, "from step 0 on" in err) == (2, True)
    status, _, err = ucurve(*source, "--positions", str(tmp_path / "none.csv"))
    assert (status, "--positions: cannot read" in err) == (2, True)


def test_without_a_lab_the_error_says_how_to_start_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, err = Shell(capsys, f"http://127.0.0.1:{free_port()}")("list")
    assert (status, err.count("\n")) == (1, 1)
    assert "ucurve up" in err
    assert "--url" in err


def test_a_wait_survives_the_restart_of_the_api(lab: Lab) -> None:
    experiment = lab.client.submit({**SMALL, "seed": 5})
    states: list[str] = []
    waiting = threading.Thread(
        target=lambda: states.append(lab.client.wait(experiment.id, timeout=120).state)
    )
    lab.children["api"].kill()
    waiting.start()
    lab.start_api()
    waiting.join(120)
    assert states == ["done"]


def test_a_rejected_request_keeps_the_fields_of_the_api(lab: Lab) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        lab.client.submit({"kind": "linear_model", "draws": 0, "width": -1})
    assert refused.value.status == 422
    assert {problem.pointer for problem in refused.value.problem.errors} == {
        "/spec/draws",
        "/spec/width",
    }


@pytest.fixture
def hang_up() -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads each request and closes the connection."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    received.append(connection.recv(100_000))

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", received


def test_reads_and_submissions_are_repeated_a_submission_with_one_key(
    hang_up: tuple[str, list[bytes]],
) -> None:
    url, received = hang_up
    with Client(url, retries=(0.01, 0.01, 0.01)) as client:
        with pytest.raises(ApiUnavailableError, match="whether the request arrived"):
            client.submit(SMALL)
        keys = {
            line
            for text in received
            for line in text.splitlines()
            if line.startswith(b"Idempotency-Key:")
        }
        assert (len(received), len(keys)) == (4, 1)
        with pytest.raises(ApiUnavailableError, match="ucurve up"):
            client.experiment(1)
        assert len(received) == 8
