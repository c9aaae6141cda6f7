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


PANELS = {  # Vega expressions of facet titles
    "tokens": f"({COMPACT}) + ' tokens'",
    "scale": "datum.value == 'current_std' ? 'noise relative to current weights (current_std)'"
    " : datum.value == 'init_std' ? 'noise relative to initialisation (init_std)'"
    " : 'noise scale ' + datum.value",
}


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
