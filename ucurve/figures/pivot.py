"""A pivot as people see it: its figure, its table in words, and what its numbers are taken over.

figure(pivot, asked)     # a live chart: a line per column over the rows, one standard error around means
table(pivot)             # a pandas frame of texts: "3.412 ± 0.012 (24)"
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ucurve.formatting import MISSING, STATE_LABELS, number
from ucurve.schemas.explorer import PERPLEXITY, Cell, Pivot, PivotQuery
from ucurve.spec import Figure

if TYPE_CHECKING:
    import pandas as pd

MOST_LINES = 24
UNITS = {
    "nll_mean": "loss / nats",
    PERPLEXITY: "perplexity",
    "id_loss": "fine-tuning loss / nats",
    "tokens": "pre-training tokens",
}


def name_of(value: Any) -> str:
    """A label's value as text."""
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


def values(found: Sequence[Any]) -> list[Any]:
    """Distinct values in order: nothing, then numbers, then texts."""
    unique = {json.dumps(value): value for value in found}.values()
    return sorted(
        unique,
        key=lambda v: (
            v is not None,
            isinstance(v, str),
            v if isinstance(v, int | float) else 0,
            name_of(v),
        ),
    )


def numeric(found: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in found)


def remarks(cell: Cell) -> str:
    """What is not among the finite numbers, counted."""
    return ", ".join(
        f"{num:,} {word}" for name, word in STATE_LABELS.items() if (num := getattr(cell, name))
    )


def lost(cell: Cell) -> int:
    """How many numbers are not finite."""
    return cell.pos_inf + cell.neg_inf + cell.nan


def text(cell: Cell, aggregate: str = "mean") -> str:
    """The value with its standard error, the number of points, and what is not finite."""
    if aggregate == "count":
        return f"{cell.num:,}" + (f" + {remarks(cell)}" if remarks(cell) else "")
    if cell.value is None:
        shown = "not finite" if lost(cell) else "beyond 1e308" if cell.num else MISSING
    elif cell.low is None or cell.high is None:
        shown = f"{cell.value:.5g}"
    else:
        error = (cell.high - cell.low) / 2
        shown = f"{cell.value:.5g} ± {error:.2g}"
    return f"{shown} ({', '.join(filter(None, [f'{cell.num:,}', remarks(cell)]))})"


def table(pivot: Pivot, asked: PivotQuery) -> pd.DataFrame:
    """A row per value of the rows' label, a column per value of the columns', each cell as text."""
    import pandas as pd

    rows, columns = (
        values([cell.row for cell in pivot.cells]),
        values([cell.column for cell in pivot.cells]),
    )
    by_place = {
        (json.dumps(cell.row), json.dumps(cell.column)): text(cell, asked.aggregate)
        for cell in pivot.cells
    }
    heads = [
        f"{asked.columns} {name_of(column)}" if asked.columns else asked.metric
        for column in columns
    ]
    body = [
        [by_place.get((json.dumps(row), json.dumps(column)), "") for column in columns]
        for row in rows
    ]
    return pd.DataFrame(
        body, index=pd.Index([name_of(row) for row in rows], name=asked.rows), columns=heads
    )


def sentence(pivot: Pivot, asked: PivotQuery) -> str:
    """What the cells are, in a sentence."""
    taken = {
        "mean": "the mean ± one standard error",
        "median": "the median",
        "min": "the least",
        "max": "the greatest",
    }
    what = (
        taken.get(asked.aggregate, "the number")
        + " of "
        + ("finite numbers" if asked.aggregate == "count" else "its points")
    )
    if asked.metric == PERPLEXITY and asked.aggregate == "mean":
        what += ", averaged as loss and then made a perplexity"
    num_lost = sum(lost(cell) for cell in pivot.cells)
    missing = sum(cell.missing for cell in pivot.cells)
    said = {
        "mean": "a mean over one of them is not finite either, a median may be",
        "count": "the count is of the others",
    }
    then = said.get(asked.aggregate, "they are ranked with the others")
    rest = f" {num_lost:,} numbers are not finite, counted in brackets: {then}." if num_lost else ""
    rest += f" {missing:,} points have no {asked.metric}." if missing else ""
    return (
        f"{pivot.num_points:,} points. Each cell is {what}; in brackets how many these are.{rest}"
    )


def mixed(pivot: Pivot) -> str:
    """Which labels a cell is taken over besides draws and seeds; empty when it is like with like."""
    return ", ".join(f"{name} (up to {num:,} values)" for name, num in pivot.averaged_over.items())


def figure(pivot: Pivot, asked: PivotQuery) -> Figure:
    """A line per column over the rows where these are numbers, else marks; triangles at the top mark what is not finite."""
    rows = values([cell.row for cell in pivot.cells if cell.row is not None])
    all_columns = values([cell.column for cell in pivot.cells])
    columns = all_columns[:MOST_LINES]
    cells = [cell for cell in pivot.cells if cell.row is not None and cell.column in columns]
    ordered = bool(rows) and numeric(rows)
    finite = [value for cell in cells for value in (cell.value, cell.low) if value is not None]
    steep = bool(finite) and min(finite) > 0 and max(finite) > 30 * min(finite)
    unit = UNITS.get(asked.metric, asked.metric)
    y = (
        f"number of points with {asked.metric}"
        if asked.aggregate == "count"
        else f"{asked.aggregate} {unit}"
    )
    chart = _chart(
        _x(asked.rows, rows, ordered), _colour(asked.columns, columns), y, steep, ordered
    )
    left_out = (
        f" Only the first {MOST_LINES} of {len(all_columns)} columns are drawn."
        if len(all_columns) > MOST_LINES
        else ""
    )
    heading = f"{unit} by {asked.rows}" + (f" and {asked.columns}" if asked.columns else "")
    datasets = {"cells": [_row(cell, ordered, asked.aggregate) for cell in cells]}
    return Figure(
        heading[0].upper() + heading[1:], sentence(pivot, asked) + left_out, chart, datasets
    )


def _x(name: str, rows: Sequence[Any], ordered: bool) -> dict[str, Any]:
    from ucurve.figures.charts import COMPACT

    x: dict[str, Any] = {"field": "row", "title": UNITS.get(name, name)}
    if not ordered:
        return {
            **x,
            "type": "nominal",
            "sort": [name_of(row) for row in rows],
            "axis": {"labelAngle": -40},
        }
    wide = min(rows) > 0 and (name == "tokens" or max(rows) > 20 * min(rows))
    scale = {"type": "log" if wide else "linear", "zero": False, "nice": False, "padding": 12}
    return {
        **x,
        "type": "quantitative",
        "scale": scale,
        "axis": {"labelExpr": COMPACT} if name == "tokens" else {},
    }


def _colour(name: str | None, columns: Sequence[Any]) -> dict[str, Any]:
    from ucurve.figures.charts import LineEncoding

    names = [name_of(column) for column in columns]
    colours = LineEncoding("column", "", names, ordered=numeric(columns)).colours()
    colour: dict[str, Any] = {
        "field": "column",
        "type": "nominal",
        "sort": names,
        "scale": {"domain": names, "range": colours},
    }
    return {**colour, "title": name} if name else {**colour, "legend": None}


def _chart(
    x: dict[str, Any], colour: dict[str, Any], title: str, steep: bool, ordered: bool
) -> dict[str, Any]:
    from ucurve.figures.charts import CONFIG

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
        "row": cell.row if ordered else name_of(cell.row), "column": name_of(cell.column), "value": cell.value,
        "low": cell.low, "high": cell.high, "num": cell.num, "lost": lost(cell) or int(cell.value is None and cell.num > 0),
        "cell": text(cell, aggregate),
    }  # fmt: skip
