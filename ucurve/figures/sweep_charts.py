"""Charts of a sweep: a line per checkpoint, coloured by its tokens, or a line per method.

    rate = Axis("learning_rate", "learning rate", "log")
    chart = by_checkpoint(rate, Axis("y", "forgetting / nats"), row="replicate")
    rows = [{"what": "mean", "tokens": 894976, "learning_rate": 1e-3, "y": 0.21, "replicate": 0}]

Lines go from small learning rates to large ones, regardless of the axes. `what`: mean, draw, edge,
note as in `charts`; dominated: a mean off the Pareto front.
"""

from __future__ import annotations

from typing import Any

import altair as alt

from ucurve.figures.axes import COMPACT, Axis, encoded_x, encoded_y
from ucurve.figures.colours import ORDERED, LineEncoding
from ucurve.figures.layers import band_layer, filter_rows, note_layer, tooltip
from ucurve.figures.memoized import memoize_chart
from ucurve.figures.panels import faceted, finished


@memoize_chart
def by_checkpoint(
    x: Axis, y: Axis, *, row: str | None = None, column: str | None = None, zero_line: bool = False
) -> dict[str, Any]:
    """Return Vega-Lite of lines over x and y per checkpoint, from blue (few tokens) to orange."""
    scale = alt.Scale(type="log", range=ORDERED)
    colour = alt.Color(
        "tokens:Q",
        title="tokens",
        scale=scale,
        legend=alt.Legend(type="gradient", labelExpr=COMPACT),
    )
    return _swept(x, y, colour, "tokens", row, column, zero_line)


@memoize_chart
def by_method(
    x: Axis,
    y: Axis,
    lines: LineEncoding,
    *,
    row: str | None = None,
    column: str | None = None,
    dots: bool = True,
) -> dict[str, Any]:
    """Return Vega-Lite of lines over x and y, one per method (or per value of `lines`)."""
    scale = alt.Scale(domain=list(lines.values), range=lines.colours())
    colour = alt.Color(f"{lines.field}:N", title=lines.title, scale=scale)
    return _swept(x, y, colour, lines.field, row, column, zero_line=False, dots=dots)


def _swept(
    x: Axis,
    y: Axis,
    colour: Any,
    by: str,
    row: str | None,
    column: str | None,
    zero_line: bool,
    dots: bool = True,
) -> dict[str, Any]:
    at = (encoded_x(x), encoded_y(y))
    names = [tooltip(name) for name in ("method", "learning_rate", "alpha", "num_draws")]
    tips = [tooltip("tokens", "tokens", ","), *names]
    tips += [tooltip(axis.field, axis.title, ".4~g") for axis in (x, y)]
    silent = colour.copy()
    if by == "tokens":  # a legend of dots and lines cannot be a gradient
        silent.legend = None
    detail, order = alt.Detail([f"{by}:N", "line:N"]), alt.Order("order:Q")
    mean, zoom = filter_rows("mean"), alt.selection_interval(name="zoom", bind="scales")
    layers = [
        mean.mark_line(clip=True, strokeWidth=2 if dots else 1)
        .encode(*at, silent, detail, order)
        .properties(name="lines")
        .add_params(zoom),
        band_layer(mean)
        .mark_rule(clip=True, opacity=0.5)
        .encode(at[0], alt.Y("from:Q"), alt.Y2("to"), silent, detail),
        mean.mark_point(clip=True, filled=True, size=36 if dots else 6, opacity=1).encode(
            *at, colour, tooltip=tips
        ),
        filter_rows("dominated")
        .mark_point(clip=True, filled=False, size=36, opacity=0.7)
        .encode(*at, silent, tooltip=tips),
        _draws(*at, silent, tips),
        _not_drawn(at[0], silent, tips[:4]),
        note_layer(bool(row or column)),
    ]
    if zero_line:
        layers.append(alt.Chart().mark_rule(strokeDash=[2, 2], opacity=0.6).encode(y=alt.datum(0)))
    chart: Any = alt.layer(*layers, data=alt.NamedData("curves")).properties(width=380, height=260)
    if by == "tokens":
        chart = chart.resolve_legend(color="independent")
    return finished(faceted(chart, row, column))


def _draws(x: Any, y: Any, colour: Any, tips: list[Any]) -> Any:
    """Return a dot per seed; a click selects its evaluation."""
    picked = alt.selection_point(name="picked", fields=["measurement"], on="click", toggle=False)
    return (
        filter_rows("draw")
        .mark_point(clip=True, filled=True, size=16, opacity=0.3)
        .encode(x, y, colour, tooltip=[*tips, tooltip("measurement")])
        .properties(name="draws")
        .add_params(picked)
    )


def _not_drawn(x: Any, colour: Any, tips: list[Any]) -> Any:
    """Return triangles at the top for seeds that diverged or failed."""
    tips = [*tips, tooltip("label", "not drawn"), tooltip("measurement")]
    edge = filter_rows("edge").mark_point(
        shape="triangle-up", filled=True, size=60, clip=False, y=8
    )
    return edge.encode(x, colour, tooltip=tips)
