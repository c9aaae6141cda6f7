"""Invalid input gets the same plain message over REST, command line and form."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Lab
from pydantic import ValidationError

from dashboard.forms.fields import fields
from dashboard.forms.schema_form import entries, problems_by_field
from ucurve.cli import main
from ucurve.experiments import kinds
from ucurve.schemas.validation_messages import field_messages, suggest

SHARED_LAB = True
PERTURB = "gaussian_perturbation"
RAW = re.compile(
    r"Input should|Extra inputs|List should|String should|Value error|validation|pydantic"
    r"|\btype=|Traceback"
)

# What is sent as a spec of the kind, its field, and what is said of it
SPECS: list[tuple[dict[str, Any], str, str]] = [
    ({"gammas": []}, "/gammas", "Is empty: give at least 1 value."),
    (
        {"gammas": [0.1, -1]},
        "/gammas/1",
        "Must be a number greater than 0 and at most 100, not -1.",
    ),
    ({"gammas": "0.1"}, "/gammas", "Must be a list of numbers, not “0.1”."),
    ({"gammas": [0.1] * 33}, "/gammas", "Give at most 32 values, not 33."),
    ({"draws": 0}, "/draws", "Must be a whole number from 1 to 1000, not 0."),
    ({"draws": "many"}, "/draws", "Must be a whole number from 1 to 1000, not “many”."),
    ({"draws": 1.5}, "/draws", "Must be a whole number from 1 to 1000, not 1.5."),
    ({"draws": None}, "/draws", "Must be a whole number from 1 to 1000, not null."),
    ({"scale": "curent_std"}, "/scale", "“curent_std”. Did you mean current_std?"),
    (
        {"checkpoints": 3},
        "/checkpoints",
        'Must be "all", an object like {"log_spaced": ...} or a list of texts, not 3.',
    ),
    (
        {"checkpoints": {"log_spaced": 1}},
        "/checkpoints/log_spaced",
        "Must be a whole number from 2 to 1000, not 1.",
    ),
    (
        {"checkpoints": {"log_space": 3}},
        "/checkpoints/log_space",
        "There is no field “log_space”. Did you mean log_spaced?",
    ),
    ({"checkpoints": ["step1", 2]}, "/checkpoints/1", "Must be text, not 2."),
    ({"gama": [1]}, "/gama", "There is no field “gama”. Did you mean gammas?"),
    (
        {"noise_scale": "both"},
        "/noise_scale",
        "There is no field “noise_scale”. Did you mean scale or noise_seeds?",
    ),
    (
        {"xyzzy": 1},
        "/xyzzy",
        "There is no field “xyzzy”. There are: by_group, by_layer, checkpoints,",
    ),
    (
        {"stride": 9, "window": 8},
        "",
        "Stride must not be larger than window, or tokens between windows would be skipped.",
    ),
]


@pytest.fixture(scope="module")
def http(lab: Lab) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{lab.url}/v1", timeout=30) as client:
        yield client


def told(answer: httpx.Response, status: int = 422) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    assert not RAW.search(answer.text), answer.text
    return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}


def typed(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    *command: str,
) -> str:
    """What the command line says to a file with this text."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["--url", lab.url, *(command or ("submit", "-"))]) == 2
    said = capsys.readouterr().err
    assert not RAW.search(said), said
    return said


@pytest.mark.parametrize(
    ("given", "pointer", "message"), SPECS, ids=lambda value: json.dumps(value)[:30]
)
def test_an_invalid_field_gets_the_same_message_over_rest_client_and_command_line(
    given: dict[str, Any],
    pointer: str,
    message: str,
    http: httpx.Client,
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = {"kind": PERTURB, **given}
    found = told(http.post("/experiments", json={"spec": spec}))
    assert list(found) == [f"/spec{pointer}"]
    assert message in found[f"/spec{pointer}"]
    assert message in typed(lab, monkeypatch, capsys, json.dumps(spec))
    with pytest.raises(ValidationError) as caught:
        kinds()[PERTURB].model_validate(given)
    wrong = field_messages(caught.value.errors(), kinds()[PERTURB].model_json_schema())
    form = fields(kinds()[PERTURB])
    chosen = {
        key: value
        for key, value in given.items()
        if key == "checkpoints" and isinstance(value, dict | list)
    }
    beside = problems_by_field(form, entries(form, chosen), wrong)
    assert message.removeprefix("Must be").removeprefix("Is") in " ".join(beside.values())


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            {"kind": "linear_model", "draws": 3},
            {"/spec": "Is missing", "/kind": 'inside "spec"', "/draws": 'inside "spec"'},
        ),
        ({"spec": {"kind": "linear_model", "tags": []}}, {"/spec/tags": 'beside "spec"'}),
        ({"spec": {"kind": "linear_model"}, "nmae": "x"}, {"/nmae": "Did you mean name?"}),
        (
            {"spec": {"kind": "gausian"}},
            {"/spec/kind": "Did you mean gaussian_perturbation? The kinds are:"},
        ),
        ({"spec": {}}, {"/spec/kind": "Is missing. The kinds are:"}),
        ({"spec": []}, {"/spec": "Must be an object such as"}),
        ([], {"": "Must be an object like"}),
        (
            {
                "priority": 99,
                "name": "x" * 201,
                "spec": {"kind": "linear_model", "draws": 1, "drows": 2, "width": "wide"},
            },
            {
                "/priority": "from -10 to 10",
                "/name": "at most 200 characters",
                "/spec/draws": "from 2",
                "/spec/drows": "draws?",
            }
            | {"/spec/width": "from 2 to 64, not “wide”"},
        ),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_all_invalid_fields_are_reported_at_once(
    body: Any, found: dict[str, str], http: httpx.Client
) -> None:
    said = told(http.post("/plan", json=body))
    assert set(said) == set(found)
    assert all(words in said[pointer] for pointer, words in found.items()), said


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (
            b'{"spec":\n {"kind": "linear_model",}}',
            "application/json",
            "line 2, column 26: names are in double quotes",
        ),
        (
            b'{"spec": {"kind": linear_model}}',
            "application/json",
            "line 1, column 19: a value is missing there, or a text is not quoted",
        ),
        (
            b'{"spec": {"kind": "linear_model"}',
            "application/json",
            "line 1, column 34: a comma is missing",
        ),
        (
            b'{"spec": {"kind": "linear_model"}}',
            "text/plain",
            "the content type text/plain: send JSON",
        ),
        (b"", "application/json", "The body is missing: send JSON"),
        (b"\xff", "application/json", "send JSON in UTF-8"),
    ],
)
def test_a_body_that_is_not_json_is_rejected_with_the_position(
    content: bytes, kind: str, said: str, http: httpx.Client
) -> None:
    answer = http.post("/plan", content=content, headers={"Content-Type": kind})
    assert said in told(answer).get("", answer.json()["detail"])


def test_query_and_path_parameters_get_the_same_messages(http: httpx.Client) -> None:
    assert told(http.get("/experiments", params={"limit": 0})) == {
        "/limit": "Must be a number from 1 up, not “0”."
    }
    assert told(http.get("/experiments/abc")) == {"/id": "Must be a whole number, not “abc”."}
    assert "or" in told(http.get("/experiments", params={"state": "over"}))["/state/0"]


def test_the_command_line_prints_a_line_per_field_without_quoting_the_file(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = typed(
        lab, monkeypatch, capsys, '{"kind": "linear_model", "draws": 1, "drows": 2}'
    ).splitlines()
    assert [line.removeprefix("ucurve: ").split(":")[0] for line in lines] == ["draws", "drows"]
    assert "line 1, column 1" in typed(lab, monkeypatch, capsys, "secret=hunter2")
    assert 'inside "spec"' in typed(
        lab, monkeypatch, capsys, '{"spec": {"kind": "linear_model"}, "draws": 3}', "plan", "-"
    )
    assert "a name of letters" in typed(
        lab, monkeypatch, capsys, "", "suites", "add", "a b", "--path", str(tmp_path)
    )
    assert "experiments: Is missing" in typed(
        lab, monkeypatch, capsys, '{"name": "x"}', "study", "submit", "-"
    )
    (tmp_path / "secret.tsv").write_text("hunter2\thunter3\n" * 2)
    said = typed(
        lab,
        monkeypatch,
        capsys,
        "",
        "datasets",
        "add",
        "x",
        *(f"--{s}={tmp_path}/secret.tsv" for s in ("train", "validation")),
    )
    assert "neither sentence and label" in said
    assert "hunter" not in said
    assert main(["--url", "foo", "list"]) == 1
    assert "invalid URL 'foo': use one such as http://" in capsys.readouterr().err


def test_similar_names_are_suggested_and_others_listed() -> None:
    known = ["tiny", "tiny-constant", "pythia-70m"]
    assert suggest("tinny", known).startswith("Did you mean tiny")
    assert suggest("pythia", known) == "Did you mean pythia-70m?"
    assert suggest("olmo", known) == "There are: pythia-70m, tiny, tiny-constant."
    assert suggest("x", []) == ""
