"""The figures of a comparison: curves of several experiments on one axis, and one minus another.

options = PlotOptions(x="tokens", y="damage", by="side", minus=("1", "2"))
figures(sides, align_experiments(sides), options)       # {"curves": Figure, "difference": Figure}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis.comparison import (
    BITS_INCREASE,
    LOSS,
    ComparedExperiment,
    axes,
    evaluation_names,
    quantities,
)
from ucurve.analysis.curve_rows import curve_rows
from ucurve.analysis.differences import differences
from ucurve.figures import charts
from ucurve.figures.axes import Axis, Scale
from ucurve.figures.colours import LineEncoding
from ucurve.figures.published import (
    CROSSES,
    NO_INTERVAL,
    available_curves,
    interval_ends,
    intervals_in_words,
)
from ucurve.schemas.bits_per_byte import BITS_PER_BYTE
from ucurve.schemas.references import ReferenceCurve
from ucurve.schemas.results import Figure

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]
GROUPS = {
    "side": "experiment",
    "suite": "suite",
    "size": "parameters",
    "replicate": "pre-training seed",
}
COLUMN = {"loss": LOSS, "perplexity": LOSS}  # of the table, if not named like the quantity
BANDS = (
    "Bands: pointwise 95% t intervals of the mean over seeds of noise or fine-tuning, on this "
    "text. Dots: individual seeds. Intervals do not reflect variation between pre-training runs."
)
NOTES = {
    "damage": " Loss increase: loss minus the loss of the same checkpoint unperturbed.",
    BITS_PER_BYTE: " Bits per byte: mean loss x tokens per byte of the text / ln 2.",
    BITS_INCREASE: " Increase: bits per byte minus those of the same checkpoint unperturbed.",
}
MAX_DEFAULT_CHANGES = 2  # modifications drawn by default


@dataclass(frozen=True)
class PlotOptions:
    """What a comparison draws; empty options are derived from the experiments."""

    x: str = ""
    y: str = ""
    by: str = "side"
    changes: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()  # A and B, two values of `by`
    beside: tuple[str, ...] = ()  # reference curves, see `available_references`


def resolve_options(
    sides: Sequence[ComparedExperiment], table: pd.DataFrame, requested: PlotOptions
) -> PlotOptions:
    """Return complete options: what is empty or unavailable falls back to what is available."""
    xs, ys = axes(sides, table), quantities(sides, table)
    by = requested.by if requested.by in GROUPS else "side"
    available = changes(table)
    selected = tuple(change for change in requested.changes if change in available)
    members = values_of(table, by)
    minus = tuple(member for member in requested.minus if member in members)
    if len(minus) != 2 or minus[0] == minus[1]:
        minus = tuple(members[:2]) if len(members) > 1 else ()
    default_y = next(iter(["damage"] if "damage" in ys else ys), "")
    return PlotOptions(
        requested.x if requested.x in xs else next(iter(xs), ""),
        requested.y if requested.y in ys else default_y,
        by,
        selected or _default_changes(available),
        minus,
        requested.beside,
    )


def changes(table: pd.DataFrame) -> dict[str, int]:
    """Return every modification with its number of experiments, in the order of the plans."""
    if table.empty:
        return {}
    counts = table.groupby("change", sort=False)["side"].nunique()
    return {str(change): int(num) for change, num in counts.items()}


def _default_changes(available: dict[str, int]) -> tuple[str, ...]:
    """Return the largest modifications that most experiments share, else all."""
    changed = {change: num for change, num in available.items() if not change.startswith("base")}
    most = max(changed.values(), default=0)
    shared = [change for change, num in changed.items() if num == most]
    return tuple(shared[-MAX_DEFAULT_CHANGES:]) if shared else tuple(available)


def values_of(table: pd.DataFrame, by: str) -> list[str]:
    """Return the distinct values of a grouping as text, in the order of the table."""
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
    requested: PlotOptions,
    curves: Sequence[ReferenceCurve] = (),
) -> dict[str, Figure]:
    """Return the curves, and the difference when there are two groups to subtract.

    curves: reference curves, drawn when the options select them.
    """
    if table.empty:
        return {}
    options = resolve_options(sides, table, requested)
    names = {side.key: f"{side.id} {side.name}" for side in sides}
    titles = {
        member: names.get(member, member) if options.by == "side" else member
        for member in values_of(table, options.by)
    }
    facet = "side" if options.by == "replicate" else "replicate"
    table = table.assign(group=[titles[member] for member in _as_text(table, options.by)])
    table = table.assign(side_name=[names[side] for side in table["side"]])
    beside = references(sides, options, curves)
    selected = table[table["change"].isin(options.changes)]
    main = _curves(sides, selected, options, [*titles.values(), *beside], facet)
    result = {"curves": _with_crosses(main, beside)}
    if options.minus:
        pair = [titles[member] for member in options.minus]
        result["difference"] = _difference(sides, table, options, pair, facet)
    return result


def available_references(
    sides: Sequence[ComparedExperiment], options: PlotOptions, curves: Sequence[ReferenceCurve]
) -> dict[str, tuple[int, str, bool]]:
    """Return the reference curves of the suites over tokens: {label: (curve, metric, same set)}."""
    available: dict[str, tuple[int, str, bool]] = {}
    metric = {"loss": "perplexity"}.get(options.y, options.y)
    for side in sides if options.x == "tokens" else ():
        if side.suite:
            own = evaluation_names(side)
            available |= available_curves(curves, side.suite.name, {metric}, own)
    return available


def references(
    sides: Sequence[ComparedExperiment], options: PlotOptions, curves: Sequence[ReferenceCurve]
) -> dict[str, Rows]:
    """Return the rows of the selected reference curves by label, as losses if needed."""
    by_id = {curve.id: curve for curve in curves}
    as_loss = options.y == "loss"
    result: dict[str, Rows] = {}
    for label, (id, metric, _) in available_references(sides, options, curves).items():
        if label not in options.beside:
            continue
        result[label] = [
            {
                "what": "reference",
                "tokens": row.tokens,
                "group": label,
                "y": math.log(row.value) if as_loss else row.value,
                "label": f"{label}, not measured here"
                + (f" (± {row.standard_error:.3g})" if row.standard_error is not None else "")
                + (NO_INTERVAL if row.standard_error is None else ""),
                **_interval_ends(row.value, row.standard_error, as_loss),
            }
            for row in by_id[id].rows
            if row.metric == metric and (not as_loss or row.value > 0)
        ]
    return result


def _interval_ends(value: float, error: float | None, as_loss: bool) -> dict[str, float]:
    ends = interval_ends(value, error)
    if not as_loss:
        return ends
    return (
        {name: math.log(end) for name, end in ends.items()}
        if min(ends.values(), default=0) > 0
        else {}
    )


def _with_crosses(figure: Figure, beside: dict[str, Rows]) -> Figure:
    """Return the figure with reference rows in every panel."""
    if not beside:
        return figure
    rows = figure.datasets["curves"]
    facets = ("replicate", "experiment")
    panels = list(dict.fromkeys(tuple(row.get(name) for name in facets) for row in rows))
    marks = [
        {**row, **{name: value for name, value in labels if value is not None}}
        for group in beside.values()
        for row in group
        for panel in panels or [(None, None)]
        for labels in [list(zip(facets, panel, strict=True))]
    ]
    without = [name for name, group in beside.items() if any("error_low" not in r for r in group)]
    has_bars = any("error_low" in row for group in beside.values() for row in group)
    caption = f"{figure.caption} {CROSSES} {', '.join(beside)}." + intervals_in_words(
        without, has_bars
    )
    return replace(figure, caption=caption, datasets={"curves": [*rows, *marks]})


def _axis(sides: Sequence[ComparedExperiment], table: pd.DataFrame, x: str) -> Axis:
    title = axes(sides, table).get(x, x)
    values = table[x].to_numpy(dtype=float) if x in table else np.array([])
    positive = values[values > 0]  # step 0 has a place beside the axis
    spans_decade = (
        len(positive)
        and not (values < 0).any()
        and positive.max() >= 10 * positive.min()
        and x != "base_loss"
    )
    scale: Scale = "log" if x == "tokens" or spans_decade else "linear"
    return Axis(x, title, scale, compact=x in ("tokens", "tokens_per_parameter"))


def _column(facet: str, table: pd.DataFrame) -> str | None:
    """Return the field for panels side by side; None when there is only one panel."""
    return {"side": "experiment"}.get(facet, facet) if table[facet].nunique() > 1 else None


def _curves(
    sides: Sequence[ComparedExperiment],
    table: pd.DataFrame,
    options: PlotOptions,
    groups: list[str],
    facet: str,
) -> Figure:
    column = _column(facet, table)
    several_sides = options.by not in ("side", "replicate") and bool(
        (table.groupby("group")["side"].nunique() > 1).any()
    )
    lines = [
        f"{change}, {name}" if several_sides else change
        for name, change in zip(table["side_name"], table["change"], strict=True)
    ]
    rows = curve_rows(
        table.assign(modification=lines, experiment=table["side_name"]),
        options.x,
        COLUMN.get(options.y, options.y),
        ["group", "modification"],
        facets=[column] if column else [],
        transform=(lambda values, _: np.exp(values)) if options.y == "perplexity" else None,
    )
    quantity = quantities(sides, table)[options.y] if options.y else ""
    increase = options.y in ("damage", BITS_INCREASE)
    scale: Scale = "symlog" if increase else "log" if options.y == "perplexity" else "linear"
    chart = charts.curves(
        _axis(sides, table, options.x),
        Axis("y", quantity, scale, constant=0.01),
        LineEncoding("group", GROUPS[options.by], groups, ordered=False),
        column=column,
        dash="modification",
        zero_line=increase,
        height=340,
    )
    note = NOTES.get(options.y, "")
    mark = "#" if options.by == "side" else ""
    members = _and([f"{mark}{group}" for group in dict.fromkeys(table["group"])])
    caption = f"{_title(quantity)} of {members}: {'; '.join(options.changes)}.{note} {BANDS}"
    return Figure(f"{_quantity_title(quantity)} compared", caption, chart, {"curves": rows})


def _difference(
    sides: Sequence[ComparedExperiment],
    table: pd.DataFrame,
    options: PlotOptions,
    pair: list[str],
    facet: str,
) -> Figure:
    """Return A minus B at equal pre-training lengths.

    An unperturbed loss belongs to one model only, so differences use another x axis instead.
    """
    x = options.x if options.x != "base_loss" else next(iter(axes(sides, table)), options.x)
    column, value = _column(facet, table), COLUMN.get(options.y, options.y)
    axis = _axis(sides, table, x)
    selected = table.assign(experiment=table["side_name"])
    selected = selected[selected["change"].isin(options.changes)]
    rows = differences(
        selected, "group", *pair, x=x, value=value, facet=column or facet, log=axis.scale == "log"
    )
    unit = quantities(sides, table).get(
        "loss" if options.y == "perplexity" else options.y, options.y
    )
    chart = charts.curves(
        axis,
        Axis("y", f"A − B: {unit}"),
        LineEncoding(
            "change", "modification", list(options.changes), ordered=len(options.changes) > 6
        ),
        column=column,
        zero_line=True,
        also=["how"],
        height=260,
    )
    mark = "#" if options.by == "side" else ""
    ratio = " (the logarithm of the ratio of perplexities)" if options.y == "perplexity" else ""
    caption = (
        f"A = {mark}{pair[0]}, B = {mark}{pair[1]}; {unit}{ratio}. Bands: pointwise 95% "
        "intervals, on this text where paired by draw; the method is shown above the chart and in "
        "each tooltip."
    )
    datasets = {"curves": [_plain(row) for row in rows] + _notes(rows, column)}
    return Figure(
        f"{_quantity_title(quantities(sides, table).get(options.y, options.y))}: A minus B",
        caption,
        chart,
        datasets,
    )


def _notes(rows: Sequence[dict[str, Any]], column: str | None) -> Rows:
    """Return how the intervals of each panel were made, as rows: a caption depends on the spec."""
    panels: dict[Any, dict[str, None]] = {}
    for row in rows:
        panels.setdefault(row[column] if column else None, {})[row["how"]] = None
    return [
        {"what": "note", **({column: panel} if column else {}), "label": "; ".join(methods)}
        for panel, methods in panels.items()
    ]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in row.items()
    }


def _title(quantity: str) -> str:
    return f"{quantity[:1].upper()}{quantity[1:]}".replace("_", " ")


def _quantity_title(quantity: str) -> str:
    """Return the title of a quantity without its unit."""
    return _title(quantity.split(" / ")[0])


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
