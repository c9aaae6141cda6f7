"""Step 0 has a place beside every logarithmic axis, in every chart that a page or a file draws."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import altair
import fine_tuning_cases
import judge_every_kind
import pandas as pd
import pytest
import vl_convert

from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import kinds
from ucurve.figures import pivot
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.charts import curves
from ucurve.figures.colours import LineEncoding
from ucurve.figures.comparison import _axis
from ucurve.figures.files import finite
from ucurve.figures.pretraining import GROUPS
from ucurve.figures.published import overlay
from ucurve.figures.sweep_charts import by_checkpoint
from ucurve.figures.zero_tick import with_zero
from ucurve.schemas.explorer import Cell, Pivot, PivotQuery
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Figure

LOSSES = {0: 300.0, 1e9: 100.0, 1e10: 60.0, 1e11: 50.0}
LINES = LineEncoding("gamma", "gamma", [0.1])


def mean(tokens: float, y: float, **fields: Any) -> dict[str, Any]:
    row = {"what": "mean", "tokens": tokens, "gamma": 0.1, "y": y, "low": 0.9 * y, "high": 1.1 * y}
    return {**row, "num_draws": 3, **fields}


def figure(rows: list[dict[str, Any]], chart: dict[str, Any] | None = None) -> Figure:
    chart = chart or curves(tokens_axis(), Axis("y", "perplexity", "log"), LINES)
    return Figure("Perplexity", "", chart, {"curves": rows})


def marks(figure: Figure) -> list[dict[str, Any]]:
    """Everything that Vega draws: its type, place and text."""
    chart = json.dumps(finite(with_zero(figure).vega_lite()))
    return list(_items(vl_convert.vegalite_to_scenegraph(chart)["scenegraph"]))


def _items(node: dict[str, Any], role: str = "", kind: str = "") -> Iterator[dict[str, Any]]:
    role, kind = node.get("role") or role, node.get("marktype") or kind
    for item in node.get("items") or []:
        if "items" in item or "marktype" in item:
            yield from _items(item, role, kind)
        else:
            yield {**item, "role": role, "kind": kind}


def points(figure: Figure) -> list[dict[str, Any]]:
    return [one for one in marks(figure) if one["role"] == "mark" and one["kind"] == "symbol"]


def test_step_0_is_drawn_left_of_a_dashed_line_under_a_tick_0() -> None:
    drawn = marks(figure([mean(tokens, loss) for tokens, loss in LOSSES.items()]))
    symbols = [one for one in drawn if one["role"] == "mark" and one["kind"] == "symbol"]
    places = [one["x"] for one in symbols]
    assert places == sorted(places)
    assert len(set(places)) == 4
    assert 0 < places[0] < places[1] - 20
    assert places[-1] < 380
    [zero] = [one for one in drawn if one["role"] == "axis-label" and one.get("text") == "0"]
    assert zero["x"] == pytest.approx(places[0])
    breaks = [one for one in drawn if one["kind"] == "rule" and one.get("strokeDash") == [3, 3]]
    assert [places[0] < one["x"] < places[1] for one in breaks] == [True]


def test_a_value_just_below_the_first_is_no_second_0() -> None:
    drawn = marks(figure([mean(tokens, 60.0) for tokens in (0, 2.097e9, 4.194e9, 8.389e9)]))
    texts = [one.get("text") for one in drawn if one["role"] == "axis-label"]
    assert texts.count("0") == 1
    assert {"4B", "6B", "8B"} <= set(texts)


def test_no_line_or_band_crosses_to_step_0_which_has_a_bar() -> None:
    drawn = marks(figure([mean(tokens, loss) for tokens, loss in LOSSES.items()]))
    lines = [one for one in drawn if one["kind"] == "line"]
    assert min(one["x"] for one in lines if "is 0: false" in one["description"]) > 20
    bars = [one for one in drawn if one["kind"] == "rule" and "from: 270" in str(one)]
    assert len(bars) == 1


def test_a_chart_without_step_0_stays_as_it_is() -> None:
    one = figure([mean(tokens, loss) for tokens, loss in LOSSES.items() if tokens])
    assert with_zero(one) is one
    alone = figure([mean(0, 300.0)])
    assert with_zero(alone) is alone
    linear = figure(
        [mean(0, 1.0), mean(5, 1.0)], curves(Axis("tokens", "n"), Axis("y", "y"), LINES)
    )
    assert with_zero(linear) is linear


def test_an_interval_that_reaches_zero_ends_at_its_place() -> None:
    bottom = {"what": "bottom", "tokens": 1e9, "gamma": 0.1, "y": 90.0, "x_low": 0, "x_high": 1e10}
    drawn = marks(figure([*[mean(*one) for one in LOSSES.items()], bottom]))
    [rule] = [one for one in drawn if "x_low" in one.get("description", "")]
    [zero] = [one for one in drawn if one["role"] == "axis-label" and one.get("text") == "0"]
    assert rule["x"] == pytest.approx(zero["x"])


def test_a_value_of_zero_stands_at_the_foot_of_a_logarithmic_y_axis() -> None:
    rows = [mean(1e9, 0.0), mean(1e10, 2.0), mean(1e11, 200.0)]
    heights = [one["y"] for one in points(figure(rows))]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] > heights[1] + 20


def test_step_0_has_the_first_colour_of_a_sweep() -> None:
    chart = by_checkpoint(Axis("x", "learning rate", "log"), Axis("y", "forgetting"))
    rows = [
        {"what": "mean", "tokens": tokens, "x": rate, "y": 1.0, "low": None, "high": None}
        for tokens in LOSSES
        for rate in (1e-4, 1e-3)
    ]
    colours = [one["fill"] for one in points(figure(rows, chart))]
    assert "NaN" not in str(colours)
    assert len(set(colours)) == 4


def pretraining_rows() -> list[MeasurementRow]:
    saved = [0.0, 1e6, 2e6]
    series = {
        "checkpoint_tokens": saved,
        "checkpoint_nll": [63 * loss + i for loss in (3.0, 2.5, 2.2) for i in range(4)],
        "checkpoint_scored": [63.0] * 12,
        "training_tokens": [0.0, 1e6, 2e6],
        "training_loss": [6.0, 3.0, 2.0],
    }
    series |= {f"rms_{group}": [1.0, 1.1, 1.2] for group in GROUPS}
    metrics = {"training_loss": 2.2, "steps_done": 10.0}
    return [judge_every_kind.row(0, {"replicate": 0, "step": 10}, metrics, **series)]


def fine_tuning_table() -> pd.DataFrame:
    def values(labels: dict[str, Any]) -> dict[str, float]:
        return fine_tuning_cases.sensitive({**labels, "tokens": labels["tokens"] or 5e5})

    suite = fine_tuning_cases.paper()
    every = [checkpoint.revision for checkpoint in suite.checkpoints]
    points = fine_tuning_cases.planned(suite, checkpoints=every, methods=["full", "l2_sp"])
    return fine_tuning_cases.table_of(points, values)


CASES: dict[str, tuple[dict[str, Any], Callable[[], pd.DataFrame]]] = {
    "gaussian_perturbation": ({}, lambda: to_frame(judge_every_kind.gaussian_rows())),
    "fine_tuning": (
        {**fine_tuning_cases.EXAMPLE, "methods": ["full", "l2_sp"]},
        fine_tuning_table,
    ),
    "quantisation": ({}, lambda: to_frame(judge_every_kind.changed_rows(bits=3.0))),
    "sharpness": (
        {"sigmas": [0.01, 0.1]},
        lambda: to_frame(judge_every_kind.sharpness_rows()),
    ),
    "pretraining": ({}, lambda: to_frame(pretraining_rows())),
}


@pytest.mark.parametrize("kind", CASES)
def test_every_figure_of_every_type_keeps_its_points_apart(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_every_kind, "TOKENS", (0, 1_000_000, 2_000_000, 8_000_000))
    fields, table = CASES[kind]
    figures = kinds()[kind](**fields).figures(table(), [])
    changed = {name: with_zero(drawn) for name, drawn in figures.items()}
    over_tokens = {n: one for n, one in changed.items() if "beside 0" in json.dumps(one.chart)}
    assert len(over_tokens) > 2
    for name, drawn in over_tokens.items():
        altair.Chart.from_dict(drawn.vega_lite())  # valid Vega-Lite
        placed = {round(one["x"]) for one in points(drawn) if "x" in one}
        assert len(placed) > 2, name
        assert all(-15 <= place <= 2000 for place in placed), name


def test_the_explorer_and_a_comparison_keep_a_logarithmic_axis_with_step_0() -> None:
    cells = [
        Cell(row=tokens, column=None, value=loss, low=None, high=None, num=1, missing=0)
        for tokens, loss in LOSSES.items()
    ]
    found = Pivot(cells=cells, num_points=4, averaged_over={}, repeated_over={})
    places = [one["x"] for one in points(pivot.figure(found, PivotQuery(rows="tokens")))]
    assert places == sorted(places)
    assert places[1] - places[0] > 20
    assert places[2] - places[1] > 100
    table = pd.DataFrame({"side": ["1"] * 3, "tokens_per_parameter": [0.0, 1.0, 20.0]})
    assert _axis([], table, "tokens_per_parameter").scale == "log"


def test_a_reference_at_step_0_has_a_place_too() -> None:
    from ucurve.analysis.replication import Reference

    chart = curves(tokens_axis(), Axis("y", "perplexity", "log"), LINES, metric="perplexity")
    plain = figure([mean(tokens, loss) for tokens, loss in LOSSES.items() if tokens], chart)
    published = Reference(
        source="a paper",
        suite="s",
        evaluation=None,
        metric="perplexity",
        tokens=0,
        value=200.0,
        labels={"gamma": 0.1},
    )
    [drawn] = overlay({"perplexity": plain}, [published]).values()
    crosses = [one for one in points(drawn) if one.get("shape") == "cross"]
    assert [0 < one["x"] < 20 for one in crosses] == [True]
