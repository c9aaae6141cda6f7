"""Altair charts that depend on the spec only: every `data` is a name, so new rows keep the zoom.

lines = LineEncoding("gamma", "γ", [0.05, 0.1])
chart = curves(tokens_axis(), Axis("y", "loss / nats"), lines, row="replicate")
rows = curve_rows(table, x="tokens", value="nll_mean", by=["gamma"], facets=["replicate"])
Figure(title, caption, chart, {"curves": rows})
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, ParamSpec

import altair as alt
import numpy as np

from ucurve.formatting import LABEL_TITLES

# Blue to orange, lighter upwards, for white and black pages; ordered for colour-blind people too.
ORDERED = ["#3050c8", "#5c58ac", "#80598e", "#a2546e", "#bb5e57", "#cd7442", "#e08a10"]
DISTINCT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d31", "#7f7f7f"]  # after Okabe and Ito
NEUTRAL = "#808080"

# No colour of text, axis or background: the page sets them through Vega's config.
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "view": {"stroke": None, "continuousWidth": 380, "continuousHeight": 260},
    "axis": {
        "gridOpacity": 0.25,
        "tickSize": 4,
        "titleFontWeight": "normal",
        "labelOverlap": "greedy",
        "labelSeparation": 4,
    },
    "legend": {"titleFontWeight": "normal", "symbolOpacity": 1, "symbolStrokeWidth": 2.5},
    "header": {"titleFontWeight": "normal", "labelPadding": 18},
}

P = ParamSpec("P")
Scale = Literal["linear", "log", "symlog"]
NOTE: dict[str, Any] = {
    "align": "left",
    "baseline": "bottom",
    "color": NEUTRAL,
    "clip": False,
    "x": 2,
    "y": -4,
}
COMPACT = (
    "datum.value == 0 ? '0' : datum.value >= 1e12 ? format(datum.value / 1e12, '.3~r') + 'T'"
    " : datum.value >= 1e9 ? format(datum.value / 1e9, '.3~r') + 'B'"
    " : datum.value >= 1e5 ? format(datum.value / 1e6, datum.value < 1e6 ? '.1~r' : '.3~r') + 'M'"
    " : format(datum.value, '.3~s')"
)
PANELS = {  # Vega expressions of facet titles
    "tokens": f"({COMPACT}) + ' tokens'",
    "scale": "datum.value == 'current_std' ? 'noise relative to current weights (current_std)'"
    " : datum.value == 'init_std' ? 'noise relative to initialisation (init_std)'"
    " : 'noise scale ' + datum.value",
}


@dataclass(frozen=True)
class Axis:
    """A quantitative axis: field, title with unit, and scale ("symlog" is linear near 0)."""

    field: str
    title: str
    scale: Scale = "linear"
    compact: bool = False  # 917504 -> 0.9M
    zero: bool = False
    constant: float = 1.0  # of symlog: below it the scale is about linear


def tokens_axis() -> Axis:
    """Return the axis of pre-training tokens, logarithmic, as 0.9M or 2.1B."""
    return Axis("tokens", "pre-training tokens", "log", compact=True)


@dataclass(frozen=True)
class LineEncoding:
    """The field that distinguishes lines, and its values in the spec; `neutral` ones are grey."""

    field: str
    title: str
    values: Sequence[float | int | str]
    ordered: bool = True
    neutral: Sequence[float | int | str] = ()

    def colours(self) -> list[str]:
        """Return a colour per value: sequential when ordered, else distinct."""
        coloured = [value for value in self.values if value not in self.neutral]
        palette = (
            ordered_palette(len(coloured))
            if self.ordered
            else [DISTINCT[i % 6] for i in range(len(coloured))]
        )
        by_value = dict(zip(coloured, palette, strict=True))
        return [by_value.get(value, NEUTRAL) for value in self.values]


def ordered_palette(num: int) -> list[str]:
    """Return `num` colours from blue (low) to orange (high)."""
    anchors = np.array(
        [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in ORDERED], dtype=float
    )
    at = np.linspace(0, len(ORDERED) - 1, num) if num > 1 else np.array([len(ORDERED) - 1.0])
    channels = np.stack(
        [np.interp(at, np.arange(len(ORDERED)), anchors[:, k]) for k in range(3)], axis=1
    )
    return ["#" + "".join(f"{round(channel):02x}" for channel in colour) for colour in channels]


MAX_CHARTS = 200  # per kind of chart


def memoize_chart(draw: Callable[P, dict[str, Any]]) -> Callable[P, dict[str, Any]]:
    """Cache charts by their arguments: Altair takes a third of a second per chart.

    At most MAX_CHARTS: titles and axes come from the data of any experiment.
    """
    drawn: OrderedDict[str, str] = OrderedDict()

    @wraps(draw)
    def again(*args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        key = repr((args, sorted(kwargs.items())))
        text = drawn.pop(key, None) or json.dumps(draw(*args, **kwargs))
        drawn[key] = text  # the last one used is the last one dropped
        while len(drawn) > MAX_CHARTS:
            drawn.popitem(last=False)
        chart: dict[str, Any] = json.loads(text)
        return chart

    return again


@memoize_chart
def curves(
    x: Axis,
    y: Axis,
    lines: LineEncoding,
    *,
    dataset: str = "curves",
    row: str | None = None,
    column: str | None = None,
    dash: str | None = None,
    also: Sequence[str] = (),
    zero_line: bool = False,
    width: int = 380,
    height: int = 260,
    metric: str = "",
) -> dict[str, Any]:
    """Return Vega-Lite of lines with bands, draws, minima and edge marks, from `curve_rows`.

    row, column: fields to facet by; dash: a field encoded by dashes; also: further tooltip fields.
    Parameters that the page can read: "zoom" (drag and wheel), "shown" (a click on the legend) and
    "picked" (a click on a mark: its `measurement`). metric: the metric on the y axis, for reference
    curves (see `published`).
    """
    selected = alt.selection_point(name="shown", fields=[lines.field], bind="legend", toggle="true")
    layers = [
        layer.encode(color=_line_colour(lines))
        for layer in _layers(x, y, lines, selected, dash, also, height)
    ]
    layers.append(note_layer())
    if zero_line:
        layers.append(
            alt.Chart().mark_rule(color=NEUTRAL, strokeDash=[2, 2]).encode(y=alt.datum(0))
        )
    layers[0] = (
        layers[0]
        .properties(name="lines")
        .add_params(selected, alt.selection_interval(name="zoom", bind="scales"))
    )
    chart = alt.layer(*layers, data=alt.NamedData(dataset))
    sized = chart.properties(
        width="container" if width == 0 and not (row or column) else width, height=height
    )
    base = lines.neutral[0] if lines.neutral else None
    shows = {
        "metric": metric,
        "line": lines.field,
        "base": base,
        "facets": [field for field in (row, column) if field],
    }
    drawn = finished(faceted(sized, row, column))
    return {**drawn, **({"usermeta": shows} if metric else {})}


def _line_colour(lines: LineEncoding) -> Any:
    """Return the colour of a line, with a legend that names the unperturbed model."""
    return alt.Color(
        f"{lines.field}:O" if lines.ordered else f"{lines.field}:N",
        title=lines.title,
        scale=alt.Scale(domain=list(lines.values), range=lines.colours()),
        legend=alt.Legend(labelExpr=_base(lines)),
    )


def note_layer() -> Any:
    """Return the text above a panel: how many evaluations are missing, failed or not finite."""
    text = alt.expr(r"replace(datum.label, /^of (\d+): /, '$1 evaluations: ')")
    return filter_rows("note").mark_text(text=text, **NOTE)


def _layers(
    x: Axis,
    y: Axis,
    lines: LineEncoding,
    selected: Any,
    dash: str | None,
    also: Sequence[str],
    height: int,
) -> list[Any]:
    """Return bands, lines, draws, references, minima, edge marks and ticks: a layer per type."""
    at_x, at_y = encoded_x(x), encoded_y(y)
    place = [tooltip(lines.field, lines.title), tooltip(x.field, x.title, ",")]
    place += [tooltip(dash)] if dash else []
    names = [*place, *(tooltip(field) for field in also)]
    value, measurement = tooltip(y.field, y.title, ".4~g"), tooltip("measurement")
    dashed = {"strokeDash": alt.StrokeDash(f"{dash}:N", title=dash)} if dash else {}
    detail = {"detail": alt.Detail(f"{dash}:N")} if dash else {}
    picked = alt.selection_point(name="picked", fields=["measurement"], on="click", toggle=False)
    mean = filter_rows("mean")
    minimum, down = tooltip("label", "minimum"), {"shape": "triangle-down"}

    def faded(opacity: float) -> Any:
        return alt.when(selected).then(alt.value(opacity)).otherwise(alt.value(opacity / 12))

    def dots(row_type: str, opacity: float, *tips: Any, **mark: Any) -> Any:
        labels = names if row_type in ("mean", "draw") else place  # others are not measured
        encoding = {"opacity": faded(opacity), "tooltip": [*labels, value, *tips]}
        return (
            filter_rows(row_type)
            .mark_point(clip=True, **{"filled": True, **mark})
            .encode(at_x, at_y, **encoding)
        )

    return [
        band_layer(mean)
        .mark_area(clip=True)
        .encode(at_x, alt.Y("from:Q"), alt.Y2("to"), opacity=faded(0.18), **detail),
        mean.mark_line(clip=True, strokeWidth=2).encode(at_x, at_y, opacity=faded(1), **dashed),
        dots("mean", 1, *_interval_tips(), size=36),
        dots("draw", 0.4, measurement, size=22).properties(name="draws").add_params(picked),
        _error_bars(at_x, y.scale == "log").encode(opacity=faded(0.7)),
        dots("reference", 1, tooltip("label", "source"), shape="cross", filled=False, size=60),
        filter_rows("bottom")
        .mark_rule(clip=True, strokeWidth=3)
        .encode(alt.X("x_low:Q"), alt.X2("x_high"), at_y, opacity=faded(0.7)),
        dots("open bottom", 1, minimum, size=140, filled=False, strokeWidth=1.5, **down),
        dots("bottom", 1, minimum, size=110, **down),
        *_gap_layers(at_x, names, faded, height),
    ]


def _error_bars(at_x: Any, is_log: bool) -> Any:
    """Return the intervals of crosses; on a log axis, only those above 0 have a place."""
    bars = filter_rows("reference").transform_filter("isValid(datum.error_low)")
    if is_log:
        bars = bars.transform_filter("datum.error_low > 0")
    return bars.mark_rule(clip=True).encode(at_x, alt.Y("error_low:Q"), alt.Y2("error_high"))


def _interval_tips() -> list[Any]:
    """Return the tooltip lines of a mean: its 95% interval and the number of seeds."""
    low, high = tooltip("low", "95% interval from", ".4~g"), tooltip("high", "to", ".4~g")
    return [low, high, tooltip("num_draws")]


def _gap_layers(at_x: Any, names: list[Any], faded: Callable[[float], Any], height: int) -> Any:
    """Return marks at the top for values that are not drawn, and ticks for missing ones."""
    edge, slot = filter_rows("edge"), alt.expr("8 + 12 * datum.slot")
    tips = [*names, tooltip("label", "not drawn"), tooltip("measurement")]
    waiting = [*names, tooltip("num_waiting", "not measured yet")]
    return [
        edge.mark_point(shape="triangle-up", filled=True, size=60, clip=False, y=slot).encode(
            at_x, opacity=faded(1), tooltip=tips
        ),
        edge.mark_text(align="left", dx=6, fontSize=9, clip=False, y=slot).encode(
            at_x, opacity=faded(1), text="label:N"
        ),
        filter_rows("waiting")
        .mark_tick(orient="vertical", size=6)
        .encode(at_x, y=alt.value(height - 3), opacity=faded(0.3), tooltip=waiting),
    ]


def tooltip(field: str, title: str | None = None, number: str | None = None) -> Any:
    """Return a tooltip line; `number` is the format of a quantity."""
    options: dict[str, Any] = {"format": number} if number else {}
    return alt.Tooltip(
        f"{field}:{'Q' if number else 'N'}",
        title=title or LABEL_TITLES.get(field, field),
        **options,
    )


def band_layer(chart: Any) -> Any:
    """Return the chart with the clipped ends of bands, from and to: see `clip_bands`."""
    ends = {"from": "low", "to": "high"}
    drawn = {
        end: f"isValid(datum.band_{name}) ? datum.band_{name} : datum.{name}"
        for end, name in ends.items()
    }
    return chart.transform_calculate(**drawn)


def filter_rows(row_type: str) -> Any:
    """Return a chart of the rows of one type only."""
    return alt.Chart().transform_filter(alt.datum.what == row_type)


def encoded_x(axis: Axis) -> Any:
    return alt.X(
        f"{axis.field}:Q",
        title=axis.title,
        scale=_scale(axis, nice=False, padding=12),
        axis=_axis(axis),
    )


def encoded_y(axis: Axis) -> Any:
    room = (
        {"nice": True} if axis.scale == "linear" else {"nice": False, "padding": 8}
    )  # no line on the very edge
    return alt.Y(f"{axis.field}:Q", title=axis.title, scale=_scale(axis, **room), axis=_axis(axis))


def _scale(axis: Axis, **options: Any) -> Any:
    if axis.scale == "symlog":
        options["constant"] = axis.constant
    if axis.scale != "log":
        options["zero"] = axis.zero
    return alt.Scale(type=axis.scale, **options)


def _axis(axis: Axis) -> Any:
    if axis.compact and axis.scale == "log":
        return alt.Axis(
            labelExpr=COMPACT, values=[m * 10**e for e in range(3, 15) for m in (1, 2, 5)]
        )
    if axis.compact:
        return alt.Axis(labelExpr=COMPACT)
    if axis.scale == "symlog":  # Vega's own ticks are those of a linear scale: all at the top
        steps = [
            m * 10.0**e for e in range(-6, 9) for m in (1, 2, 5) if m * 10.0**e >= axis.constant
        ]
        return alt.Axis(
            values=[*(-step for step in reversed(steps)), 0, *steps],
            labelExpr="format(datum.value, '.3~r')",
        )
    return alt.Axis()


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
    tips[3:3] = _interval_tips()
    colour = alt.Color(f"{value.field}:Q", title=value.title, scale=_scale(value, scheme="viridis"))
    filled = alt.Chart().transform_filter(f"isValid(datum.{value.field})").mark_rect()
    empty = alt.Chart().transform_filter(f"!isValid(datum.{value.field})").mark_text(color=NEUTRAL)
    open_sign = (
        alt.Chart()
        .transform_filter("datum.low <= 0 && datum.high >= 0")
        .mark_text(text="±", color="white", fontSize=13)
    )
    layers = [
        filled.encode(*at, colour, tooltip=tips),
        empty.encode(*at, text="label:N", tooltip=tips),
    ]
    layers.append(open_sign.encode(*at, tooltip=tips))
    return _gridded(alt.layer(*layers, data=alt.NamedData(dataset)), row, column, width)


def _base(lines: LineEncoding) -> str:
    """Return the Vega expression of a legend label: neutral values are the unperturbed model."""
    neutral = " || ".join(f"datum.value == {json.dumps(value)}" for value in lines.neutral)
    return f"({neutral})? 'unperturbed' : datum.label" if neutral else "datum.label"


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
        axis=alt.Axis(orient="top", labelAngle=0, labelExpr=_base(x), domain=False, ticks=False),
    )
    lines = alt.Y(
        f"{y.field}:O", title=y.title, axis=alt.Axis(labelExpr=COMPACT, domain=False, ticks=False)
    )
    text = alt.expr("indexof(datum.label, 'nan') < 0 ? datum.label : 'not finite'")
    texts = alt.Chart().mark_text(text=text, color=NEUTRAL, fontSize=12).encode(columns, lines)
    return _gridded(alt.layer(texts, data=alt.NamedData(dataset)), row, column, width)


def _gridded(chart: Any, row: str | None, column: str | None, width: int = 46) -> dict[str, Any]:
    """Return the chart with cells of a fixed size, faceted."""
    chart = chart.properties(width={"step": width}, height={"step": 26})
    return finished(faceted(chart, row, column))


def faceted(chart: Any, row: str | None, column: str | None) -> Any:
    """Return the chart in panels by the given fields, or as it is."""
    fields = {"row": row, "column": column}
    panels = {name: facet(field) for name, field in fields.items() if field}
    return chart.facet(**panels) if panels else chart


def facet(field: str) -> Any:
    """Return panels by a field, with their titles."""
    label = PANELS.get(field, f"'{LABEL_TITLES.get(field, field)} ' + datum.value")
    return alt.Facet(f"{field}:N", header=alt.Header(title=None, labelExpr=label))


def finished(chart: Any) -> dict[str, Any]:
    """Return plain Vega-Lite with this module's config, regardless of enabled themes."""
    spec: dict[str, Any] = chart.to_dict()
    return {**spec, "config": CONFIG}
