"""Tabs and switches of figures, and the one answer that an experiment gives first."""

from __future__ import annotations

from typing import Any

import pytest
from judge_every_kind import gaussian_rows

from ucurve.analysis.headline import headline
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import kinds, parse
from ucurve.figures import tabs
from ucurve.spec import Figure, Verdict


def figure(*variant: str, tab: str = "U-curve") -> Figure:
    return Figure("title", "", {}, {}, tab=tab, variant=variant)


FIGURES = {
    "perplexity": figure("perplexity", "after"),
    "loss": figure("loss", "after"),
    "bits": figure("bits per byte", "after"),
    "perplexity_change": figure("perplexity", "increase"),
    "loss_change": figure("loss", "increase"),
    "table": figure(tab="Table"),
    "own": Figure("A title", "", {}, {}),
}


def test_a_tab_lists_its_figures_and_one_without_a_place_has_its_own() -> None:
    assert tabs.tabs(FIGURES) == {
        "U-curve": ["perplexity", "loss", "bits", "perplexity_change", "loss_change"],
        "Table": ["table"],
        "A title": ["own"],
    }


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("loss", [["perplexity", "loss", "bits per byte"], ["after", "increase"]]),
        ("bits", [["perplexity", "loss", "bits per byte"], ["after"]]),
        ("table", []),
    ],
)
def test_a_switch_offers_what_there_is_with_the_choices_before_it(
    name: str, choices: list[list[str]]
) -> None:
    assert tabs.switches(FIGURES, name) == choices


def test_a_switch_keeps_the_others_as_far_as_such_a_figure_exists() -> None:
    assert tabs.switched(FIGURES, "loss_change", 0, "perplexity") == "perplexity_change"
    assert tabs.switched(FIGURES, "loss_change", 0, "bits per byte") == "bits"
    assert tabs.switched(FIGURES, "loss", 1, "increase") == "loss_change"


def test_every_figure_of_the_built_in_types_differs_from_the_others_of_its_tab() -> None:
    for name in ("gaussian_perturbation", "linear_model", "quantisation", "sharpness"):
        spec = kinds()[name]()
        made = spec.figures(to_frame(gaussian_rows() if name == "gaussian_perturbation" else []))
        for names in tabs.tabs(made).values():
            assert len({made[one].variant for one in names}) == len(names), (name, names)


def verdict(claim: str, answer: str, **fields: Any) -> Verdict:
    return Verdict.model_validate(
        {"claim": claim, "answer": answer, "sentence": "So it is.", **fields}
    )


def test_nothing_is_answered_before_there_is_a_verdict() -> None:
    assert headline([]) is None


def test_the_headline_is_about_overtraining_with_the_clearest_setting_of_the_same_answer() -> None:
    spec = parse({"kind": "gaussian_perturbation", "gammas": [0.2], "draws": 3})
    found = headline(spec.verdicts(to_frame(gaussian_rows())))
    assert found
    assert found.lead == "Longer pre-training made the model worse after the same change"
    assert (found.verdict.claim, found.verdict.scope) == ("catastrophic overtraining", "")
    assert found.example
    assert "init_std" in found.example.scope, "not explained by growth of the weights"
    assert found.example.effect == pytest.approx(0.63)
    assert found.example.interval


def test_an_example_has_the_answer_of_the_verdict_that_it_illustrates() -> None:
    summary = {"summarizes": [{"scope": scope, "answer": "no"} for scope in "ab"]}
    claim = "catastrophic overtraining"
    found = headline(
        [
            verdict("unperturbed loss rises", "no"),
            verdict(claim, "no", **summary),
            verdict(claim, "yes", scope="a", effect=1.0, p_value=0.001),
            verdict(claim, "no", scope="b", effect=0.1, p_value=0.4),
        ]
    )
    assert found
    assert found.example
    assert (found.verdict.answer, found.example.scope) == ("no", "b")


def test_an_example_is_one_of_the_settings_that_the_verdict_summarizes() -> None:
    claim, scopes = "catastrophic overtraining", ["fixed 1", "relative 1"]
    summaries = [
        verdict(claim, "yes", scope=one[:5], summarizes=[{"scope": one, "answer": "yes"}])
        for one in scopes
    ]
    singles = [
        verdict(claim, "yes", scope=one, effect=effect, p_value=1e-9)
        for one, effect in zip(scopes, (0.1, 5.0), strict=True)
    ]
    found = headline([*summaries, *singles, *[verdict(claim, "no", scope="other")] * 2])
    assert found
    assert found.example
    assert (found.verdict.scope, found.example.scope) == ("fixed", "fixed 1")


def test_without_a_claim_on_overtraining_the_first_claim_leads() -> None:
    found = headline([verdict("barrier", "yes", scope="one line", effect=0.3)])
    assert found
    assert (found.lead, found.example) == ("Barrier", None)
