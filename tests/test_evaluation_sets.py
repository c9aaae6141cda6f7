"""Several evaluation sets in one experiment: plans, verdicts over sets, figures, comparisons."""

import hashlib
from collections.abc import Mapping
from typing import Any

import fine_tuning_cases
import numpy as np
import pytest
import vl_convert
from pydantic import ValidationError
from test_gaussian_perturbation import EXAMPLE, HELD_OUT, Catalogue, paper, planned
from test_gaussian_perturbation_figures import growth_of_weights, named, table_of
from test_kinds import Catalogue as Builtin

from ucurve.analysis import evaluation_sets
from ucurve.analysis.comparison import (
    ComparedExperiment,
    align_experiments,
    completing_spec,
    missing,
)
from ucurve.analysis.measurement_table import to_frame
from ucurve.analysis.verdict_order import by_claim
from ucurve.experiments import parse
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.schemas.measurements import MeasurementRow
from ucurve.schemas.results import Answer, Verdict
from ucurve.schemas.validation_messages import field_messages
from ucurve.spec import SpecError, canonical

TWO = ["tiny-held-out", "few"]
BUILT_IN = ["tiny-held-out", "tiny-redrawn-held-out"]


# ---- the plan


@pytest.mark.parametrize(
    ("kind", "num", "sha256"),
    [
        ("gaussian_perturbation", 1130, "fb6b7391b8453fa1"),
        ("quantisation", 50, "75638f0a9c97cd79"),
        ("pruning", 40, "d40bfa12a178afbf"),
        ("sharpness", 460, "7350aa2d88d9f895"),
    ],
)
def test_one_evaluation_set_gives_the_points_that_it_always_gave(
    kind: str, num: int, sha256: str
) -> None:
    for evaluation in (None, "tiny-held-out", ["tiny-held-out"]):
        spec = parse({"kind": kind, "suite": "tiny", "evaluation": evaluation})
        points = [
            [p.identity, dict(p.labels), p.priority_stage, p.affinity, p.estimated_seconds]
            for p in spec.plan(Builtin())
        ]
        assert len(points) == spec.count(Builtin()) == num
        assert hashlib.sha256(canonical(points).encode()).hexdigest()[:16] == sha256, evaluation
    assert parse({"kind": kind, "evaluation": ["few"]}) == parse(
        {"kind": kind, "evaluation": "few"}
    )


def test_several_sets_are_the_points_of_each_with_its_name() -> None:
    both = planned(evaluation=TWO)
    assert len(both) == GaussianPerturbation(**EXAMPLE, evaluation=TWO).count(Catalogue([paper()]))
    for name in TWO:
        own = {p.identity: {**p.labels, "evaluation": name} for p in planned(evaluation=name)}
        assert own == {p.identity: p.labels for p in both if p.labels["evaluation"] == name}, (
            "another experiment on one of the sets shares the measurements"
        )


def test_the_points_of_one_change_follow_one_another() -> None:
    points = planned(evaluation=TWO)
    for first, second in zip(points[::2], points[1::2], strict=True):
        assert first.inputs["perturbation"] == second.inputs["perturbation"]
        assert first.priority_stage == second.priority_stage
        assert first.affinity == second.affinity
        assert [first.labels["evaluation"], second.labels["evaluation"]] == TWO


def test_the_default_name_counts_several_sets() -> None:
    spec = parse({"kind": "gaussian_perturbation", "gammas": [0.2], "evaluation": TWO})
    assert spec.default_name().endswith("8 noise seeds on 2 evaluation sets")


def test_sets_that_cannot_be_measured_are_refused_with_field_reason_and_remedy() -> None:
    schema = GaussianPerturbation.model_json_schema()
    for evaluation, words in (
        (["few", "tiny-held-out", "few"], "'few' is listed twice: name every evaluation set once"),
        ([f"set{i}" for i in range(9)], "at most 8"),
        ([], "at least 1"),
    ):
        with pytest.raises(ValidationError) as invalid:
            GaussianPerturbation.model_validate({"evaluation": evaluation})
        [message] = field_messages(invalid.value.errors(), schema)
        assert list(message.path) == ["evaluation"]
        assert words in message.message

    def refusal(evaluation: list[str]) -> str:
        with pytest.raises(SpecError) as error:
            list(parse({"kind": "gaussian_perturbation", "evaluation": evaluation}).plan(catalogue))
        assert error.value.field == "evaluation"
        return error.value.message

    catalogue = Builtin()
    assert "no dataset nothing" in refusal(["tiny-held-out", "nothing"])
    assert "'tiny-language' is a training set" in refusal(["tiny-held-out", "tiny-language"])
    assert "'novels-held-out' is a text, and" in refusal(["tiny-held-out", "novels-held-out"])
    named_twice = HELD_OUT.model_copy(update={"name": "again"})
    catalogue.dataset = lambda name, field="": named_twice if name == "again" else HELD_OUT  # type: ignore[method-assign]
    assert refusal(["tiny-held-out", "again"]) == (
        "'tiny-held-out' and 'again' have the same contents: name one of them."
    )


def test_two_built_in_sets_fit_the_suite_of_the_demo() -> None:
    spec = parse({"kind": "gaussian_perturbation", "suite": "tiny", "evaluation": BUILT_IN})
    points = list(spec.plan(Builtin()))
    assert len(points) == 2 * 1130 == spec.count(Builtin())
    assert {p.inputs["evaluation"]["window"] for p in points} == {64}
    assert len({p.inputs["evaluation"]["dataset"] for p in points}) == 2


# ---- verdicts


def summary(name: str, answer: Answer, p: float | None = None, alpha: float = 0.03) -> Verdict:
    """The verdict of one set over its settings."""
    evidence = {"p_value": p, "alpha": alpha} if answer == "yes" and p is not None else {}
    single = {"scope": "gamma 0.2", "answer": answer, "p_value": p}
    return Verdict(
        claim="catastrophic overtraining", answer=answer, sentence="", evidence=evidence,
        summarizes=[single],
    )  # fmt: skip


def over(**sets: tuple[Answer, float | None]) -> Verdict:
    return evaluation_sets.over_sets({name: summary(name, *of) for name, of in sets.items()})


def test_yes_on_all_sets_needs_no_correction_and_the_named_ones_are_holm_corrected() -> None:
    verdict = over(a=("yes", 0.02), b=("yes", 0.012), c=("yes", 0.001))
    assert verdict.answer == "yes"
    assert verdict.evidence["holm_p_values"] == pytest.approx({"a": 0.024, "b": 0.024, "c": 0.003})
    assert verdict.holds_for == ["a", "b", "c"]
    assert "yes holds for each of them" in verdict.sentence

    weak = over(a=("yes", 0.02), b=("yes", 0.02))
    assert weak.answer == "yes", "both are significant at their level"
    assert weak.holds_for == []
    assert weak.sentence == (
        "On 2 of 2 evaluation sets: yes on a, b. Corrected over the 2 sets (Holm, alpha = 0.03), "
        "yes holds for none of them. That it holds on all of them needs no "
        "correction."
    )


def test_the_summary_lists_which_sets_are_yes_no_and_undetermined() -> None:
    verdict = over(a=("yes", 0.001), b=("no", 0.4), c=("undetermined", 0.2))
    assert verdict.answer == "undetermined"
    assert verdict.sentence == (
        "On 1 of 3 evaluation sets: yes on a; no on b; undetermined on c. The sets disagree. "
        "Corrected over the 3 sets (Holm, alpha = 0.03), yes holds for a."
    )
    assert verdict.evidence["sets"] == {"a": "yes", "b": "no", "c": "undetermined"}
    assert over(a=("yes", 0.02), b=("undetermined", 0.5)).holds_for == [], "0.02 x 2 is above 0.03"
    assert over(a=("no", None), b=("no", None)).answer == "no"
    assert "Holm" not in over(a=("no", None), b=("no", None)).sentence


def test_a_yes_that_is_no_test_is_counted_without_a_level() -> None:
    verdict = over(a=("yes", None), b=("no", None))
    assert verdict.holds_for == ["a"]
    assert "Holm" not in verdict.sentence


def test_in_worlds_without_an_effect_some_set_is_settled_in_at_most_alpha_of_them() -> None:
    generator = np.random.default_rng(0)
    p_values = generator.uniform(size=(4000, 3))
    answers: Any = np.where(p_values < 0.03, "yes", "undetermined")
    wrong = [
        bool(over(**dict(zip("abc", zip(a, p, strict=True), strict=True))).holds_for)
        for a, p in zip(answers.tolist(), p_values.tolist(), strict=True)
    ]
    single = float((answers == "yes").any(axis=1).mean())
    assert single > 0.07, "without the correction, one of three sets is a yes too often"
    assert np.mean(wrong) < 0.03 + 2.5 * np.sqrt(0.03 * 0.97 / 4000)


def fragile_on(*sets: str, name: str = "evaluation") -> Any:
    """Losses with a U under both conventions on these sets, and none on others."""

    def loss(labels: Mapping[str, Any]) -> float:
        fragile = labels.get(name) in sets
        return growth_of_weights({**labels, "scale": "current_std" if fragile else "init_std"})

    return loss


def judged(*sets: str, evaluation: list[str] | None = None) -> list[Verdict]:
    evaluation = evaluation or TWO
    spec = GaussianPerturbation(**EXAMPLE, evaluation=evaluation)
    return spec.verdicts(table_of(planned(evaluation=evaluation), fragile_on(*sets)))


@pytest.mark.parametrize(("sets", "answer", "num"), [((), "no", 0), (TWO, "yes", 2)])
def test_a_known_truth_on_all_sets_is_found_on_all(sets: Any, answer: str, num: int) -> None:
    verdicts = judged(*sets)
    for claim in ("progressive sensitivity", "catastrophic overtraining"):
        first = next(v for v in verdicts if v.claim == claim)
        assert (first.answer, first.scope) == (answer, "2 evaluation sets")
        assert first.sentence.startswith(f"On {num} of 2 evaluation sets: {answer} on ")
        assert first.evidence["num_yes"] == num
        assert first.holds_for == list(sets)


def test_a_truth_on_one_set_is_found_on_that_set_and_the_sets_disagree() -> None:
    verdicts = judged("few")
    first = next(v for v in verdicts if v.claim == "catastrophic overtraining")
    assert first.evidence["sets"] == {"tiny-held-out": "no", "few": "yes"}
    assert (first.answer, first.holds_for) == ("undetermined", ["few"])
    assert "On 1 of 2 evaluation sets: yes on few" in first.sentence
    effects = {
        name: np.mean(
            [
                v.effect
                for v in verdicts
                if v.claim == first.claim and v.labels.get("evaluation") == name
            ]
        )
        for name in TWO
    }
    assert first.evidence["mean_effects"] == pytest.approx(effects)
    assert "Smallest effect: tiny-held-out, " in first.sentence
    assert "over the 16 settings of all sets (few " in first.sentence


def test_every_set_has_the_verdicts_that_it_has_alone() -> None:
    verdicts = judged("few")
    alone = GaussianPerturbation(**EXAMPLE, evaluation="few").verdicts(
        table_of(planned(evaluation="few"), fragile_on(None))  # type: ignore[arg-type]
    )
    own = [v for v in verdicts if v.labels.get("evaluation") == "few" or v.scope.endswith("few")]
    key = ("claim", "answer", "sentence", "effect", "interval", "p_value", "minimum", "x")
    assert {tuple(repr(getattr(v, name)) for name in key) for v in own} == {
        tuple(repr(getattr(v, name)) for name in key) for v in alone
    }


def test_the_false_discovery_statement_counts_the_tests_of_all_sets() -> None:
    groups = {group.name: group for group in by_claim(judged(*TWO))}
    assert "Of 32 tests on this claim" in groups["catastrophic overtraining"].discoveries
    assert len(groups["catastrophic overtraining"].details) == 32


def rounding_verdicts(*sets: str) -> list[Verdict]:
    """Verdicts on a suite whose rounding shows a U on these sets only."""
    spec = parse({"kind": "quantisation", "suite": "paper", "bits": [3], "evaluation": TWO})
    rows = []
    for i, point in enumerate(spec.plan(Catalogue([paper()]))):
        labels = dict(point.labels)
        tokens = labels["tokens"] / 1e6
        loss = 3 - 0.2 * np.log(tokens)
        if labels["scheme"]:
            loss += 0.1 * tokens if labels["evaluation"] in sets else 0.1
        blocks = [63 * (loss + 0.01 * np.sin(j + tokens)) for j in range(40)]
        rows.append(
            MeasurementRow(
                id=i, identity=point.identity, position=i, state="done", labels=labels,
                metrics={"nll_mean": loss, "relative_change": 0.1},
                series={"window_nll": blocks, "window_tokens": [63.0] * 40},
            )
        )  # fmt: skip
    table = to_frame(rows)
    verdicts = spec.verdicts(table)
    figures = spec.figures(table, verdicts)
    assert {row.get("evaluation") for row in named(figures["loss"], "mean")} == set(TWO)
    assert figures["matrices"].chart["facet"]["row"]["field"] == "replicate", "the same for all"
    return verdicts


def test_rounding_has_a_verdict_over_sets_per_scheme() -> None:
    first = next(v for v in rounding_verdicts("few") if v.claim == "catastrophic overtraining")
    assert first.scope == "per row, symmetric, 2 evaluation sets"
    assert first.evidence["sets"] == {"tiny-held-out": "no", "few": "yes"}
    assert first.holds_for == ["few"]
    every = next(v for v in rounding_verdicts(*TWO) if v.claim == "catastrophic overtraining")
    assert (every.answer, every.holds_for) == ("yes", TWO)


def forgetting_verdicts(**fields: Any) -> list[Verdict]:
    """Verdicts of a fine-tuning that forgets more with pre-training on one set, and not on another.

    On `few`, forgetting does not depend on pre-training.
    """

    def metrics(labels: Mapping[str, Any]) -> dict[str, float]:
        if labels["evaluation"] == "tiny-held-out":
            return fine_tuning_cases.sensitive(dict(labels))
        at_first = {**labels, "tokens": fine_tuning_cases.TOKENS[1]}
        before = fine_tuning_cases.sensitive({**at_first, "learning_rate": 0.0})["nll_mean"]
        found = fine_tuning_cases.sensitive(dict(at_first))
        now = fine_tuning_cases.sensitive({**labels, "learning_rate": 0.0})["nll_mean"]
        return {**found, "nll_mean": found["nll_mean"] - before + now}

    points = fine_tuning_cases.planned(**fields)
    spec = FineTuning(**{**fine_tuning_cases.EXAMPLE, "suite": "paper", **fields})
    return spec.verdicts(fine_tuning_cases.table_of(points, metrics))


def test_fine_tuning_says_on_how_many_sets_it_forgets() -> None:
    verdicts = forgetting_verdicts(evaluations=TWO)
    first = next(v for v in verdicts if v.claim == "progressive sensitivity")
    assert first.scope == "full, 2 evaluation sets"
    assert first.evidence["sets"] == {"tiny-held-out": "yes", "few": "no"}
    assert first.sentence.startswith("On 1 of 2 evaluation sets: yes on tiny-held-out (")
    assert first.holds_for == ["tiny-held-out"]
    alone = forgetting_verdicts(evaluations=["tiny-held-out"])
    assert not any("evaluation sets" in verdict.scope for verdict in alone)


def test_a_best_learning_rate_is_summarized_per_set_and_over_sets() -> None:
    claim = "progressive sensitivity at the best learning rate"
    summaries = [
        v for v in forgetting_verdicts(evaluations=TWO) if v.claim == claim and v.is_summary
    ]
    assert [v.scope for v in summaries] == [
        "full, 2 evaluation sets",
        "full, few",
        "full, tiny-held-out",
    ]
    assert all(len(v.summarizes) == 2 for v in summaries), "never seeds of different sets together"


def test_sharpness_on_two_sets_has_a_verdict_over_them() -> None:
    spec = parse({"kind": "sharpness", "suite": "tiny", "draws": 3, "evaluation": BUILT_IN})
    points = list(spec.plan(Builtin()))
    assert len(points) == spec.count(Builtin())
    rows = []
    for i, point in enumerate(points):
        labels = dict(point.labels)
        grows = labels["evaluation"] == BUILT_IN[0]
        trace = (200 + 1e-5 * labels["tokens"] * grows) * (1 + 0.01 * (labels["draw"] or 0))
        rise = trace * labels["sigma"] ** 2 / 2
        metrics = {
            "trace": {"trace": trace, "trace_mlp": trace, "weights_mlp": 100.0},
            "eigenvalue": {"top_eigenvalue": 20.0, "residual": 0.01},
            "noise": {"rise": rise, "curvature": trace},
        }
        rows.append(
            MeasurementRow(
                id=i, identity=point.identity, position=i, state="done", labels=labels,
                metrics=metrics[labels["part"]],
            )
        )  # fmt: skip
    table = to_frame(rows)
    first = next(v for v in spec.verdicts(table) if v.is_summary)
    assert first.scope == "2 evaluation sets"
    assert first.evidence["sets"][BUILT_IN[0]] == "yes"
    assert first.evidence["sets"][BUILT_IN[1]] != "yes"
    curvature = spec.figures(table)["curvature"]
    assert {row["evaluation"] for row in named(curvature, "mean")} == set(BUILT_IN)


# ---- figures


def test_figures_have_a_row_of_panels_per_set_with_a_y_axis_of_its_own() -> None:
    spec = GaussianPerturbation(**EXAMPLE, evaluation=TWO)
    table = table_of(planned(evaluation=TWO), fragile_on("few"))
    figures = spec.figures(table, spec.verdicts(table))
    one = GaussianPerturbation(**EXAMPLE).figures(table_of(planned(), fragile_on("few")))
    assert list(figures) == list(one)
    assert [(f.tab, f.variant) for f in figures.values()] == [
        (f.tab, f.variant) for f in one.values()
    ]
    loss = figures["loss"]
    assert loss.chart["resolve"] == {"scale": {"y": "independent"}}
    assert loss.chart["facet"]["row"]["field"] == "panel"
    panels = {row["panel"] for row in named(loss, "mean")}
    assert panels == {f"{name}\npre-training seed {seed}" for name in TWO for seed in (0, 1)}
    minima = {row["evaluation"] for row in named(loss, "bottom")}
    assert minima == {"few"}
    place = {"replicate": 0, "gamma": 0.3, "tokens": 8_000_000, "scale": "init_std"}
    [fragile] = named(loss, "mean", evaluation="few", **place)
    [robust] = named(loss, "mean", evaluation="tiny-held-out", **place)
    assert fragile["y"] > robust["y"] + 0.5
    for name in ("loss", "heat_map"):
        svg = vl_convert.vegalite_to_svg(figures[name].vega_lite())
        assert all(title in svg for title in TWO), name


# ---- comparison


def side(id: int, evaluation: Any) -> ComparedExperiment:
    spec = GaussianPerturbation(**EXAMPLE, evaluation=evaluation)
    rows = [
        MeasurementRow(
            id=i, identity=point.identity, position=i, state="done", labels=dict(point.labels),
            metrics={"nll_mean": 3.0 + (point.labels["gamma"] or 0.0)},
        )
        for i, point in enumerate(planned(evaluation=evaluation))
    ]  # fmt: skip
    return ComparedExperiment(id, f"side {id}", spec, rows, paper())


def test_a_comparison_matches_the_set_of_one_experiment_with_that_of_several() -> None:
    one, two = side(1, None), side(2, TWO)
    assert not missing(one, two).points
    gap = missing(two, one)
    assert {labels["evaluation"] for labels in gap.points} == {"few"}
    assert len(gap.points) == len(two.rows) / 2
    spec = completing_spec(gap)
    assert spec is not None
    assert spec.evaluation == TWO  # type: ignore[attr-defined]
    changes = align_experiments([one, two]).groupby("side")["change"].unique()
    assert set(changes["1"]) < set(changes["2"])
    assert align_experiments([one, two])["damage"].notna().all()


def test_comparisons_of_single_sets_do_not_name_them() -> None:
    table = align_experiments([side(1, None), side(2, "few")])
    assert not table["change"].str.contains("few|held").any()
