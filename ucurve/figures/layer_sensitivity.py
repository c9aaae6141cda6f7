"""The figures of noise on one layer at a time: a heat map over tokens and layers, and its table.

figures(table, gamma=0.2, cell_width=46)     # {"by_layer": Figure, "by_layer_table": Figure}
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import altair as alt

from ucurve.analysis.layer_sensitivity import cells
from ucurve.figures.axes import COMPACT, Axis, encoded_scale, tokens_axis
from ucurve.figures.colours import NEUTRAL
from ucurve.figures.layers import interval_tooltips, tooltip
from ucurve.figures.memoized import memoize_chart
from ucurve.figures.panels import faceted, finished
from ucurve.registry.tensors.tensor_selection import AFTER_LAYERS, BEFORE_LAYERS, depth_of
from ucurve.schemas.results import Figure

if TYPE_CHECKING:
    import pandas as pd

NATS = Axis("y", "loss increase / nats", "symlog", constant=0.001)
# Of the colour bar, in Vega: its own steps are those of a linear scale, all at the top. Those
# beyond the colours are moved to their ends, where the overlap hides all but one.
ENDS = "domain('color')"
STEPS = ", ".join(
    f"clamp({value:g}, {ENDS}[0], {ENDS}[1])"
    for value in (-1e9, 0, *(m * 10.0**e for e in range(-3, 4) for m in (1, 2, 5)))
)
STEPS = f"[{STEPS}]"
ROOM = 40  # pixels that a number needs in a cell
ROOM_OF_MARK = 14
HEIGHT, LEAST_HEIGHT, TALLEST = 24, 14, 720  # pixels: of a cell, and of a panel
NAMES = {depth_of(part): part for part in (*BEFORE_LAYERS, *AFTER_LAYERS)}
DEPTH = f"{json.dumps(NAMES)}[datum.value] || 'layer ' + datum.value"  # a Vega expression
TEXT_WIDTH = 100  # pixels of a column of the table
MARKS = (
    "The number is the mean; ± stands for one whose 95% interval over noise seeds and evaluation "
    "text includes zero, brackets for one of a single noise seed, which has no interval. ∞: not "
    "finite; failed: no number; …: not measured yet; no base: the unperturbed model has no loss; "
    "–: gets no noise under this noise scale. Intervals are per cell, not "
    "corrected for the number of cells, and say nothing about other pre-training runs."
)


def figures(table: pd.DataFrame, gamma: float, cell_width: int) -> dict[str, Figure]:
    """Return the heat map and the table of the loss increase under noise on one part at a time.

    cell_width: of the heat map, in pixels; narrow cells have no numbers, only marks.
    """
    rows = cells(table)
    num_parts = len({row["depth"] for row in rows}) or 6  # of a table that has not arrived yet
    height = max(LEAST_HEIGHT, min(HEIGHT, TALLEST // num_parts))
    caption = (
        f"Mean loss increase in nats when noise of gamma {gamma:g} is added to one layer only, or "
        "to the embedding, the final norm or the unembedding."
    )
    narrow = "" if cell_width >= ROOM else " Cells are too narrow for numbers here: see the table."
    return {
        "by_layer": Figure(
            "Loss increase by layer",
            f"{caption} {MARKS}{narrow}",
            _heat_map(cell_width, height),
            {"cells": rows},
        ),
        "by_layer_table": Figure(
            "Loss increase by layer, in numbers",
            f"{caption} ± half the 95% interval over noise seeds and evaluation text. Intervals "
            "are per cell, not corrected for the number of cells.",
            _table(),
            {"cells": [{**row, "label": _text(row)} for row in rows]},
        ),
    }


def _text(row: dict[str, Any]) -> str:
    """Return the label of a cell of the table, which has little room."""
    return str(row["mark"] if row["low"] is None else row["label"].split(",")[0])


@memoize_chart
def _heat_map(width: int, height: int) -> dict[str, Any]:
    """Return Vega-Lite of the cells: a colour and, where it fits, its number or mark."""
    x, y = _places("bottom")
    tips = [
        tooltip("tokens", "pre-training tokens", ","),
        tooltip("part", "part of the model"),
        tooltip("y", NATS.title, ".4~g"),
        *interval_tooltips(),
        tooltip("label", "number"),
    ]
    colour = alt.Color(
        "y:Q",
        title=NATS.title,
        scale=encoded_scale(NATS, scheme="viridis"),
        legend=alt.Legend(values=alt.expr(STEPS), format=".2~r", labelOverlap="greedy"),
    )
    has_number = "isValid(datum.y)"
    chart = alt.Chart()
    filled = chart.transform_filter(has_number).mark_rect().encode(x, y, colour, tooltip=tips)
    shown = f"{width} >= {ROOM} || datum.mark == '±'"
    ink = alt.expr("luminance(scale('color', datum.y)) > 0.35 ? 'black' : 'white'")
    numbers = (
        chart.transform_filter(f"{has_number} && ({shown})")
        .mark_text(fontSize=min(11, height - 3), color=ink)
        .encode(x, y, text="mark:N", tooltip=tips)
    )
    empty = (
        chart.transform_filter(f"!{has_number}")
        .mark_text(fontSize=min(11, height - 3), color=NEUTRAL, limit=max(width, ROOM_OF_MARK))
        .encode(x, y, text="mark:N", tooltip=tips)
    )
    return _gridded([filled, numbers, empty], width, height)


@memoize_chart
def _table() -> dict[str, Any]:
    """Return Vega-Lite of the numbers in a grid."""
    x, y = _places("top")
    texts = alt.Chart().mark_text(color=NEUTRAL, fontSize=12).encode(x, y, text="label:N")
    return _gridded([texts], TEXT_WIDTH, HEIGHT)


def _places(orient: Literal["top", "bottom"]) -> tuple[Any, Any]:
    """Return the axes of a grid: tokens, and the parts of the model from the embedding down."""
    tokens = alt.Axis(orient=orient, labelExpr=COMPACT, labelAngle=0)
    depth = alt.Axis(labelExpr=DEPTH, domain=False, ticks=False)
    return (
        alt.X("tokens:O", title=tokens_axis().title, axis=tokens),
        alt.Y("depth:O", title=None, axis=depth),
    )


def _gridded(layers: list[Any], width: int, height: int) -> dict[str, Any]:
    chart = alt.layer(*layers, data=alt.NamedData("cells"))
    chart = chart.properties(width={"step": width}, height={"step": height})
    return finished(faceted(chart, "replicate", "scale", low=True))
