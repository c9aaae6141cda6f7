"""The minima of the loss after different modifications, with intervals, side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import altair as alt

from ucurve.analysis.inflection_points import CLAIM
from ucurve.figures.axes import encoded_x, tokens_axis
from ucurve.figures.colours import DISTINCT
from ucurve.figures.layers import tooltip
from ucurve.figures.panels import finished
from ucurve.schemas.results import Figure, Verdict

TOOLTIPS = (("tokens", "minimum, tokens"), ("low", "95% interval from"), ("high", "to"))
CONDITION = (  # a Vega expression: "gamma 0.2 under init_std" as people call it
    "replace(replace(replace(datum.label, 'under current_std', 'relative to current weights'),"
    " 'under init_std', 'relative to initialisation'),"
    " 'under matched_displacement', 'at matched displacement')"
)


def figures(verdicts: Sequence[Verdict]) -> dict[str, Figure]:
    """Return every minimum with its interval, a line per condition; empty when there are none."""
    rows = [
        minimum.model_dump()
        for verdict in verdicts
        if verdict.claim == CLAIM
        for minimum in verdict.minima
    ]
    if not rows:
        return {}
    first_change = rows[0]["change"]
    rows.sort(
        key=lambda row: (row["change"] != first_change, row["change"], *_size(row["condition"]))
    )
    caption = (
        "Minimum of the loss after the modification, with its 95% bootstrap interval, per "
        "setting. Filled: the rise after it is significant; hollow: it is not. A line that reaches "
        "the left edge may begin before the first checkpoint."
    )
    left = min(row["tokens"] for row in rows) * 0.7
    marks = [
        {**row, "low": row["low"] or left, "established": row["answer"] == "yes"} for row in rows
    ]
    return {
        "inflection_points": Figure(
            "Inflection points side by side", caption, _chart(rows), {"bottoms": marks}
        )
    }


def _size(condition: str) -> tuple[str, float]:
    """Return a condition without its size, and the size: ("gamma  under init_std", 0.2)."""
    match = re.search(r"\d[\d.]*(?:e[+-]?\d+)?", condition)
    return (condition.replace(match[0], "", 1), float(match[0])) if match else (condition, 0.0)


def _chart(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    changes = list(dict.fromkeys(row["change"] for row in rows))
    colour = alt.Color(
        "change:N",
        title=None,
        scale=alt.Scale(domain=changes, range=DISTINCT[: len(changes)]),
    )
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    axis = alt.Axis(labelLimit=320, labelExpr=CONDITION)
    y = alt.Y("condition:N", title=None, sort=conditions, axis=axis)
    x = encoded_x(tokens_axis())
    tooltips = [
        tooltip("change", "experiment type"),
        tooltip("condition", "setting"),
        *(tooltip(name, title, ",") for name, title in TOOLTIPS),
    ]
    base = alt.Chart().encode(y=y, color=colour, tooltip=tooltips)
    established = alt.datum.established == True  # noqa: E712 - an expression of Vega
    layers = [
        base.mark_rule(strokeWidth=3, opacity=0.55)
        .transform_filter(established)
        .encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_rule(strokeWidth=1.5, opacity=0.5)
        .transform_filter(~established)
        .encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).transform_filter(established).encode(x=x),
        base.mark_point(size=60, opacity=0.8).transform_filter(~established).encode(x=x),
    ]
    chart: Any = alt.layer(*layers, data=alt.NamedData("bottoms")).properties(
        width=420, height={"step": 22}
    )
    runs = sorted({row["run"] for row in rows})
    if len(runs) > 1:
        header = alt.Header(title=None, labelAnchor="start", labelOrient="top")
        chart = chart.facet(row=alt.Row("run:N", sort=runs, header=header)).resolve_scale(
            y="independent"
        )
    return finished(chart)
