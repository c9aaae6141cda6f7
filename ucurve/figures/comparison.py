"""The figures of a comparison: curves of several experiments on one axis, and one minus another.

shown = PlotOptions(x="tokens", y="damage", by="side", changes=("gamma 0.2, init_std",), minus=("1", "2"))
figures(sides, align_experiments(sides), shown)       # {"curves": Figure, "difference": Figure}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis.comparison import LOSS, ComparedExperiment, axes, quantities
from ucurve.analysis.curve_rows import curve_rows
from ucurve.analysis.differences import differences
from ucurve.figures import charts
from ucurve.figures.published import available_curves
from ucurve.schemas.references import ReferenceCurve
from ucurve.spec import Figure

if TYPE_CHECKING:
    import pandas as pd

GROUPS = {
    "side": "experiment",
    "suite": "suite",
    "size": "parameters",
    "replicate": "pre-training seed",
}
COLUMN = {"loss": LOSS, "perplexity": LOSS}  # of the table, where it is not named like the quantity
BANDS = (
    "Bands: 95% t interval of the mean over draws, point by point; dots: single draws. Draws describe one pre-training run; "
    "replicates are further runs."
)
MOST_LINES = 2  # modifications shown when nobody has chosen


@dataclass(frozen=True)
class PlotOptions:
    """What a comparison shows; what is empty is chosen from what there is."""

    x: str = ""
    y: str = ""
    by: str = "side"
    changes: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()  # A and B, two values of `by`
    beside: tuple[
        str, ...
    ] = ()  # reference curves, not measured here: those of `available_references`


def resolve_options(
    sides: Sequence[ComparedExperiment], table: pd.DataFrame, asked: PlotOptions
) -> PlotOptions:
    """The choice made whole: what is not there falls back to what is."""
    xs, ys = axes(sides, table), quantities(sides, table)
    by = asked.by if asked.by in GROUPS else "side"
    there = changes(table)
    wanted = tuple(change for change in asked.changes if change in there) or _usual(there)
    members = values_of(table, by)
    minus = tuple(one for one in asked.minus if one in members)
    if len(minus) != 2 or minus[0] == minus[1]:
        minus = tuple(members[:2]) if len(members) > 1 else ()
    y = asked.y if asked.y in ys else next(iter(["damage"] if "damage" in ys else ys), "")
    return PlotOptions(
        asked.x if asked.x in xs else next(iter(xs), ""), y, by, wanted, minus, asked.beside
    )


def changes(table: pd.DataFrame) -> dict[str, int]:
    """Every modification with the number of experiments that have it, in the order in which they are planned."""
    if table.empty:
        return {}
    counts = table.groupby("change", sort=False)["side"].nunique()
    return {str(change): int(num) for change, num in counts.items()}


def _usual(there: dict[str, int]) -> tuple[str, ...]:
    """The largest modification that most experiments share; those that share none show one each."""
    changed = {change: num for change, num in there.items() if not change.startswith("base")}
    most = max(changed.values(), default=0)
    shared = [change for change, num in changed.items() if num == most]
    return tuple(shared[-MOST_LINES:]) if shared else tuple(there)


def values_of(table: pd.DataFrame, by: str) -> list[str]:
    return list(dict.fromkeys(_as_text(table, by))) if len(table) else []


def _as_text(table: pd.DataFrame, by: str) -> list[str]:
    return [
        "unknown"
        if value is None or value != value
        else f"{value:.0f}"
        if by == "size"
        else str(value)
        for value in table[by]
    ]


def figures(
    sides: Sequence[ComparedExperiment],
    table: pd.DataFrame,
    asked: PlotOptions,
    curves: Sequence[ReferenceCurve] = (),
) -> dict[str, Figure]:
    """The curves, and the difference where there are two of anything to subtract."""
    if table.empty:
        return {}
    shown = resolve_options(sides, table, asked)
    if not (shown.x and shown.y):  # no axis or no quantity in common
        return {}
    names = {side.key: f"{side.id} {side.name}" for side in sides}
    members = values_of(table, shown.by)
    titles = {one: names.get(one, one) if shown.by == "side" else one for one in members}
    facet = "side" if shown.by == "replicate" else "replicate"
    table = table.assign(group=[titles[one] for one in _as_text(table, shown.by)])
    table = table.assign(side_name=[names[side] for side in table["side"]])
    beside = references(sides, shown, curves)
    groups = [*titles.values(), *beside]
    made = {
        "curves": _beside(
            _curves(sides, table[table["change"].isin(shown.changes)], shown, groups, facet), beside
        )
    }
    if shown.minus:
        pair = [titles[one] for one in shown.minus]
        made["difference"] = _difference(sides, table, shown, pair, facet)
    return made


def available_references(
    sides: Sequence[ComparedExperiment], shown: PlotOptions, curves: Sequence[ReferenceCurve]
) -> dict[str, tuple[int, str, bool]]:
    """{label: (curve, metric, measured on the same text)} of what can be drawn beside: over tokens, of a suite that is shown."""
    found: dict[str, tuple[int, str, bool]] = {}
    metric = {"loss": "perplexity"}.get(shown.y, shown.y)
    for side in sides if shown.x == "tokens" else ():
        if side.suite:
            own = getattr(side.spec, "evaluation", None) or side.suite.evaluation
            found |= available_curves(curves, side.suite.name, {metric}, own)
    return found


def references(
    sides: Sequence[ComparedExperiment], shown: PlotOptions, curves: Sequence[ReferenceCurve]
) -> dict[str, list[dict[str, Any]]]:
    """The chosen ones as rows, by label; a perplexity is drawn among losses as its logarithm."""
    by_id, found = {curve.id: curve for curve in curves}, {}
    for label, (id, metric, _) in available_references(sides, shown, curves).items():
        if label in shown.beside:
            rows = [
                row
                for row in by_id[id].rows
                if row.metric == metric and (shown.y != "loss" or row.value > 0)
            ]
            found[label] = [
                {
                    "what": "reference",
                    "tokens": row.tokens,
                    "group": label,
                    "y": math.log(row.value) if shown.y == "loss" else row.value,
                    "label": f"{label}, not measured here"
                    + (f" (± {row.standard_error:.3g})" if row.standard_error else ""),
                }
                for row in rows
            ]
    return found


def _beside(figure: Figure, beside: dict[str, list[dict[str, Any]]]) -> Figure:
    """The figure with their crosses in every panel."""
    if not beside:
        return figure
    rows = figure.datasets["curves"]
    panels = list(dict.fromkeys((row.get("replicate"), row.get("experiment")) for row in rows)) or [
        (None, None)
    ]
    marks = [
        {
            **row,
            **{
                name: value
                for name, value in zip(("replicate", "experiment"), panel, strict=True)
                if value is not None
            },
        }
        for found in beside.values()
        for row in found
        for panel in panels
    ]
    caption = f"{figure.caption} Crosses, not measured here: {', '.join(beside)}."
    return replace(figure, caption=caption, datasets={"curves": [*rows, *marks]})


def _axis(sides: Sequence[ComparedExperiment], table: pd.DataFrame, x: str) -> charts.Axis:
    title = axes(sides, table).get(x, x)
    values = table[x].astype(float) if x in table else np.array([])
    many = (
        len(values)
        and np.nanmin(values) > 0
        and np.nanmax(values) >= 10 * np.nanmin(values)
        and x != "base_loss"
    )
    scale: charts.Scale = "log" if x == "tokens" or many else "linear"
    return charts.Axis(x, title, scale, compact=x in ("tokens", "tokens_per_parameter"))


def _column(facet: str, table: pd.DataFrame) -> str | None:
    """Panels beside one another only where there is more than one."""
    return {"side": "experiment"}.get(facet, facet) if table[facet].nunique() > 1 else None


def _curves(
    sides: Sequence[ComparedExperiment],
    table: pd.DataFrame,
    shown: PlotOptions,
    groups: list[str],
    facet: str,
) -> Figure:
    column = _column(facet, table)
    several = shown.by not in ("side", "replicate") and bool(
        (table.groupby("group")["side"].nunique() > 1).any()
    )
    line = [
        f"{change}, {name}" if several else change
        for name, change in zip(table["side_name"], table["change"], strict=True)
    ]
    table = table.assign(modification=line, experiment=table["side_name"])
    value = COLUMN.get(shown.y, shown.y)
    exponential = (lambda values, _: np.exp(values)) if shown.y == "perplexity" else None
    keys = ["group", "modification"]
    rows = curve_rows(
        table, shown.x, value, keys, facets=[column] if column else [], transform=exponential
    )
    quantity = quantities(sides, table)[shown.y] if shown.y else ""
    damage = shown.y == "damage"
    y = charts.Axis(
        "y",
        quantity,
        "symlog" if damage else "log" if shown.y == "perplexity" else "linear",
        constant=0.01,
    )
    lines = charts.LineEncoding("group", GROUPS[shown.by], groups, ordered=False)
    chart = charts.curves(
        _axis(sides, table, shown.x),
        y,
        lines,
        column=column,
        dash="modification",
        zero_line=damage,
        height=340,
    )
    minus = " Damage: loss minus that of the same checkpoint before the change." if damage else ""
    caption = f"{_short(quantity)} of {_and(list(dict.fromkeys(table['group'])))}: {'; '.join(shown.changes)}.{minus} {BANDS}"
    return Figure(f"{_short(shown.y)} compared", caption, chart, {"curves": rows})


def _difference(
    sides: Sequence[ComparedExperiment],
    table: pd.DataFrame,
    shown: PlotOptions,
    pair: list[str],
    facet: str,
) -> Figure:
    """At equal places of pre-training: a base loss is of one model only, so that differences are drawn over tokens instead."""
    x = shown.x if shown.x != "base_loss" else next(iter(axes(sides, table)), shown.x)
    column, value = _column(facet, table), COLUMN.get(shown.y, shown.y)
    axis = _axis(sides, table, x)
    table = table.assign(experiment=table["side_name"])[table["change"].isin(shown.changes)]
    found = differences(
        table, "group", *pair, x=x, value=value, facet=column or facet, log=axis.scale == "log"
    )
    unit = quantities(sides, table).get("loss" if shown.y == "perplexity" else shown.y, shown.y)
    lines = charts.LineEncoding(
        "change", "modification", list(shown.changes), ordered=len(shown.changes) > 6
    )
    chart = charts.curves(
        axis,
        charts.Axis("y", f"A − B: {unit}"),
        lines,
        column=column,
        zero_line=True,
        also=["how"],
        height=260,
    )
    rows = [_plain(row) for row in found] + _notes(found, column)
    ratio = " (the logarithm of the ratio of perplexities)" if shown.y == "perplexity" else ""
    said = "Bands: 95% intervals, point by point; how each was made is said above and at its point."
    caption = f"A = {pair[0]}, B = {pair[1]}; {unit}{ratio}. {said}"
    return Figure(f"{_short(shown.y)}: A minus B", caption, chart, {"curves": rows})


def _notes(found: Sequence[dict[str, Any]], column: str | None) -> list[dict[str, Any]]:
    """How the intervals of each panel were made. In the rows, since a caption is the same whatever is measured."""
    panels: dict[Any, dict[str, None]] = {}
    for row in found:
        panels.setdefault(row[column] if column else None, {})[row["how"]] = None
    return [
        {"what": "note", **({column: panel} if column else {}), "label": "; ".join(hows)}
        for panel, hows in panels.items()
    ]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in row.items()
    }


def _short(quantity: str) -> str:
    return f"{quantity[:1].upper()}{quantity[1:]}".replace("_", " ")


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
