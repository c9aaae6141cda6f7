"""The experiment type `linear_model`: plans, reproducible points, figures and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pytest

from ucurve.analysis.comparison import ComparedExperiment, align_experiments
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import parse
from ucurve.experiments.linear_model import LinearModel
from ucurve.figures import linear_model
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Figure, Point, Result, Verdict

T = TypeVar("T")
SPEC = LinearModel()


class OneProcess:
    """The runtime's side of a run, without a runtime."""

    device = "cpu"
    state_dir = artefacts = Path("/nonexistent")

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def progress(self, done: float, total: float, **metrics: float) -> None:
        pass

    def cached(self, key: str, make: Callable[[], T]) -> T:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


def plan(spec: LinearModel) -> list[Point]:
    return sorted(spec.plan(None), key=lambda point: point.priority_stage)  # type: ignore[arg-type]


def rows_of(points: Iterable[Point], results: Iterable[Result | None]) -> list[MeasurementRow]:
    return [
        MeasurementRow(
            id=position,
            identity=point.identity,
            position=position,
            state="done" if result else "open",
            labels=dict(point.labels),
            metrics=dict(result.metrics) if result else {},
            series={name: list(values) for name, values in result.series.items()} if result else {},
        )
        for position, (point, result) in enumerate(zip(points, results, strict=True))
    ]


def table_of(points: Iterable[Point], results: Iterable[Result | None]) -> pd.DataFrame:
    return to_frame(rows_of(points, results))


@pytest.fixture(scope="module")
def results() -> list[Result]:
    context = OneProcess()
    return [SPEC.run(point, context) for point in plan(SPEC)]


@pytest.fixture(scope="module")
def table(results: list[Result]) -> pd.DataFrame:
    return table_of(plan(SPEC), results)


@pytest.fixture(scope="module")
def verdicts(table: pd.DataFrame) -> list[Verdict]:
    return SPEC.verdicts(table)


def answers(verdicts: list[Verdict], claim: str) -> set[str]:
    return {verdict.answer for verdict in verdicts if verdict.claim == claim}


def test_every_point_has_its_own_identity_and_both_ends_of_every_curve_come_first() -> None:
    points = plan(parse({"kind": "linear_model"}))
    assert len({point.identity for point in points}) == len(points) == 33 * 10
    assert {point.labels["features"] for point in points[:20]} == {0, 32}
    assert {point.labels["features"] for point in points[20:30]} == {16}


def test_a_point_alone_determines_its_number_whatever_was_measured_before(
    results: list[Result],
) -> None:
    points = plan(SPEC)
    for position in (0, 143, 329):
        again = SPEC.run(points[position], OneProcess())
        assert again.metrics == results[position].metrics
        assert again.series == results[position].series


def test_a_change_of_the_protocol_would_move_these_golden_numbers(results: list[Result]) -> None:
    found = {
        tuple(point.labels.values()): result.metrics["mse_mean"]
        for point, result in zip(plan(SPEC), results, strict=True)
        if point.labels["features"] == 10
    }
    golden = {
        (10, "noise", "fixed", 0.08): 2.465028722,
        (10, "noise", "relative", 0.5): 0.799223584,
        (10, "fine-tuning", 0.0): 2.297134664,
    }
    for key, value in golden.items():
        assert found[key] == pytest.approx(value, rel=1e-6)


def test_the_default_experiment_shows_both_effects_and_agrees_with_the_closed_form(
    verdicts: list[Verdict],
) -> None:
    assert answers(verdicts, "progressive sensitivity") == {"yes"}
    assert answers(verdicts, "catastrophic overtraining") == {"yes"}
    assert answers(verdicts, "unperturbed loss rises") == {"no"}
    assert answers(verdicts, "simulation matches the closed form") == {"yes"}
    assert answers(verdicts, "minimum matches the closed form") == {"yes"}


def test_k_star_of_the_spectrum_lies_in_the_bootstrap_interval_of_the_simulated_bottom() -> None:
    spec = LinearModel(snapshots="ideal", relative_gammas=[], l2_sp=[])
    context, points = OneProcess(), plan(spec)
    found = spec.verdicts(table_of(points, [spec.run(point, context) for point in points]))
    strengths = np.geomspace(1.0, 0.05, 32)
    intervals = {
        verdict.scope: verdict.interval
        for verdict in found
        if verdict.claim.startswith("minimum matches")
    }
    for gamma in spec.fixed_gammas:
        low, high = intervals[f"gamma {gamma:g}, fixed noise"] or (np.nan, np.nan)
        assert low <= (strengths > 64 * gamma**2).sum() <= high
        assert high - low <= 6


def test_more_draws_and_targets_are_points_of_their_own_and_say_what_all_of_them_say_together() -> (
    None
):
    spec = LinearModel(
        width=8, num_features=4, fixed_gammas=[0.08], relative_gammas=[0.5], l2_sp=[1.0]
    )
    more = spec.with_more_draws(3)
    assert more is not None
    assert (more.draws, more.targets) == (43, 11)
    first, all_of_them = plan(spec), plan(more)
    known = {point.identity for point in first}
    assert len(all_of_them) == 2 * len(first)
    assert known < {point.identity for point in all_of_them}
    context = OneProcess()
    results = [LinearModel.run(point, context) for point in all_of_them]  # type: ignore[arg-type]
    joined = linear_model.joined(table_of(all_of_them, results))
    assert len(joined) == len(first)
    for row in joined.to_dict(orient="records"):
        [alike] = [p for p in first if all(row[name] == value for name, value in p.labels.items())]
        total = {"draws": 43} if row["part"] == "noise" else {"targets": 11}
        inputs = {**alike.inputs, "change": {**alike.inputs["change"], **total}}
        at_once = LinearModel.run(replace(alike, inputs=inputs), context)  # type: ignore[arg-type]
        assert row["series"]["draws"] == at_once.series["draws"]
        for name in ("mse_mean", "mse_se", "base_mse"):
            assert row[name] == pytest.approx(at_once.metrics[name], rel=1e-12)
    assert {
        verdict.num_draws
        for verdict in more.verdicts(table_of(all_of_them, results))
        if verdict.num_draws
    } == {43, 11}
    over = align_experiments([ComparedExperiment(1, "all", more, rows_of(all_of_them, results))])
    cell = over[(over["features"] == 0) & (over["change"] == over["change"].iloc[0])]
    assert sorted(cell["draw"]) == sorted(f"0:{draw}" for draw in range(43))
    some = [
        None if point.labels.get("draw") else result
        for point, result in zip(all_of_them, results, strict=True)
    ]
    so_far = linear_model.joined(table_of(all_of_them, some))
    assert {len(series["draws"]) for series in so_far["series"]} == {40, 8}
    last = [
        result if point.labels.get("draw") else None
        for point, result in zip(all_of_them, results, strict=True)
    ]
    assert set(linear_model.joined(table_of(all_of_them, last))["state"]) == {
        "open"
    }  # draw 40 is nobody's first
    mixed = [*results[: len(results) // 2], *some[len(results) // 2 :]]
    assert {
        verdict.num_draws
        for verdict in more.verdicts(table_of(all_of_them, mixed))
        if verdict.num_draws
    } <= {40, 8, 43, 11}
    assert (
        more.figures(table_of(all_of_them, some)).keys()
        == more.figures(table_of(all_of_them, results)).keys()
    )


def test_a_simulation_that_is_two_percent_off_is_found_out(table: pd.DataFrame) -> None:
    wrong = table.assign(closed_form=table["closed_form"] * 1.02)
    assert answers(SPEC.verdicts(wrong), "simulation matches the closed form") == {"no"}


def test_a_closed_form_with_another_bottom_is_found_out(table: pd.DataFrame) -> None:
    wrong = table.assign(closed_form=table["closed_form"] + 0.01 * table["features"])
    assert "no" in answers(SPEC.verdicts(wrong), "minimum matches the closed form")


def test_the_chart_is_the_same_for_any_table_and_its_rows_are_the_measured_numbers(
    table: pd.DataFrame,
) -> None:
    first, full = SPEC.figures(to_frame([])), SPEC.figures(table)
    assert {name: figure.chart for name, figure in first.items()} == {
        name: figure.chart for name, figure in full.items()
    }
    assert set(full) >= {"6_fine_tuning", "7_change_fixed_noise", "8_loss_fixed_noise"}
    rows = [
        row for row in full["7_change_fixed_noise"].datasets["curves"] if row.get("gamma") == 0.08
    ]
    measured = table[(table["gamma"] == 0.08) & (table["features"] == 12)].iloc[0]
    (mean,) = [row for row in rows if row["what"] == "mean" and row["features"] == 12]
    (line,) = [row for row in rows if row["what"] == "closed form" and row["features"] == 12]
    assert mean["y"] == pytest.approx(measured["mse_mean"] - measured["base_mse"])
    assert line["y"] == pytest.approx(measured["closed_form"] - measured["base_mse"])
    assert mean["low"] < mean["y"] < mean["high"]


@pytest.mark.parametrize("scale", ["fixed", "relative"])
def test_figure_8_shows_its_u_by_default(
    scale: str, table: pd.DataFrame, verdicts: list[Verdict]
) -> None:
    """Fall and rise take a visible part of the axis."""
    figure = SPEC.figures(table, verdicts)[f"8_loss_{scale}_noise"]
    rows = [row for row in figure.datasets["curves"] if row["what"] == "mean"]
    assert y_of(figure)["scale"]["type"] == "linear"
    values = [row["y"] for row in rows]
    largest = max(row["gamma"] for row in rows)
    curve = {row["features"]: row["y"] for row in rows if row["gamma"] == largest}
    lowest = min(curve.values())
    assert min(curve[0], curve[32]) - lowest > 0.08 * (max(values) - min(values))


def test_axes_name_the_normalisation_of_the_loss(table: pd.DataFrame) -> None:
    figures = SPEC.figures(table)
    numbered = {name: figure for name, figure in figures.items() if name[0] in "678"}
    assert len(numbered) == 6
    for name, figure in numbered.items():
        assert "(½ sum of squared errors)" in y_of(figure)["title"], name


def y_of(figure: Figure) -> dict[str, Any]:
    """The first vertical axis of a figure's chart."""
    layers = figure.chart["layer"]
    axes = [layer["encoding"]["y"] for layer in layers if "y" in layer.get("encoding", {})]
    return next(axis for axis in axes if "title" in axis)


def test_an_unfinished_table_is_drawn_with_what_is_missing_and_says_how_much_it_used(
    results: list[Result],
) -> None:
    partial = table_of(plan(SPEC), [*results[:100], *[None] * 230])
    figures = SPEC.figures(partial, SPEC.verdicts(partial))
    kinds = {row["what"] for row in figures["8_loss_fixed_noise"].datasets["curves"]}
    assert kinds == {"mean", "draw", "waiting", "closed form", "bottom", "note"}
    assert all(
        "not used" in v.sentence
        for v in SPEC.verdicts(partial)
        if v.claim == "catastrophic overtraining" and v.effect
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"num_features": 40},
        {"weakest": 0.001},
        {"fixed_gammas": [], "relative_gammas": [], "l2_sp": []},
        {"draws": 1},
    ],
)
def test_a_spec_that_cannot_be_measured_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        parse({"kind": "linear_model", **fields})


def test_the_law_of_features_fails_where_the_closed_form_says_so_and_both_are_drawn(
    table: pd.DataFrame, verdicts: list[Verdict]
) -> None:
    laws = {
        verdict.scope: verdict
        for verdict in verdicts
        if verdict.claim == "loss increase follows a power law"
    }
    fixed = laws["under fixed noise"]
    assert fixed.law is not None
    assert fixed.law.size_exponent is not None
    assert fixed.answer == "no", "late features are small: their sum saturates"
    assert "features exponent" in fixed.sentence
    exponents = [item.exponent.value for item in fixed.law.size_exponents]
    assert exponents == sorted(exponents, reverse=True)
    assert 2 < exponents[-1] < exponents[0] < 4, "N_k gamma^2, and p n h gamma^4 of all features"
    figures = SPEC.figures(table, verdicts)
    rows = figures["law_fixed_noise"].datasets["curves"]
    place = {"gamma": 0.08, "tokens": 12.0}
    by_type = {row["what"]: row for row in rows if place.items() <= row.items()}
    assert by_type["reference"]["y"] == pytest.approx(by_type["closed form"]["y"], rel=0.1)
    onsets = figures["law_onset_fixed_noise"].datasets["curves"]
    dashes = [row["y"] for row in onsets if row["what"] == "closed form"]
    assert dashes == sorted(dashes, reverse=True), "larger noise, earlier U"
