"""Altair charts that depend on the spec only: every `data` is a name, so new rows keep the zoom.

lines = LineEncoding("gamma", "γ", [0.05, 0.1])
chart = curves(tokens_axis(), Axis("y", "loss / nats"), lines, row="replicate")
rows = curve_rows(table, x="tokens", value="nll_mean", by=["gamma"], facets=["replicate"])
Figure(title, caption, chart, {"curves": rows})
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt

from ucurve.figures.axes import Axis, encoded_x, encoded_y
from ucurve.figures.colours import NEUTRAL, LineEncoding, label_expression
from ucurve.figures.layers import (
    band_layer,
    filter_rows,
    interval_tooltips,
    note_layer,
    tooltip,
    zoom,
)
from ucurve.figures.memoized import memoize_chart
from ucurve.figures.panels import faceted, finished


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
    Parameters that the page can read: "zoom" (see `layers.zoom`), "shown" (a click on the legend)
    and "picked" (a click on a mark: its `measurement`). metric: the metric on the y axis, for
    reference curves (see `published`).
    """
    selected = alt.selection_point(name="shown", fields=[lines.field], bind="legend", toggle="true")
    layers = [
        layer.encode(color=_line_colour(lines))
        for layer in _layers(x, y, lines, selected, dash, also, height)
    ]
    layers.append(note_layer(bool(row or column)))
    if zero_line:
        layers.append(
            alt.Chart().mark_rule(color=NEUTRAL, strokeDash=[2, 2]).encode(y=alt.datum(0))
        )
    layers[0] = layers[0].properties(name="lines").add_params(selected, zoom())
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
        legend=alt.Legend(labelExpr=label_expression(lines)),
    )


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
        dots("mean", 1, *interval_tooltips(), size=36),
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
