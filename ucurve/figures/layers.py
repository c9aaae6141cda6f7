"""Parts that several charts share: tooltips, rows of one type, bands, notes above a panel."""

from __future__ import annotations

from typing import Any

import altair as alt

from ucurve.figures.colours import NEUTRAL
from ucurve.formatting import LABEL_TITLES

NOTE: dict[str, Any] = {
    "align": "left",
    "baseline": "bottom",
    "color": NEUTRAL,
    "clip": False,
    "x": 2,
    "y": -4,
}


def zoom(**options: Any) -> Any:
    """Return the parameter "zoom": drag to move, Ctrl and wheel to zoom, double click to reset.

    The wheel alone scrolls the page.
    """
    return alt.selection_interval(
        name="zoom", bind="scales", zoom="wheel![event.ctrlKey || event.metaKey]", **options
    )


def note_layer(has_panels: bool) -> Any:
    """Return the text above a panel: how many evaluations are missing, failed or not finite.

    Cut at the width of the panel: the tooltip has all of it.
    """
    text = alt.expr(r"replace(datum.label, /^of (\d+): /, '$1 evaluations: ')")
    return filter_rows("note").mark_text(
        text=text, limit=alt.expr("child_width" if has_panels else "width"), tooltip=text, **NOTE
    )


def interval_tooltips() -> list[Any]:
    """Return the tooltip lines of a mean: its 95% interval and the number of seeds."""
    low, high = tooltip("low", "95% interval from", ".4~g"), tooltip("high", "to", ".4~g")
    return [low, high, tooltip("num_draws")]


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
