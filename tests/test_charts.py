"""The chart layer: right numbers, charts that depend on the spec only, distinguishable colours."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert

from ucurve.analysis.curve_rows import curve_rows
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.charts import curves
from ucurve.figures.colours import LineEncoding, ordered_palette
from ucurve.figures.grids import heat_map

LINES = LineEncoding("gamma", "γ", [0.0, 0.1, 0.2], neutral=[0.0])


def chart() -> dict[str, Any]:
    return curves(tokens_axis(), Axis("y", "perplexity", "log"), LINES, row="replicate")


def table(losses: list[float], states: list[str] | None = None) -> pd.DataFrame:
    """One checkpoint, one gamma, a loss per draw."""
    states = states or ["done"] * len(losses)
    return pd.DataFrame(
        {
            "tokens": 1_000_000,
            "gamma": 0.1,
            "replicate": 0,
            "draw": range(len(losses)),
            "nll_mean": losses,
        }
    ).assign(state=states, measurement=range(10, 10 + len(losses)))


def rows(what: str, frame: pd.DataFrame, **options: Any) -> list[dict[str, Any]]:
    made = curve_rows(frame, "tokens", "nll_mean", ["gamma"], facets=["replicate"], **options)
    return [row for row in made if row["what"] == what]


def test_the_mean_is_taken_on_the_loss_and_shown_as_perplexity() -> None:
    [mean] = rows("mean", table([1.0, 2.0, 4.0]), transform=lambda loss, _: np.exp(loss))
    assert mean["y"] == pytest.approx(math.exp(7 / 3))
    # t interval by hand: sd = 1.5275, t(0.975, 2) = 4.3027
    half = 4.302653 * 1.527525 / math.sqrt(3)
    assert (mean["low"], mean["high"]) == pytest.approx(
        (math.exp(7 / 3 - half), math.exp(7 / 3 + half)), rel=1e-5
    )


def test_a_draw_that_is_not_finite_is_counted_at_the_edge_and_never_averaged_away() -> None:
    frame = table([1.0, math.inf, math.nan, 2.0, 3.0], ["done", "done", "done", "failed", "open"])
    assert rows("mean", frame) == []
    [edge] = rows("edge", frame)
    assert (edge["num_nonfinite"], edge["num_failed"], edge["label"], edge["measurement"]) == (
        2,
        1,
        "2×∞, 1 failed",
        11,
    )
    [note] = rows("note", frame)
    assert note["label"] == "of 5: 1 not measured yet, 1 failed, 2 not finite"
    assert [row["measurement"] for row in rows("draw", frame)] == [10], (
        "only a finished, finite draw is a dot"
    )
    json.dumps(curve_rows(frame, "tokens", "nll_mean", ["gamma"]), allow_nan=False)


def test_before_anything_is_measured_every_planned_point_waits_on_the_chart() -> None:
    frame = table([0.0] * 3, ["open"] * 3).drop(columns="nll_mean")
    [waiting] = rows("waiting", frame)
    assert waiting["num_waiting"] == 3
    assert not rows("mean", frame)


def test_one_draw_has_no_band() -> None:
    [mean] = rows("mean", table([1.0]))
    assert mean["low"] is None
    assert mean["high"] is None


def test_a_band_far_beyond_all_points_is_drawn_cut_and_told_whole() -> None:
    heavy = pd.concat(
        [table([2.0, 2.1, 2.2]), table([1.0, 1.2, 40.0]).assign(gamma=0.2)], ignore_index=True
    )
    calm, wild = rows("mean", heavy)
    assert "band_low" not in calm
    assert wild["low"] < 0, "a t interval knows nothing of what a loss can be"
    assert (wild["band_low"], wild["band_high"]) == pytest.approx(
        (1 / 1.3, min(wild["high"], 40 * 1.3))
    )
    drawn = {
        **curves(tokens_axis(), Axis("y", "loss"), LINES),
        "datasets": {"curves": curve_rows(heavy, "tokens", "nll_mean", ["gamma"])},
    }
    assert ">−" not in vl_convert.vegalite_to_svg(drawn), "no axis below zero"


def test_the_chart_is_the_same_every_time_and_holds_no_numbers() -> None:
    assert json.dumps(chart()) == json.dumps(chart())
    assert "datasets" not in chart()
    assert chart()["data"] == {"name": "curves"}
    assert json.dumps(chart()).count('"data": ') == 1, "no layer brings rows of its own"
    assert [param["name"] for param in chart()["params"]] == ["shown", "zoom", "picked"]


@pytest.mark.parametrize("filled", [False, True])
def test_charts_render_without_a_browser(filled: bool) -> None:
    made = (
        curve_rows(table([1.0, 2.0]), "tokens", "nll_mean", ["gamma"], facets=["replicate"])
        if filled
        else []
    )
    svg = vl_convert.vegalite_to_svg({**chart(), "datasets": {"curves": made}})
    assert svg.startswith("<svg")
    assert ("1M" in svg and "pre-training seed 0" in svg) == filled
    cells = [{**row, "label": ""} for row in made if row["what"] == "mean"]
    heat = heat_map(tokens_axis(), LINES, Axis("y", "damage / nats", "symlog"))
    assert vl_convert.vegalite_to_svg({**heat, "datasets": {"cells": cells}}).startswith("<svg")


def test_ordered_colours_are_told_apart_on_white_and_black_by_colour_blind_readers_too() -> None:
    def linear(colour: str) -> np.ndarray:
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.asarray(
            np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        )

    def lab(rgb: np.ndarray) -> np.ndarray:  # CIE L*a*b*, D65
        xyz = (
            np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
            @ rgb
        )
        x, y, z = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 1e-4))
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    blind = {  # Machado et al. 2009, severity 1
        "none": np.eye(3),
        "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    palette = [linear(colour) for colour in ordered_palette(7)]
    luminance = [float(colour @ [0.2126, 0.7152, 0.0722]) for colour in palette]
    assert luminance == sorted(luminance)
    assert min(min(1.05 / (y + 0.05), (y + 0.05) / 0.0556) for y in luminance) > 2.6, (
        "contrast with white and #0e1117"
    )
    for name, matrix in blind.items():
        seen = [lab(np.clip(np.array(matrix) @ colour, 0, 1)) for colour in palette]
        closest = float(min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]))
        assert closest > 7, f"{name}: two of seven colours differ by {closest:.1f}"
