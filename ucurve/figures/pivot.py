"""A pivot as figure and as table of text, and what its numbers aggregate.

figure(pivot, query)     # a live chart: a line per column, one standard error around means
table(pivot)             # a pandas frame of texts: "3.412 ± 0.012 (24)"
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ucurve.formatting import LABEL_TITLES, MISSING, STATE_LABELS, counted, number
from ucurve.schemas.bits_per_byte import BITS_PER_BYTE
from ucurve.schemas.explorer import PERPLEXITY, Cell, Pivot, PivotQuery
from ucurve.spec import Figure

if TYPE_CHECKING:
    import pandas as pd

MOST_LINES = 24
UNITS = {
    "nll_mean": "loss / nats",
    PERPLEXITY: "perplexity",
    BITS_PER_BYTE: "bits per byte",
    "id_loss": "fine-tuning loss / nats",
    "tokens": "pre-training tokens",
}


def name_of(value: Any) -> str:
    """Return a label's value as text."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return (
        value
        if isinstance(value, str)
        else number(value)
        if type(value) is int
        else json.dumps(value)
    )


def title(label: str) -> str:
    """Return a label's name for people: "pre-training seed" for replicate."""
    return LABEL_TITLES.get(label, label.replace("_", " "))


def values(items: Sequence[Any]) -> list[Any]:
    """Return the distinct values in order: None, then numbers, then texts."""
    unique = {json.dumps(value): value for value in items}.values()
    return sorted(
        unique,
        key=lambda v: (
            v is not None,
            isinstance(v, str),
            v if isinstance(v, int | float) else 0,
            name_of(v),
        ),
    )


def numeric(items: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in items)


def remarks(cell: Cell) -> str:
    """Return the counts of values that are not finite numbers."""
    return ", ".join(
        f"{num:,} {word}" for name, word in STATE_LABELS.items() if (num := getattr(cell, name))
    )


def lost(cell: Cell) -> int:
    """Return the number of non-finite values."""
    return cell.pos_inf + cell.neg_inf + cell.nan


def text(cell: Cell, aggregate: str = "mean") -> str:
    """Return the value with its standard error, number of points, and non-finite counts."""
    if aggregate == "count":
        return f"{cell.num:,}" + (f" + {remarks(cell)}" if remarks(cell) else "")
    if cell.value is None:
        number = "not finite" if lost(cell) else "beyond 1e308" if cell.num else MISSING
    elif cell.low is None or cell.high is None:
        number = f"{cell.value:.5g}"
    else:
        error = (cell.high - cell.low) / 2
        number = f"{cell.value:.5g} ± {error:.2g}"
    return f"{number} ({', '.join(filter(None, [f'{cell.num:,}', remarks(cell)]))})"


def table(pivot: Pivot, query: PivotQuery) -> pd.DataFrame:
    """Return a frame of text: a row per value of the rows' label, a column per value of columns."""
    import pandas as pd

    rows, columns = (
        values([cell.row for cell in pivot.cells]),
        values([cell.column for cell in pivot.cells]),
    )
    by_place = {
        (json.dumps(cell.row), json.dumps(cell.column)): text(cell, query.aggregate)
        for cell in pivot.cells
    }
    heads = [
        f"{title(query.columns)} {name_of(column)}" if query.columns else query.metric
        for column in columns
    ]
    body = [
        [by_place.get((json.dumps(row), json.dumps(column)), "") for column in columns]
        for row in rows
    ]
    return pd.DataFrame(
        body, index=pd.Index([name_of(row) for row in rows], name=title(query.rows)), columns=heads
    )


def sentence(pivot: Pivot, query: PivotQuery) -> str:
    """Return what the cells are, for people."""
    taken = {
        "mean": "the mean ± one standard error",
        "median": "the median",
        "min": "the minimum",
        "max": "the maximum",
    }
    cells = f"{taken.get(query.aggregate, 'the number')} of "
    cells += "finite values" if query.aggregate == "count" else "its evaluations"
    if query.metric == PERPLEXITY and query.aggregate == "mean":
        cells += " (exp of the mean loss)"
    num_lost = sum(lost(cell) for cell in pivot.cells)
    missing = sum(cell.missing for cell in pivot.cells)
    effects = {
        "mean": "a mean that includes one is not finite",
        "count": "they are not part of the count",
    }
    effect = effects.get(query.aggregate, "they are ranked with the others")
    rest = (
        f" {num_lost:,} values are not finite (counts in brackets): {effect}." if num_lost else ""
    )
    rest += f" {missing:,} evaluations have no {query.metric}{_why(query)}." if missing else ""
    points = counted(pivot.num_points, "evaluation")
    return f"{points}. Cells show {cells} and, in brackets, how many there are.{rest}"


def _why(query: PivotQuery) -> str:
    known_of_texts = "their evaluation set is no text whose size is known"
    return f": {known_of_texts}" if query.metric == BITS_PER_BYTE else ""


def mixed(pivot: Pivot) -> str:
    """Return the labels that a cell averages over besides draws and seeds; empty if none."""
    return ", ".join(f"{name} (up to {num:,} values)" for name, num in pivot.averaged_over.items())


def figure(pivot: Pivot, query: PivotQuery) -> Figure:
    """Return a line per column over numeric rows, else marks; triangles at the top: not finite."""
    rows = values([cell.row for cell in pivot.cells if cell.row is not None])
    all_columns = values([cell.column for cell in pivot.cells])
    columns = all_columns[:MOST_LINES]
    cells = [cell for cell in pivot.cells if cell.row is not None and cell.column in columns]
    ordered = bool(rows) and numeric(rows)
    finite = [value for cell in cells for value in (cell.value, cell.low) if value is not None]
    steep = bool(finite) and min(finite) > 0 and max(finite) > 30 * min(finite)
    unit = UNITS.get(query.metric, query.metric)
    y = (
        f"evaluations with {query.metric}"
        if query.aggregate == "count"
        else f"{query.aggregate} {unit}"
    )
    chart = _chart(
        _x(query.rows, rows, ordered), _colour(query.columns, columns), y, steep, ordered
    )
    left_out = (
        f" Only the first {MOST_LINES} of {len(all_columns)} columns are drawn."
        if len(all_columns) > MOST_LINES
        else ""
    )
    heading = f"{unit} by {title(query.rows)}"
    heading += f" and {title(query.columns)}" if query.columns else ""
    datasets = {"cells": [_row(cell, ordered, query.aggregate) for cell in cells]}
    return Figure(
        heading[0].upper() + heading[1:], sentence(pivot, query) + left_out, chart, datasets
    )


def _x(name: str, rows: Sequence[Any], ordered: bool) -> dict[str, Any]:
    from ucurve.figures.axes import COMPACT
    from ucurve.figures.ticks import TICK_LABEL, TICKS

    x: dict[str, Any] = {"field": "row", "title": UNITS.get(name, title(name))}
    if not ordered:
        return {
            **x,
            "type": "nominal",
            "sort": [name_of(row) for row in rows],
            "axis": {"labelAngle": -40},
        }
    positive = [row for row in rows if row > 0]  # zero has a place beside a logarithmic axis
    wide = min(rows) >= 0 and (
        (name == "tokens" and bool(positive)) or max(rows) > 20 * min(positive, default=1)
    )
    scale = {"type": "log" if wide else "linear", "zero": False, "nice": False, "padding": 12}
    axis: dict[str, Any] = {"labelExpr": COMPACT}
    if wide:
        axis = {"values": {"expr": TICKS}, "labelExpr": TICK_LABEL}
    axis = axis if name == "tokens" else {}
    return {**x, "type": "quantitative", "scale": scale, "axis": axis}


def _colour(name: str | None, columns: Sequence[Any]) -> dict[str, Any]:
    from ucurve.figures.colours import LineEncoding

    names = [name_of(column) for column in columns]
    colours = LineEncoding("column", "", names, ordered=numeric(columns)).colours()
    colour: dict[str, Any] = {
        "field": "column",
        "type": "nominal",
        "sort": names,
        "scale": {"domain": names, "range": colours},
    }
    return {**colour, "title": title(name)} if name else {**colour, "legend": None}


def _chart(
    x: dict[str, Any], colour: dict[str, Any], title: str, steep: bool, ordered: bool
) -> dict[str, Any]:
    from ucurve.figures.panels import CONFIG

    y: dict[str, Any] = {
        "field": "value",
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log" if steep else "linear", "zero": False},
    }
    tip = [
        {"field": field, "type": "nominal", "title": field} for field in ("cell", "row", "column")
    ]
    shared: dict[str, Any] = {"x": x, "color": colour, "tooltip": tip}
    error = {**shared, "y": {**y, "field": "low"}, "y2": {"field": "high"}}
    mark: dict[str, Any] = (
        {"type": "line", "point": {"size": 36}}
        if ordered
        else {"type": "point", "filled": True, "size": 60}
    )
    triangle = {"type": "point", "shape": "triangle-up", "filled": True, "size": 70}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.7}, "encoding": error},
        {"mark": mark, "encoding": {**shared, "y": y}},
        {
            "transform": [{"filter": "datum.lost > 0"}],
            "mark": triangle,
            "encoding": {**shared, "y": {"value": 4}},
        },
    ]
    return {
        "config": CONFIG,
        "data": {"name": "cells"},
        "height": 360,
        "width": 640,
        "layer": layers,
    }


def _row(cell: Cell, ordered: bool, aggregate: str) -> dict[str, Any]:
    return {
        "row": cell.row if ordered else name_of(cell.row),
        "column": name_of(cell.column),
        "value": cell.value,
        "low": cell.low,
        "high": cell.high,
        "num": cell.num,
        "lost": lost(cell) or int(cell.value is None and cell.num > 0),
        "cell": text(cell, aggregate),
    }
