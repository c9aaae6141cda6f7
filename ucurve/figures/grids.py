"""Grids over checkpoints: a heat map, and a table of texts that is also a figure."""

from __future__ import annotations

from typing import Any

import altair as alt

from ucurve.figures.axes import COMPACT, Axis, encoded_scale
from ucurve.figures.colours import NEUTRAL, LineEncoding, label_expression
from ucurve.figures.layers import interval_tooltips, tooltip
from ucurve.figures.memoized import memoize_chart
from ucurve.figures.panels import faceted, finished


@memoize_chart
def heat_map(
    x: Axis,
    y: LineEncoding,
    value: Axis,
    *,
    dataset: str = "cells",
    row: str | None = None,
    column: str | None = None,
    width: int = 46,
) -> dict[str, Any]:
    """Return Vega-Lite of `value` over x (ascending) and the ordered values of y.

    None is drawn as its label; ± marks cells whose interval (low, high) includes zero. A cell is
    `width` pixels wide.
    """
    label = alt.Axis(labelExpr=COMPACT, labelAngle=0) if x.compact else alt.Axis(labelAngle=0)
    at = (
        alt.X(f"{x.field}:O", title=x.title, axis=label),
        alt.Y(f"{y.field}:O", title=y.title, scale=alt.Scale(domain=list(reversed(y.values)))),
    )
    tips = [
        tooltip(x.field, x.title, ","),
        tooltip(y.field, y.title),
        tooltip(value.field, value.title, ".4~g"),
        tooltip("label"),
    ]
    tips[3:3] = interval_tooltips()
    colour = alt.Color(
        f"{value.field}:Q", title=value.title, scale=encoded_scale(value, scheme="viridis")
    )
    filled = alt.Chart().transform_filter(f"isValid(datum.{value.field})").mark_rect()
    empty = alt.Chart().transform_filter(f"!isValid(datum.{value.field})").mark_text(color=NEUTRAL)
    open_sign = (
        alt.Chart()
        .transform_filter("isValid(datum.low) && datum.low <= 0 && datum.high >= 0")
        .mark_text(text="±", color="white", fontSize=13)
    )
    layers = [
        filled.encode(*at, colour, tooltip=tips),
        empty.encode(*at, text="label:N", tooltip=tips),
    ]
    layers.append(open_sign.encode(*at, tooltip=tips))
    return _gridded(alt.layer(*layers, data=alt.NamedData(dataset)), row, column, width)


@memoize_chart
def text_table(
    y: Axis,
    x: LineEncoding,
    *,
    dataset: str = "cells",
    row: str | None = None,
    column: str | None = None,
    width: int = 46,
) -> dict[str, Any]:
    """Return Vega-Lite of the rows' `label` in a grid: a table that is also a figure.

    A column per value of x, `width` pixels wide.
    """
    columns = alt.X(
        f"{x.field}:O",
        title=x.title,
        scale=alt.Scale(domain=list(x.values)),
        axis=alt.Axis(
            orient="top", labelAngle=0, labelExpr=label_expression(x), domain=False, ticks=False
        ),
    )
    names = {"labelExpr": COMPACT} if y.compact else {"labelLimit": 420}
    axis = alt.Axis(**names, domain=False, ticks=False)
    lines = alt.Y(f"{y.field}:O", title=y.title or None, axis=axis)
    text = alt.expr("indexof(datum.label, 'nan') < 0 ? datum.label : 'not finite'")
    texts = alt.Chart().mark_text(text=text, color=NEUTRAL, fontSize=12).encode(columns, lines)
    return _gridded(alt.layer(texts, data=alt.NamedData(dataset)), row, column, width)


def _gridded(chart: Any, row: str | None, column: str | None, width: int = 46) -> dict[str, Any]:
    """Return the chart with cells of a fixed size, faceted."""
    chart = chart.properties(width={"step": width}, height={"step": 26})
    return finished(faceted(chart, row, column, low=True))
