"""A plane of two changes: a point with two intervals each, and lines at zero.

chart = change_plane(Axis("x", "base"), Axis("y", "increase"), lines, row=None, column="gamma")
rows = [{"what": "mean", "x": 0.0, "x_low": -1, "x_high": 1, "y": 0.1, "low": 0, "high": 0.2}]
"""

from __future__ import annotations

from typing import Any

import altair as alt

from ucurve.figures.axes import Axis, encoded_x, encoded_y
from ucurve.figures.colours import NEUTRAL, LineEncoding
from ucurve.figures.layers import filter_rows, interval_tooltips, note_layer, tooltip, zoom
from ucurve.figures.memoized import memoize_chart
from ucurve.figures.panels import faceted, finished


@memoize_chart
def change_plane(
    x: Axis, y: Axis, lines: LineEncoding, *, row: str | None, column: str | None
) -> dict[str, Any]:
    """Return Vega-Lite of a point per value of `lines`, with the intervals of x and y as bars."""
    scale = alt.Scale(domain=list(lines.values), range=lines.colours())
    colour = alt.Color(f"{lines.field}:N", title=lines.title, scale=scale)
    at_x, at_y, mean = encoded_x(x), encoded_y(y), filter_rows("mean")
    tips = [tooltip(lines.field, lines.title)]
    tips += [tooltip(axis.field, axis.title, ".4~g") for axis in (x, y)]
    tips += [tooltip("x_low", f"{x.title}: 95% from", ".4~g"), tooltip("x_high", "to", ".4~g")]
    zero: dict[str, Any] = {"color": NEUTRAL, "strokeDash": [2, 2]}
    layers = [
        mean.mark_point(clip=True, filled=True, size=70, opacity=1)
        .encode(at_x, at_y, colour, tooltip=[*tips, *interval_tooltips()])
        .properties(name="lines")
        .add_params(zoom()),
        mean.transform_filter("isValid(datum.low)")
        .mark_rule(clip=True, opacity=0.6)
        .encode(at_x, alt.Y("low:Q"), alt.Y2("high"), colour),
        mean.transform_filter("isValid(datum.x_low)")
        .mark_rule(clip=True, opacity=0.6)
        .encode(alt.X("x_low:Q"), alt.X2("x_high"), at_y, colour),
        alt.Chart().mark_rule(**zero).encode(y=alt.datum(0)),
        alt.Chart().mark_rule(**zero).encode(x=alt.datum(0)),
        note_layer(bool(row or column)),
    ]
    chart: Any = alt.layer(*layers, data=alt.NamedData("curves")).properties(width=300, height=260)
    return finished(faceted(chart, row, column))
