"""Axes of tokens have readable ticks at every range, and titles of panels never overlap."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import judge_every_kind
import pytest
import vl_convert
from test_zero_tick import mean

from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import kinds
from ucurve.figures import pivot
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.charts import curves
from ucurve.figures.colours import LineEncoding
from ucurve.figures.files import finite
from ucurve.figures.ticks import ticks
from ucurve.figures.zero_tick import with_zero
from ucurve.schemas.explorer import Cell, Pivot, PivotQuery
from ucurve.spec import Figure

LINES = LineEncoding("gamma", "γ", [0.1])
SCALES = ("current_std", "init_std")
PIXELS = 5.2  # per character, less than any font of ours takes

Text = dict[str, Any]


def texts(figure: Figure) -> list[Text]:
    """Every text that Vega draws, with its place in the figure."""
    chart = json.dumps(finite(with_zero(figure).vega_lite()))
    return list(_texts(vl_convert.vegalite_to_scenegraph(chart)["scenegraph"]))


def _texts(node: Text, x: float = 0, y: float = 0, role: str = "") -> Iterator[Text]:
    role = node.get("role") or role
    for item in node.get("items") or []:
        at_x, at_y = x + item.get("x", 0), y + item.get("y", 0)
        if "items" in item or "marktype" in item:
            yield from _texts(item, at_x, at_y, role)
        elif item.get("text") and item.get("opacity", 1):
            yield {**item, "role": role, "x": at_x, "y": at_y}


def drawn(tokens: Sequence[float], width: int = 380, in_panels: bool = False) -> Figure:
    row, column = ("replicate", "scale") if in_panels else (None, None)
    y = Axis("y", "perplexity")
    chart = curves(tokens_axis(), y, LINES, row=row, column=column, width=width)
    rows = [mean(at, 60.0, scale=scale, replicate=0) for at in tokens for scale in SCALES]
    return Figure("Perplexity", "", chart, {"curves": rows})


def tick_labels(figure: Figure, width: float = math.inf) -> list[Text]:
    """The labels of the token axis (of the first panel, which is so wide)."""
    labels = [text for text in texts(figure) if text["role"] == "axis-label"]
    return [text for text in labels if text.get("baseline") == "top" and text["x"] <= width]


@pytest.mark.parametrize(
    ("tokens", "labels"),
    [
        ([7e11], ["700B"]),
        ([2_097_152_000], ["2.1B"]),
        ([5e11, 1e12], ["500B", "600B", "700B", "800B", "900B", "1T"]),
        ([2.097e9, 4.194e9, 8.389e9], ["4B", "6B", "8B"]),
        ([2.9e11, 3e11], ["290B", "292B", "294B", "296B", "298B", "300B"]),
        ([1e12, 1.002e12], ["1T", "1.0005T", "1.001T", "1.0015T", "1.002T"]),
        ([262_144, 370_688], ["0.26M", "0.28M", "0.3M", "0.32M", "0.34M", "0.36M"]),
        ([1e9, 1e10], ["1B", "2B", "5B", "10B"]),
        ([2e6, 3e8, 3e11], ["10M", "100M", "1B", "10B", "100B"]),
        ([0, 7e11], ["0", "700B"]),
        ([0, 2.097e9, 4.194e9, 8.389e9], ["0", "4B", "6B", "8B"]),
        ([0, 5e11, 1e12], ["0", "500B", "600B", "700B", "800B", "900B", "1T"]),
    ],
)
def test_an_axis_of_tokens_has_these_ticks(tokens: list[float], labels: list[str]) -> None:
    assert [text["text"] for text in tick_labels(drawn(tokens))] == labels


@pytest.mark.parametrize(("width", "in_panels"), [(160, True), (620, False)])
def test_two_checkpoints_however_far_apart_have_three_ticks_that_do_not_overlap(
    width: int, in_panels: bool
) -> None:
    for first in (1.1e6, 9.9e11):
        for ratio in (1.01, 1.4, 3.7, 9.9, 31, 3e5):
            labels = tick_labels(drawn([first, first * ratio], width, in_panels), width)
            written = [text["text"] for text in labels]
            assert len(set(written)) == len(written) >= 3, (first, ratio, written)
            assert not overlapping(labels), (first, ratio, written)


def overlapping(line: Sequence[Text]) -> list[tuple[str, str]]:
    """The pairs of neighbours in a line of texts of which one begins in the other."""
    ends = [(*_ends(text), str(text["text"])) for text in line]
    return [(a, b) for (_, end, a), (start, _, b) in itertools.pairwise(ends) if end > start]


def _ends(text: Text) -> tuple[float, float]:
    lines = text["text"] if isinstance(text["text"], list) else [text["text"]]
    wide = PIXELS * max(len(line) for line in lines)
    left = {"left": 0.0, "right": wide}.get(text.get("align", "left"), wide / 2)
    return text["x"] - left, text["x"] - left + wide


@pytest.mark.parametrize("low", [1.0, 2.097e9, 9.5e9])
def test_ticks_are_within_their_range_and_at_least_three(low: float) -> None:
    for power in range(1, 120):
        high = low * 1.0007**power**1.5
        values = ticks(low, high)
        assert values == sorted(set(values))
        assert len(values) >= 3
        assert low * (1 - 1e-9) <= values[0] < values[-1] <= high * (1 + 1e-9)
    assert ticks(low, low) == [low]


def test_the_explorer_has_the_same_ticks_over_tokens() -> None:
    cells = [
        Cell(row=tokens, column=None, value=1.0, low=None, high=None, num=1, missing=0)
        for tokens in (2.097e9, 4.194e9, 8.389e9)
    ]
    table = Pivot(cells=cells, num_points=3, averaged_over={}, repeated_over={})
    figure = pivot.figure(table, PivotQuery(rows="tokens"))
    assert [text["text"] for text in tick_labels(figure)] == ["4B", "6B", "8B"]


def titles(figure: Figure) -> list[Text]:
    """The level titles of panels that lie beside one another."""
    return [
        text for text in texts(figure) if text["role"] == "title-text" and not text.get("angle")
    ]


def test_a_long_title_of_a_narrow_panel_takes_two_lines() -> None:
    [first, second] = [text["text"] for text in titles(drawn([1e9, 1e10], 160, True))]
    assert first == ["noise relative to current", "weights (current_std)"]
    assert second == ["noise relative to", "initialisation (init_std)"]
    wide = [text["text"] for text in titles(drawn([1e9, 1e10], 300, True))]
    assert wide[0] == "noise relative to current weights (current_std)"


def test_the_name_of_an_experiment_is_cut_at_its_panel() -> None:
    chart = curves(tokens_axis(), Axis("y", "loss"), LINES, column="experiment", width=200)
    rows = [mean(1e9, 2.0, experiment=f"{side} {'long ' * 20}") for side in "ab"]
    assert not overlapping(titles(Figure("", "", chart, {"curves": rows})))


def test_a_note_ends_at_its_panel() -> None:
    figure = drawn([1e9, 1e10], 160, True)
    label = "of 240: 112 not measured yet, 13 failed, 5 not finite"
    notes = [{"what": "note", "label": label, "scale": scale, "replicate": 0} for scale in SCALES]
    figure.datasets["curves"].extend(notes)
    limits = [text["limit"] for text in texts(figure) if "not measured" in str(text["text"])]
    assert limits == [160, 160]


@pytest.mark.parametrize("num_checkpoints", [1, 2, 5])
def test_titles_of_a_heat_map_do_not_overlap_however_few_its_checkpoints(
    num_checkpoints: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = (1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000)
    monkeypatch.setattr(judge_every_kind, "TOKENS", tokens[:num_checkpoints])
    spec = kinds()["gaussian_perturbation"](scale="both")
    figures = spec.figures(to_frame(judge_every_kind.gaussian_rows()), [])
    for name in ("heat_map", "table", "perplexity"):
        above = titles(figures[name])
        assert len(above) >= 2, name
        level = [text for text in above if text.get("align") != "right"]
        assert not overlapping(level), name
        below = [text for text in texts(figures[name]) if text["text"] == "pre-training tokens"]
        assert not overlapping([text for text in below if not text.get("angle")]), name


def test_a_ratio_below_one_is_no_thousandth_on_an_axis_of_tokens_per_parameter() -> None:
    axis = Axis("ratio", "tokens per parameter", "log", compact=True)
    rows = [{**mean(0, 1.0), "ratio": ratio} for ratio in (0.5, 20.0)]
    figure = Figure("", "", curves(axis, Axis("y", "y"), LINES), {"curves": rows})
    assert [text["text"] for text in tick_labels(figure)] == ["0.5", "1", "2", "5", "10", "20"]
    assert not math.isnan(tick_labels(figure)[0]["x"])
