"""Charts of a sweep: a line per checkpoint or pair of them, coloured by its tokens, or per method.

    rate = Axis("learning_rate", "learning rate", "log")
    chart = by_checkpoint(rate, Axis("y", "forgetting / nats"), row="replicate")
    rows = [{"what": "mean", "tokens": 894976, "learning_rate": 1e-3, "y": 0.21, "replicate": 0}]

Lines go from small learning rates to large ones, regardless of the axes. `what`: mean, draw, edge,
note as in `charts`; dominated: a mean off the Pareto front.
"""

from __future__ import annotations

from typing import Any

import altair as alt

from ucurve.figures.axes import COMPACT, Axis, encoded_x, encoded_y, tokens_axis
from ucurve.figures.colours import DISTINCT, NEUTRAL, ORDERED, LineEncoding
from ucurve.figures.layers import (
    band_layer,
    filter_rows,
    interval_tooltips,
    note_layer,
    tooltip,
    zoom,
)
from ucurve.figures.memoized import memoize_chart
from ucurve.figures.panels import faceted, finished, wrapped


@memoize_chart
def by_checkpoint(
    x: Axis, y: Axis, *, row: str | None = None, column: str | None = None, zero_line: bool = False
) -> dict[str, Any]:
    """Return Vega-Lite of lines over x and y per checkpoint, from blue (few tokens) to orange."""
    return _swept(x, y, _by_tokens(), "tokens", row, column, zero_line)


def _by_tokens() -> Any:
    """Return the colour of a line by its tokens, with dots as its legend.

    A gradient is possible only in a legend per panel, which Vega does not recover when a chart
    begins without a value: its panels stay empty.
    """
    dots = alt.Legend(
        type="symbol",
        symbolType="circle",
        symbolStrokeWidth=0,
        symbolOpacity=1,
        tickCount=6,
        labelExpr=COMPACT,
    )
    return alt.Color(
        "tokens:Q", title="tokens", scale=alt.Scale(type="log", range=ORDERED), legend=dots
    )


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


@memoize_chart
def fronts(
    x: Axis, y: Axis, *, row: str | None = None, column: str | None = None
) -> dict[str, Any]:
    """Return Vega-Lite of Pareto fronts as steps with a band per checkpoint.

    `what`: mean: a rate on the front; end: where its last step ends; band: a step of the band.
    """
    at, colour, order = (encoded_x(x), encoded_y(y)), _by_tokens(), alt.Order("order:Q")
    detail = alt.Detail("tokens:N")
    tips = [tooltip("tokens", "tokens", ","), tooltip("learning_rate"), tooltip("num_draws")]
    tips += [tooltip(axis.field, axis.title, ".4~g") for axis in (x, y)]
    on_front = alt.Chart().transform_filter("datum.what == 'mean' || datum.what == 'end'")
    layers = [
        on_front.mark_line(clip=True, strokeWidth=2, interpolate="step-after")
        .encode(*at, colour, detail, order)
        .properties(name="lines")
        .add_params(zoom()),
        filter_rows("band")
        .mark_area(clip=True, opacity=0.15, interpolate="step-after")
        .encode(at[0], alt.Y("band_low:Q"), alt.Y2("band_high"), colour, detail),
        filter_rows("mean")
        .mark_point(clip=True, filled=True, size=36, opacity=1)
        .encode(*at, colour, tooltip=tips),
        note_layer(bool(row or column)),
    ]
    chart: Any = alt.layer(*layers, data=alt.NamedData("curves")).properties(width=380, height=260)
    return finished(faceted(chart, row, column))


@memoize_chart
def along_lines(x: Axis, y: Axis) -> dict[str, Any]:
    """Return Vega-Lite of a line with a band per pair of checkpoints (field `line`).

    A panel with its own y axis per kind of pair (`between`); tooltips name the ends.
    """
    colour, at = _by_tokens(), (encoded_x(x), encoded_y(y))
    detail, mean = alt.Detail("line:N"), filter_rows("mean")
    ends = _ends()
    ends += [tooltip(x.field, x.title, ".4~g")]
    tips = [*ends, tooltip(y.field, y.title, ".4~g"), *interval_tooltips()[:2]]
    layers = [
        mean.mark_line(clip=True, strokeWidth=2)
        .encode(*at, colour, detail)
        .properties(name="lines")
        .add_params(zoom(encodings=["x"])),
        band_layer(mean)
        .mark_area(clip=True, opacity=0.18)
        .encode(at[0], alt.Y("from:Q"), alt.Y2("to"), colour, detail),
        mean.mark_point(clip=True, filled=True, size=36, opacity=1).encode(
            *at, colour, tooltip=tips
        ),
        _not_drawn(at[0], colour, ends),
        note_layer(True),
    ]
    chart: Any = alt.layer(*layers, data=alt.NamedData("curves")).properties(width=380, height=260)
    return finished(wrapped(chart, "between"))


@memoize_chart
def over_tokens(y: Axis) -> dict[str, Any]:
    """Return Vega-Lite of one number per pair of models with bars, a line per `curve`.

    The colour is that of `between`.
    """
    legend = alt.Legend(orient="bottom", columns=1, labelLimit=300)  # its labels are long
    scale = alt.Scale(range=DISTINCT)
    colour = alt.Color("between:N", title="between", scale=scale, legend=legend)
    at, mean = (encoded_x(tokens_axis()), encoded_y(y)), filter_rows("mean")
    tips = [tooltip("between"), *_ends()]
    tips += [tooltip("t", "position t", ".4~g"), tooltip(y.field, y.title, ".4~g")]
    layers = [
        mean.mark_line(clip=True, strokeWidth=2)
        .encode(*at, colour, alt.Detail("curve:N"))
        .properties(name="lines")
        .add_params(zoom()),
        band_layer(mean)
        .mark_rule(clip=True, strokeWidth=2, opacity=0.6)
        .encode(at[0], alt.Y("from:Q"), alt.Y2("to"), colour),
        mean.mark_point(clip=True, filled=True, size=48, opacity=1).encode(
            *at, colour, tooltip=[*tips, *interval_tooltips()[:2]]
        ),
        alt.Chart().mark_rule(color=NEUTRAL, strokeDash=[2, 2]).encode(y=alt.datum(0)),
    ]
    chart: Any = alt.layer(*layers, data=alt.NamedData("curves"))
    return finished(chart.properties(width=380, height=260))


def _ends() -> list[Any]:
    """Return tooltips that name the ends of a line."""
    names = {"revision": "from", "seed": "from fine-tuning seed"}
    names |= {"to_revision": "to", "to_seed": "to fine-tuning seed"}
    return [tooltip(field, title) for field, title in names.items()]


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
    detail, order = alt.Detail([f"{by}:N", "line:N"]), alt.Order("order:Q")
    mean = filter_rows("mean")
    layers = [
        mean.mark_line(clip=True, strokeWidth=2 if dots else 1)
        .encode(*at, colour, detail, order)
        .properties(name="lines")
        .add_params(zoom()),
        band_layer(mean)
        .mark_rule(clip=True, opacity=0.5)
        .encode(at[0], alt.Y("from:Q"), alt.Y2("to"), colour, detail),
        mean.mark_point(clip=True, filled=True, size=36 if dots else 6, opacity=1).encode(
            *at, colour, tooltip=tips
        ),
        filter_rows("dominated")
        .mark_point(clip=True, filled=False, size=36, opacity=0.7)
        .encode(*at, colour, tooltip=tips),
        _draws(*at, colour, tips),
        _not_drawn(at[0], colour, tips[:4]),
        note_layer(bool(row or column)),
    ]
    if zero_line:
        layers.append(alt.Chart().mark_rule(strokeDash=[2, 2], opacity=0.6).encode(y=alt.datum(0)))
    chart: Any = alt.layer(*layers, data=alt.NamedData("curves")).properties(width=380, height=260)
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
