"""Where the loss after each change is lowest, with intervals, side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import altair as alt

from ucurve.analysis.inflection_points import CLAIM
from ucurve.figures import charts
from ucurve.spec import Figure, Verdict

TIPS = (("tokens", "lowest at, tokens"), ("low", "95% from"), ("high", "to"))


def figures(verdicts: Sequence[Verdict]) -> dict[str, Figure]:
    """Every bottom with its interval, a line per condition; none where no verdict carries any."""
    rows = [
        row
        for verdict in verdicts
        if verdict.claim == CLAIM
        for row in verdict.evidence.get("bottoms", [])
    ]
    if not rows:
        return {}
    rows = sorted(
        rows,
        key=lambda row: (
            row["change"] != rows[0]["change"],
            row["change"],
            *_size(row["condition"]),
        ),
    )
    caption = (
        "Where the loss after the change is lowest, with its 95% bootstrap interval, per condition. Filled: the rise after it is "
        "established; open: it is not. A line that reaches the left edge may begin before the first checkpoint."
    )
    first = min(row["tokens"] for row in rows)
    shown = [
        {**row, "low": row["low"] or first * 0.7, "established": row["answer"] == "yes"}
        for row in rows
    ]
    return {
        "inflection_points": Figure(
            "Inflection points side by side", caption, _chart(rows), {"bottoms": shown}
        )
    }


def _size(condition: str) -> tuple[str, float]:
    """What a condition is but for its size, and the size: ("gamma  under init_std", 0.2)."""
    found = re.search(r"\d[\d.]*(?:e[+-]?\d+)?", condition)
    return (condition.replace(found[0], "", 1), float(found[0])) if found else (condition, 0.0)


def _chart(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    tokens = charts.tokens_axis()
    changes = list(dict.fromkeys(row["change"] for row in rows))
    colour = alt.Color(
        "change:N",
        title=None,
        scale=alt.Scale(domain=changes, range=charts.DISTINCT[: len(changes)]),
    )
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    y = alt.Y("condition:N", title=None, sort=conditions, axis=alt.Axis(labelLimit=320))
    x = charts.encoded_x(tokens)
    tips = [
        charts.tip("change"),
        charts.tip("condition"),
        *(charts.tip(name, title, ",") for name, title in TIPS),
    ]
    base = alt.Chart().encode(y=y, color=colour, tooltip=tips)
    known = alt.datum.established == True  # noqa: E712 - an expression of Vega
    layers = [
        base.mark_rule(strokeWidth=3, opacity=0.55)
        .transform_filter(known)
        .encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_rule(strokeWidth=1.5, opacity=0.5)
        .transform_filter(~known)
        .encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).transform_filter(known).encode(x=x),
        base.mark_point(size=60, opacity=0.8).transform_filter(~known).encode(x=x),
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
    return charts.finished(chart)
