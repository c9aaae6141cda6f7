"""Figures and verdicts of fine-tuning recover the truth of simulated tables."""

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import vl_convert
from fine_tuning_cases import (
    EXAMPLE,
    TOKENS,
    Catalogue,
    named,
    planned,
    sensitive,
    table_of,
)

from ucurve.analysis import fine_tuning, fine_tuning_rows, replication
from ucurve.analysis.measurement_table import to_frame
from ucurve.analysis.verdict_order import by_claim
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.registry.suites import Checkpoint, Location, Suite
from ucurve.schemas.measurements import MeasurementRow, RunningProgress
from ucurve.spec import Point


def test_figures_show_what_was_forgotten_and_learned() -> None:
    spec, table = FineTuning(**EXAMPLE), table_of(planned(), sensitive)
    figures = spec.figures(table, spec.verdicts(table))
    where = {"replicate": 1, "tokens": 4_000_000}
    runs = [
        sensitive({**where, "learning_rate": 3e-3, "seed": seed, "alpha": 1.0, "method": "full"})
        for seed in range(5)
    ]
    base = sensitive({**where, "learning_rate": 0.0})["nll_mean"]
    after, learned = (
        np.mean([run["nll_mean"] for run in runs]),
        np.mean([run["id_loss"] for run in runs]),
    )
    change = math.exp(after) - math.exp(base)
    expected = {
        "perplexity": math.exp(after),
        "forgetting": change,
        "forgetting_nats": after - base,
        "learned": learned,
    }
    for name, value in expected.items():
        [row] = named(figures[name], "mean", **where, learning_rate=3e-3)
        assert row["y"] == pytest.approx(value), name
    [row] = named(figures["perplexity"], "mean", **where, learning_rate=0.0)
    assert row["y"] == pytest.approx(math.exp(base))
    [row] = named(figures["forgetting_by_rate"], "mean", **where, learning_rate=3e-3)
    assert (row["x"], row["y"]) == pytest.approx((3e-3, after - base))
    [row] = named(figures["trade_off"], "dominated", **where, learning_rate=3e-3)
    assert (row["x"], row["y"], row["order"]) == pytest.approx((learned, after - base, 3e-3))
    front = [row["learning_rate"] for row in named(figures["trade_off"], "mean", **where)]
    assert front == [3e-4, 1e-3], "larger rates forget more and learn less"
    cells = {
        cell["column"]: cell["label"]
        for cell in named(figures["table_1"], "cell", **where, learning_rate=3e-3)
    }
    assert (cells["before"], cells["seeds"]) == (f"{math.exp(base):.2f}", "5")
    told = {
        "after": f"{math.exp(after):.2f} (",
        "change": f"{change:+.2f} (+",
        "task loss": f"{learned:.3f} ± 0.0",
    }
    assert all(cells[column].startswith(text) for column, text in told.items()), cells
    best = {row["tokens"]: row["y"] for row in named(figures["best_rate"], "mean", replicate=0)}
    assert best == {1_000_000: 3e-3, 2_000_000: 1e-3, 4_000_000: 1e-3, 8_000_000: 1e-3}
    assert not named(figures["best_rate"], "open bottom")
    reach = [row["tokens"] for row in named(figures["matched"], "mean", replicate=0)]
    assert reach == TOKENS[1:4], (
        "the last is below that loss at the smallest rate already: nothing is made up for it"
    )
    [bound] = named(figures["matched"], "open bottom", replicate=0)
    [smallest] = named(
        figures["forgetting_by_rate"],
        "mean",
        **{**where, "tokens": 8_000_000, "learning_rate": 3e-4, "replicate": 0},
    )
    assert (bound["tokens"], bound["y"]) == (8_000_000, pytest.approx(smallest["y"])), "but a bound"
    assert any(
        row["label"].endswith("1 of 4 are upper bounds")
        for row in named(figures["matched"], "note")
    )
    [bottom] = named(figures["perplexity"], "bottom", replicate=0, learning_rate=1e-2)
    assert bottom["tokens"] < 8_000_000


def test_forgetting_is_matched_at_the_loss_that_every_checkpoint_reaches() -> None:
    spec = FineTuning(**EXAMPLE)
    table = fine_tuning.prepared(table_of(planned(), sensitive))
    design = fine_tuning.Design(spec.rates, ["full"], "id_loss")
    rows = fine_tuning_rows.matched_rows(table, design)
    [target] = {row["target"] for row in rows if row["what"] == "mean"}
    common = {"tokens": 1e6, "alpha": 1, "method": "full"}
    losses = [
        [sensitive({**common, "learning_rate": rate, "seed": seed})["id_loss"] for seed in range(5)]
        for rate in spec.rates
    ]
    assert target == pytest.approx(min(np.mean(losses, axis=1)))


def test_a_running_point_s_training_loss_is_drawn_as_far_as_it_is() -> None:
    point = next(point for point in planned() if point.labels["learning_rate"] == 1e-3)
    live = RunningProgress(done=2, total=200, series={"done": [0.0, 1.0, 2.0], "loss": [3.5, 3.4]})
    labels = dict(point.labels)
    row = MeasurementRow(
        id=1, identity=point.identity, position=0, state="running", labels=labels, live=live
    )
    drawn = FineTuning(**EXAMPLE).figures(to_frame([row]))["training"]
    assert [
        (one["x"], one["y"], one["line"]) for one in named(drawn, "mean", learning_rate=1e-3)
    ] == [(1.0, 3.5, 1), (2.0, 3.4, 1)]


def test_the_best_rate_at_the_grid_s_edge_is_marked_so() -> None:
    spec = FineTuning(**{**EXAMPLE, "learning_rates": [3e-3, 1e-2, 3e-2]})
    points = planned(learning_rates=[3e-3, 1e-2, 3e-2])
    table = table_of(points, sensitive)
    edges = named(spec.figures(table)["best_rate"], "open bottom", replicate=0)
    assert len(edges) == 4
    [verdict] = [
        v
        for v in spec.verdicts(table)
        if v.claim.startswith("best") and v.scope == "full, pre-training seed 0"
    ]
    assert verdict.answer == "undetermined"
    assert "edge of the grid" in verdict.sentence


def test_a_seed_that_diverged_is_on_every_chart_and_never_averaged_away() -> None:
    def broken(labels: dict[str, Any]) -> dict[str, float] | None:
        if labels["tokens"] == 2_000_000 and labels["learning_rate"]:
            return None
        diverged = labels["learning_rate"] == 1e-2 and labels["seed"] == 4
        return {"nll_mean": math.nan, "id_loss": math.nan} if diverged else sensitive(labels)

    figures = FineTuning(**EXAMPLE).figures(table_of(planned(), broken))
    where = {"replicate": 0, "learning_rate": 1e-2, "tokens": 8_000_000}
    for name in ("perplexity", "forgetting", "learned", "forgetting_by_rate", "learned_by_rate"):
        assert not named(figures[name], "mean", **where), name
        [edge] = named(figures[name], "edge", **where)
        assert edge["label"] == "1×∞"
        assert len(named(figures[name], "draw", **where)) == 4, name
    assert not named(figures["trade_off"], "mean", **where)


def test_methods_are_compared_in_one_figure_and_interpolations_at_the_best_rate() -> None:
    fields = {"methods": ["full", "l2_sp"], "alphas": [0.25, 0.5]}
    figures = FineTuning(**EXAMPLE, **fields).figures(table_of(planned(**fields), sensitive))
    where = {"replicate": 0, "tokens": 2_000_000}
    assert [
        row["learning_rate"] for row in named(figures["methods"], "mean", method="l2_sp", **where)
    ] == [3e-4, 1e-3, 3e-3, 1e-2]
    interpolated = named(figures["methods"], "mean", method="wise_ft", **where)
    assert [(row["alpha"], row["learning_rate"], row["order"]) for row in interpolated] == [
        (a, 1e-3, a) for a in (0.25, 0.5, 1.0)
    ]
    drawn = {row["learning_rate"] for row in named(figures["perplexity"], "draw", **where)}
    assert drawn == {0.0, 3e-4, 1e-3, 3e-3, 1e-2}
    assert len(named(figures["perplexity"], "draw", **where)) == 1 + 4 * 5, (
        "of the first method only"
    )


def test_charts_depend_on_the_spec_only_and_render_from_nothing_to_everything() -> None:
    fields = {
        "methods": ["full", "lora"],
        "alphas": [0.5],
        "seeds": [0, 1],
        "evaluations": ["tiny-held-out", "few"],
    }
    spec, points = FineTuning(**{**EXAMPLE, **fields}), planned(**fields)
    nothing, everything = table_of(points, lambda labels: None), table_of(points, sensitive)
    tables = [nothing[:0], nothing, everything[: len(everything) // 10], everything]
    made = [spec.figures(table, spec.verdicts(table)) for table in tables]
    names = (
        "perplexity forgetting forgetting_nats learned table_1 best_rate forgetting_by_rate "
        "learned_by_rate trade_off matched tuned_forgetting tuned_learned pareto_fronts "
        "displacement methods law law_residuals law_onset training"
    )
    assert list(made[0]) == names.split()
    for name in made[0]:
        assert len({json.dumps(figures[name].chart) for figures in made}) == 1, name
        for figures in made:
            json.dumps(figures[name].datasets, allow_nan=False)
        assert vl_convert.vegalite_to_svg(made[-1][name].vega_lite()).startswith("<svg")
    assert "best_rate" not in FineTuning(**{**EXAMPLE, "learning_rates": [1e-3]}).figures(
        nothing[:0]
    )
    assert spec.verdicts(tables[0]) == []
    assert {verdict.answer for verdict in spec.verdicts(nothing)} == {"undetermined"}


def test_verdicts_find_what_the_table_was_made_with() -> None:
    verdicts = {
        (v.claim, v.scope): v
        for v in FineTuning(**EXAMPLE).verdicts(table_of(planned(), sensitive))
    }
    assert verdicts["progressive sensitivity", "full"].answer == "yes"
    assert verdicts["catastrophic overtraining", "full"].answer == "yes"
    assert verdicts["unperturbed loss rises", "pre-training seed 0"].answer == "no"
    growth = verdicts["growth of sensitivity", "learning rate 0.01, full, pre-training seed 1"]
    assert growth.effect == pytest.approx(8**0.8, rel=0.02)
    best = verdicts["best learning rate falls with pre-training", "full, pre-training seed 0"]
    assert best.answer == "yes"
    assert best.effect == pytest.approx(0.3, abs=0.06)
    assert best.evidence["speed"] == "slowly falling", "b p = 0.3 is less than q = 0.8"
    assert (best.evidence["b"], best.evidence["q"]) == pytest.approx((1.0, 0.8), abs=0.03)
    law = verdicts[
        "forgetting grows exponentially with the learning rate", "full, pre-training seed 0"
    ]
    assert law.answer == "no"
    assert law.evidence["exponent"] == pytest.approx(1.0, abs=0.02)


def test_single_verdicts_of_every_method_are_tests_of_one_family_and_only_the_first_is_drawn() -> (
    None
):
    fields = {"methods": ["full", "l2_sp"], "seeds": [0, 1, 2, 3, 4]}
    spec, table = FineTuning(**{**EXAMPLE, **fields}), table_of(planned(**fields), sensitive)
    found = spec.verdicts(table)
    alone = FineTuning(**EXAMPLE).verdicts(table_of(planned(), sensitive))
    for claim in ("progressive sensitivity", "catastrophic overtraining"):
        single = [v for v in found if v.claim == claim and not v.is_summary and v.p_value]
        by_method = Counter(v.labels["method"] for v in single)
        assert by_method == {"full": 8, "l2_sp": 8}, claim
        assert len({v.scope for v in single}) == 16
        [group] = [group for group in by_claim(found) if group.name == claim]
        assert group.discoveries.startswith("Of 16 tests on this claim"), claim
        assert group.details_title.startswith("Per-setting results (16)"), claim
        [before] = [group for group in by_claim(alone) if group.name == claim]
        assert before.discoveries.startswith("Of 8 tests on this claim")
    assert sum(v.claim == "unperturbed loss rises" for v in found) == 2, "the base is one"
    figures = spec.figures(table, found)
    minima = [v for v in found if v.minimum and v.minimum.x != v.x[-1]]
    assert {v.labels["method"] for v in minima} == {"full", "l2_sp"}
    marks = [*named(figures["perplexity"], "bottom"), *named(figures["perplexity"], "open bottom")]
    assert {mark["label"] for mark in marks} == {
        v.sentence for v in minima if v.labels["method"] == "full"
    }
    assert len(marks) == sum(v.labels["method"] == "full" for v in minima)


# ---- published numbers


def pythia(labels: dict[str, Any]) -> dict[str, float]:
    """What the report found, with a little spread over seeds."""
    base, after = (reported("perplexity", bool(rate))[labels["tokens"]] for rate in (0, 1))
    if not labels["learning_rate"]:
        return {"nll_mean": math.log(base)}
    spread = 1 + 0.003 * (labels["seed"] - 1) * (after - base) / after
    learned = {
        "id_loss": 0.5,
        "accuracy": reported("accuracy")[labels["tokens"]],
        "accuracy_se": 0.005,
    }
    return {"nll_mean": math.log(after * spread), "displacement": 0.1, **learned}


def reported(metric: str, tuned: bool = True) -> dict[float, float]:
    """The report's numbers by tokens."""
    mine = replication.builtin("pythia-70m", "wikitext-2")
    return {
        one.tokens: one.value
        for one in mine
        if (one.metric, "learning_rate" in one.labels) == (metric, tuned)
        and (tuned or not one.labels)
    }


def report_points() -> tuple[FineTuning, list[Point]]:
    spec = FineTuning(**FineTuning.presets["Experiment II: Pythia-70M on SST-2"])
    checkpoints = [
        Checkpoint(
            suite="pythia-70m", revision=f"step{tokens // 2097152}",
            location=Location(scheme="path", path="/nowhere"), tokens=tokens,
            weights_sha256=str(tokens), config_sha256="c", tokenizer_sha256="t",
            num_parameters=70_426_624,
        )
        for tokens in map(int, reported("accuracy"))
    ]  # fmt: skip
    return spec, list(spec.plan(Catalogue([Suite(name="pythia-70m", checkpoints=checkpoints)])))


def test_published_numbers_lie_on_the_figures_of_their_suite_and_nowhere_else() -> None:
    spec, points = report_points()
    figures = spec.figures(table_of(points, pythia))
    for name, metric in (
        ("perplexity", "perplexity"),
        ("forgetting", "perplexity_change"),
        ("learned", "accuracy"),
    ):
        marks = named(figures[name], "reference", learning_rate=2e-5)
        assert [row["y"] for row in marks] == list(reported(metric).values())
        measured = [row["y"] for row in named(figures[name], "mean", learning_rate=2e-5)]
        assert measured == pytest.approx([row["y"] for row in marks], rel=0.01)
    assert "published" not in FineTuning(**EXAMPLE).figures(table_of(planned(), sensitive))
    bases = named(figures["perplexity"], "reference", learning_rate=0.0)
    assert [round(row["y"], 1) for row in bases] == [245.8, 111.1, 88.8, 85.4, 86.6]


def test_reproduced_not_reproduced_and_not_comparable_are_told_apart() -> None:
    spec, points = report_points()

    def verdict(change: Callable[[dict[str, Any]], dict[str, float]]) -> Any:
        return next(
            v
            for v in spec.verdicts(table_of(points, change))
            if v.claim == "published numbers reproduced"
        )

    assert verdict(pythia).answer == "yes"
    assert "reproduced within" in verdict(pythia).sentence
    few = verdict(lambda labels: {**pythia(labels), "accuracy_se": 0.02})
    assert few.answer == "undetermined", "460 examples cannot tell 0.05 of accuracy from none"
    off = verdict(
        lambda labels: {**pythia(labels), "nll_mean": pythia(labels)["nll_mean"] + math.log(1.06)}
    )
    assert off.answer == "undetermined"
    assert off.sentence.count("not comparable: the evaluation protocol differs") == 5

    def weaker(labels: dict[str, Any]) -> dict[str, float]:
        found = pythia(labels)
        last = labels["revision"] == "step143000" and labels["learning_rate"]
        return {**found, "nll_mean": found["nll_mean"] - 0.5} if last else found

    assert verdict(weaker).answer == "no"
    assert "not reproduced: the forgetting is more than 20% off" in verdict(weaker).sentence
    rows = spec.figures(table_of(points, weaker))["published"].datasets["cells"]
    cells = {row["column"]: row["label"] for row in rows if row["tokens"] > 2e11}
    assert cells["outcome"] == "not reproduced"
    assert cells["unperturbed perplexity"] == "86.56 (86.56)"
    assert cells["change in perplexity"].endswith("(+305.4)")
