"""The form of any spec class: fields, parsing, and problems mapped back to fields."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from dashboard.forms.fields import fields
from dashboard.forms.parsing import parse_bounded, parse_id, parse_tokens, parse_value
from dashboard.forms.schema_form import entries, list_summaries, problems_by_field, spec_of
from dashboard.forms.widgets import placeholder_of
from ucurve.experiments import kinds
from ucurve.registry.artifacts import BUILTIN
from ucurve.schemas.validation_messages import field_messages
from ucurve.spec import Spec


class LogSpaced(BaseModel):
    log_spaced: int = Field(ge=2, title="How many")


class Optimiser(BaseModel):
    learning_rate: float = Field(
        5e-5, gt=0, description="Peak rate.", json_schema_extra={"unit": "1/step"}
    )
    betas: list[float] = Field([0.9, 0.95], min_length=2, max_length=2)


class Everything(Spec):
    kind: Literal["everything"] = "everything"
    suite: str = Field(json_schema_extra={"widget": "suite"})
    evaluation: str | None = Field(None, json_schema_extra={"widget": "dataset"})
    checkpoints: Literal["all", "last"] | list[str] | LogSpaced = "all"
    gammas: list[float] = Field([0.05, 0.1], min_length=1)
    seeds: list[int] = Field([0])
    metrics: list[Literal["loss", "accuracy"]] = Field(["loss"])
    scale: Literal["current_std", "init_std"] = "current_std"
    window: int | None = None
    exact: bool = True
    clip: float | Literal["none"] = "none"
    optimiser: Optimiser = Optimiser()
    pull: Optimiser | None = None
    by_tensor: dict[str, float] = Field({})
    note: str = Field("", json_schema_extra={"advanced": True})


def filled(model: type[Spec], spec: dict[str, Any], **typed: Any) -> dict[str, Any]:
    """The spec that comes out of the form for one that was put in, with some fields typed over."""
    form = fields(model)
    values, problems = spec_of(form, {**entries(form, spec), **typed})
    assert problems == {}
    return values


@pytest.mark.parametrize("kind", kinds())
def test_defaults_and_presets_of_every_type_pass_through_the_form_unchanged(kind: str) -> None:
    model = kinds()[kind]
    for start in ({}, *model.presets.values()):
        meant = model.model_validate(start)
        assert model.model_validate(filled(model, dict(start))) == meant
        assert model.model_validate(filled(model, meant.model_dump(mode="json"))) == meant


def test_a_form_opens_with_a_preset_of_its_type_that_needs_nothing_but_the_package() -> None:
    opening = {name: kind.opens_with for name, kind in kinds().items() if kind.opens_with}
    assert "gaussian_perturbation" in opening
    for name, preset in opening.items():
        suite = kinds()[name].presets[preset]["suite"]
        assert (BUILTIN / "suites" / suite / "suite.json").is_file()


@pytest.mark.parametrize(
    "spec",
    [
        {"checkpoints": "last", "window": 1024, "exact": False, "clip": 1.5},
        {
            "checkpoints": ["step1", "step2"],
            "gammas": [1e-12, 5e-5, 3.0],
            "seeds": [],
            "metrics": ["accuracy", "loss"],
        },
        {
            "checkpoints": {"log_spaced": 7},
            "evaluation": "wikitext-2",
            "pull": {"learning_rate": 0.1, "betas": [0.0, 1.0]},
        },
        {
            "optimiser": {"learning_rate": 1e-300, "betas": [0.1, 0.2]},
            "by_tensor": {"mlp": 0.5},
            "note": "a, b; ünï",
        },
    ],
)
def test_every_form_of_a_value_survives_the_form(spec: dict[str, Any]) -> None:
    meant = Everything.model_validate({"suite": "tiny", **spec})
    assert Everything.model_validate(filled(Everything, meant.model_dump(mode="json"))) == meant


def test_fields_reflect_the_spec_class() -> None:
    form = {field.key: field for field in fields(Everything)}
    assert list(form)[:3] == ["suite", "evaluation", "checkpoints"]
    assert "kind" not in form
    assert (form["suite"].source, form["evaluation"].source) == ("suite", "dataset")
    assert form["evaluation"].optional
    assert form["evaluation"].widget == "text"
    assert not form["suite"].optional
    assert [part.title for part in form["checkpoints"].parts] == [
        "all",
        "last",
        "a list",
        "log spaced",
    ]
    rate = form["optimiser"].parts[0]
    assert (rate.key, rate.title, rate.help) == (
        "optimiser/learning_rate",
        "Learning rate (1/step)",
        "Peak rate.",
    )
    assert form["note"].advanced
    assert form["metrics"].options == ("loss", "accuracy")


def test_numbers_are_accepted_in_common_notations() -> None:
    values = filled(
        Everything, {"suite": "tiny"}, gammas=" 5e-3; 0.01,1000 , −2,", seeds="3, 1e3", window=""
    )
    assert values["gammas"] == [0.005, 0.01, 1000.0, -2.0]
    assert values["seeds"] == [3, 1000]
    assert all(type(seed) is int for seed in values["seeds"])
    assert values["window"] is None


def test_parse_errors_are_reported_at_their_field_and_other_fields_still_parse() -> None:
    form = fields(Everything)
    typed = {
        **entries(form, {"suite": "tiny"}),
        "gammas": "0.1, zwei",
        "window": "1.5",
        "optimiser/learning_rate": "",
    }
    values, problems = spec_of(form, typed)
    assert problems == {
        "gammas": "“zwei” is not a number.",
        "window": "“1.5” is not a whole number.",
        "optimiser/learning_rate": "This field is required.",
    }
    assert values["seeds"] == [0]


def test_bounds_are_reported_at_the_field_of_the_selected_form_only() -> None:
    form = fields(Everything)
    typed = entries(
        form,
        {"suite": "tiny", "checkpoints": {"log_spaced": 1}, "optimiser": {"learning_rate": -1}},
    )
    values, problems = spec_of(form, typed)
    assert problems == {}
    with pytest.raises(ValidationError) as caught:
        Everything.model_validate({**values, "seeds": [1, "x"]})
    found = problems_by_field(
        form, typed, field_messages(caught.value.errors(), Everything.model_json_schema())
    )
    assert found == {
        "checkpoints?3/log_spaced": "Must be a whole number from 2 up, not 1.",
        "optimiser/learning_rate": "Must be a number greater than 0, not -1.",
        "seeds": "Value 2: must be a whole number, not “x”.",
    }


@pytest.mark.parametrize(
    "text", ["0,05", "0,05, 0,1", "1,5", "1,5; 2,5", "0,5 0,6", "1,000", "1,05"]
)
def test_an_ambiguous_decimal_comma_is_reported(text: str) -> None:
    form = fields(Everything)
    values, problems = spec_of(form, {**entries(form, {"suite": "tiny"}), "gammas": text})
    assert "gammas" not in values
    assert "could be one value or two" in problems["gammas"]
    assert list_summaries(form, {"gammas": text}) == {}


def test_lists_show_how_they_were_parsed() -> None:
    form = fields(Everything)
    typed = {
        "gammas": "0.1 5e-2;3",
        "seeds": "1,5",
        "checkpoints?": 2,
        "checkpoints?2": "step 1, step 2",
    }
    said = {
        "gammas": "3 values: 0.1, 0.05, 3",
        "seeds": "2 values: 1, 5",
        "checkpoints?2": "2 values: step 1, step 2",
    }
    assert {
        key: value
        for key, value in list_summaries(form, {**entries(form, {}), **typed}).items()
        if key in said
    } == said
    assert (
        list_summaries(form, {"seeds": ", ".join(map(str, range(20)))})["seeds"]
        == "20 values: 0, 1, 2, 3, 4, 5, 6, …, 19"
    )


def test_api_problems_are_mapped_to_fields_and_others_are_kept() -> None:
    form = fields(Everything)
    typed = entries(form, {"suite": "tiny"})
    found = problems_by_field(
        form,
        typed,
        [
            (["suite"], "There is no suite 'tiny'."),
            (["optimiser", "betas"], "Two."),
            ([""], "Nothing to do."),
        ],
    )
    assert found == {
        "suite": "There is no suite 'tiny'.",
        "optimiser/betas": "Two.",
        "": "Nothing to do.",
    }


def test_a_pattern_that_matches_nothing_is_shown_at_its_field_with_its_place() -> None:
    form = fields(kinds()["gaussian_perturbation"])
    message = "'*embed_ot*' matches none of the 28 tensors of 'tiny'."
    found = problems_by_field(form, entries(form, {}), [(["exclude", "1"], message)])
    assert found == {"exclude": f"Value 2: {message}"}


BAD_NUMBERS = [
    "²",
    "+-5",
    "1_0",
    "nan",
    "inf",
    "1e400",
    "٣",
    "0x10",
    "5 5",
    "--1",
    "1.2.3",
    "9" * 5000,
]


@pytest.mark.parametrize("text", BAD_NUMBERS)
@pytest.mark.parametrize("widget", ["number", "integer"])
def test_text_that_is_not_a_number_is_rejected_with_a_message(text: str, widget: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_value(text, widget)
    with pytest.raises(ValueError, match="Enter a whole number from -10 to 10"):
        parse_bounded(text, -10, 10, default=0)
    assert parse_id(text) is None
    with pytest.raises(ValueError, match="is not a number of tokens"):
        parse_tokens(text)


@pytest.mark.parametrize("text", ["[NaN]", "{", "[" * 100_000, "1e999999"])
def test_text_that_is_not_json_is_rejected_with_a_message(text: str) -> None:
    with pytest.raises(ValueError, match="is not valid JSON"):
        parse_value(text, "json")


def test_numbers_in_addresses_and_small_fields_are_parsed_strictly() -> None:
    assert [parse_id(text) for text in ("7", " 7 ", "0", "-7", "1e3", "", None, str(2**63))] == [
        7,
        7,
        *[None] * 6,
    ]
    assert [parse_bounded(text, -10, 10, 0) for text in ("", " +5", "−10", "1e1")] == [
        0,
        5,
        -10,
        10,
    ]
    with pytest.raises(ValueError, match="from -10 to 10"):
        parse_bounded("11", -10, 10, 0)
    texts = ["3M", "2.1 B", "3e6", "1,048,576", "", None]
    assert [parse_tokens(text) for text in texts] == [
        3_000_000,
        2_100_000_000,
        3_000_000,
        1_048_576,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("evaluation", "typed", "meant"),
    [
        (None, [], None),
        ("tiny-held-out", ["tiny-held-out"], "tiny-held-out"),
        (["a", "b, c"], ["a", "b, c"], ["a", "b, c"]),
    ],
)
def test_one_or_several_names_are_selected_in_one_field(
    evaluation: Any, typed: list[str], meant: Any
) -> None:
    model = kinds()["gaussian_perturbation"]
    [field] = [field for field in fields(model) if field.key == "evaluation"]
    assert (field.widget, field.source, field.is_chosen_list) == ("list", "dataset", True)
    assert entries([field], {"evaluation": evaluation}) == {"evaluation": typed}
    spec, problems = spec_of([field], {"evaluation": typed})
    assert not problems
    assert model.model_validate(spec).evaluation == meant  # type: ignore[attr-defined]
    assert list_summaries([field], {"evaluation": typed}) == {}


def test_an_empty_field_shows_what_it_means_in_the_real_forms() -> None:
    form = fields(kinds()["gaussian_perturbation"])
    shown = {field.key: placeholder_of(field) for field in form}
    assert shown["evaluation"] == "that of the suite"
    assert (shown["window"] or "").startswith("1024")
