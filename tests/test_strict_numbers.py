"""Numbers in specs and request bodies are JSON numbers: "2_0", ["1_0"], true and "5" fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import TypeAdapter, ValidationError

from ucurve.experiments import kinds, parse, study, union
from ucurve.registry.artifacts import BUILTIN
from ucurve.schemas.catalogue import SuiteSubmission
from ucurve.schemas.experiments import Edit, Extension, Submission
from ucurve.schemas.users import TokenSubmission, UserChange
from ucurve.schemas.validation_messages import field_messages, lines

NOT_WHOLE_NUMBERS: list[Any] = ["2_0", ["1_0"], True, "5", 5.0, 5.5, "1e3"]
NOT_NUMBERS: list[Any] = ["2_0", ["1_0"], True, "0.1", float("inf"), float("nan")]
# As the version of 2026-11 stored them: its every field written out, whole floats as 1.0 or 1.
STORED: list[dict[str, Any]] = [
    {
        "kind": "gaussian_perturbation", "suite": "tiny", "checkpoints": {"log_spaced": 5},
        "gammas": [0.05, 1], "draws": 5, "seed": 0, "scale": "both", "tensors": "all",
        "include": [], "exclude": [], "by_group": False, "group_gamma": None,
        "evaluation": None, "window": None, "stride": None, "precision": "fp32", "looks": 2,
    },
    {
        "kind": "fine_tuning", "suite": "tiny", "checkpoints": "all", "task": "language_modelling",
        "data": None, "learning_rates": [0.001, 0.003], "methods": ["full", "l2_sp"],
        "alphas": [0.5], "seeds": [0, 1, 2], "evaluations": [], "epochs": None, "steps": 200,
        "batch_rows": None, "max_examples": None, "optimiser": "adamw", "schedule": "linear",
        "warmup": 0.06, "weight_decay": 0, "grad_clip": 1.0, "beta1": 0.9, "beta2": 0.999,
        "prompt": "Review: {sentence}\\nSentiment:", "label_words": ["negative", "positive"],
        "context": None, "l2_sp_strength": 0.03, "ewc_strength": 300, "ewc_data": None,
        "ewc_rows": 128, "lora_rank": 4, "window": None, "stride": None, "precision": "fp32",
        "looks": 1,
    },
]  # fmt: skip


def number_fields() -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Yield (kind, path of a field or list item, is an integer) of all number fields."""

    def walk(node: Any, defs: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
        node = defs[node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node
        if node.get("type") in ("integer", "number"):
            yield path, node["type"] == "integer"
        for form in node.get("anyOf", []):
            yield from walk(form, defs, path)
        if "items" in node:
            yield from walk(node["items"], defs, (*path, "[]"))
        for name, inner in node.get("properties", {}).items():
            yield from walk(inner, defs, (*path, name))

    for name, kind in kinds().items():
        schema = kind.model_json_schema()
        yield from ((name, *field) for field in walk(schema, schema.get("$defs", {}), ()))


def at(path: tuple[str, ...], value: Any) -> Any:
    """Nest a value: {"checkpoints": {"log_spaced": value}} for ("checkpoints", "log_spaced")."""
    for name in reversed(path):
        value = [value] if name == "[]" else {name: value}
    return value


@pytest.mark.parametrize(("kind", "path", "whole"), list(number_fields()))
def test_number_fields_of_every_experiment_type_reject_text_and_booleans(
    kind: str, path: tuple[str, ...], whole: bool
) -> None:
    adapter = TypeAdapter(union())
    for value in NOT_WHOLE_NUMBERS if whole else NOT_NUMBERS:
        spec = {"kind": kind, **at(path, value)}
        for refuse in (parse, adapter.validate_python):
            with pytest.raises(ValidationError) as error:
                refuse(spec)
            assert {problem["type"] for problem in error.value.errors()} & {
                "int_type",
                "float_type",
                "finite_number",
                "list_type",
            }, spec
        with pytest.raises(ValidationError):
            kinds()[kind].model_validate_json(json.dumps(spec))


def test_float_fields_accept_integers_and_list_fields_accept_tuples() -> None:
    spec = parse({"kind": "gaussian_perturbation", "gammas": (1, 0.5)})
    assert spec.model_dump()["gammas"] == [1.0, 0.5]


def test_error_messages_name_the_field_and_the_fix() -> None:
    kind = kinds()["gaussian_perturbation"]
    with pytest.raises(ValidationError) as error:
        kind.model_validate({"draws": "5", "seed": True, "gammas": ["0.1"]})
    assert lines(field_messages(error.value.errors(), kind.model_json_schema())).split("\n") == [
        "gammas[0]: Must be a number greater than 0 and at most 100, not “0.1”. "
        "Write numbers without quotes.",
        "draws: Must be a whole number from 1 to 1000, not “5”. Write numbers without quotes.",
        "seed: Must be a whole number from 0 to 2147483648, not true.",
    ]


def test_stored_specs_presets_demo_and_studies_parse_to_equal_objects() -> None:
    demo = [json.loads(path.read_text())["spec"] for path in (BUILTIN / "demo").glob("*.json")]
    studies = [e.spec for s in study.builtin().values() for e in s.experiments]
    recipes = [json.loads(path.read_text()) for path in BUILTIN.glob("suites/*/recipe.json")]
    presets = [
        {"kind": name, **preset}
        for name, kind in kinds().items()
        for preset in kind.presets.values()
    ]
    assert demo
    assert studies
    assert recipes
    for fields in [*demo, *studies, *recipes, *presets, *STORED]:
        spec = parse(fields)
        assert parse(json.loads(spec.model_dump_json())) == spec
        assert parse(json.loads(json.dumps(spec.model_dump()))) == spec
    for fields in STORED:
        parsed = parse(fields).model_dump(mode="json")
        assert {name: parsed[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("model", "fields", "name"),
    [
        (Submission, {"spec": {}}, "priority"),
        (Edit, {}, "priority"),
        (Extension, {}, "draws"),
        (SuiteSubmission, {"name": "a"}, "tokens_per_step"),
        (UserChange, {}, "most_queued"),
        (TokenSubmission, {"name": "a"}, "days"),
    ],
)
def test_request_bodies_reject_text_and_booleans(
    model: Any, fields: dict[str, Any], name: str
) -> None:
    assert model.model_validate({**fields, name: 5})
    for value in ("5", "1_0", ["1_0"], True):
        with pytest.raises(ValidationError):
            model.model_validate({**fields, name: value})


@pytest.fixture
def api(
    database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> TestClient:
    monkeypatch.setenv("UCURVE_ARTEFACTS", str(tmp_path_factory.mktemp("artefacts")))
    monkeypatch.setenv("UCURVE_ACCESS", "open")
    from api.main import app

    return TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


@pytest.mark.parametrize("value", ["2_0", ["1_0"], True, "5", 5.0])
@pytest.mark.parametrize("url", ["/v1/plan", "/v1/experiments", "/v1/studies"])
def test_the_api_rejects_text_booleans_and_floats_as_integers(
    api: TestClient, url: str, value: Any
) -> None:
    body: dict[str, Any] = {"spec": {"kind": "linear_model", "draws": value}}
    if url == "/v1/studies":
        body = {"name": "s", "title": "S", "experiments": [{"name": "a", **body}]}
    response = api.post(url, json=body)
    assert response.status_code == 422, response.text
    assert "/draws" in response.text
    assert "a whole number from 2 to 1000" in response.text


def test_the_api_rejects_a_quoted_priority(api: TestClient) -> None:
    body = {"spec": {"kind": "linear_model"}, "priority": "+5"}
    response = api.post("/v1/experiments", json=body)
    assert response.status_code == 422
    assert "Must be a whole number from -10 to 10, not “+5”." in response.text
