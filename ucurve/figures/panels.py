"""Panels of a chart by one or two fields, their titles, and the config of every chart."""

from __future__ import annotations

from typing import Any

import altair as alt

from ucurve.figures.axes import COMPACT
from ucurve.formatting import LABEL_TITLES

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


NARROW = "child_width < 250"  # pixels of a panel: a long title takes two lines
PANELS = {  # Vega expressions of facet titles
    "tokens": f"({COMPACT}) + ' tokens'",
    "scale": "datum.value == 'current_std' ? "
    f"({NARROW} ? ['noise relative to current', 'weights (current_std)']"
    " : 'noise relative to current weights (current_std)')"
    f" : datum.value == 'init_std' ? ({NARROW} ? ['noise relative to', 'initialisation (init_std)']"
    " : 'noise relative to initialisation (init_std)')"
    " : datum.value == 'matched_displacement' ? "
    f"({NARROW} ? ['noise at matched displacement', '(matched_displacement)']"
    " : 'noise at matched displacement (matched_displacement)')"
    " : 'noise scale ' + datum.value",
    "between": "split((indexof(datum.value, 'before') == 0 ? '' : 'between ') + datum.value, ', ')",
}


def faceted(chart: Any, row: str | None, column: str | None, low: bool = False) -> Any:
    """Return the chart in panels by the given fields, or as it is.

    low: panels may be lower than the title of a row is long, which takes two lines then.
    """
    panels = {}
    if row:
        panels["row"] = _row(row, low)
    if column:
        panels["column"] = _column(column)
    between = {"spacing": {"row": 40}} if low and row else {}
    return chart.facet(**panels, **between) if panels else chart


def wrapped(chart: Any, field: str) -> Any:
    """Return panels by a field, two beside one another, each with a y axis of its own.

    The page sets the number of columns that fit.
    """
    panels = chart.facet(facet=_column(field), columns=2, spacing={"row": 30})
    return panels.resolve_scale(y="independent").resolve_axis(x="independent")


def _title(field: str) -> str:
    return f"'{LABEL_TITLES.get(field, field)}'"


def _column(field: str) -> Any:
    """Return panels side by side; no title is wider than its panel."""
    label = f"truncate({_title(field)} + ' ' + datum.value, max(16, floor(child_width / 7)))"
    header = alt.Header(title=None, labelExpr=PANELS.get(field, label))
    return alt.Facet(f"{field}:N", header=header)


def _row(field: str, low: bool) -> Any:
    """Return panels below one another, with turned titles, in two lines beside low panels."""
    label = f"{_title(field)} + ' ' + datum.value"
    *first, last = LABEL_TITLES.get(field, field).split()
    if low and first:
        label = f"['{' '.join(first)}', '{last} ' + datum.value]"
    return alt.Facet(f"{field}:N", header=alt.Header(title=None, labelExpr=label))


def finished(chart: Any) -> dict[str, Any]:
    """Return plain Vega-Lite with this module's config, regardless of enabled themes."""
    spec: dict[str, Any] = chart.to_dict()
    return {**spec, "config": CONFIG}
