"""The figures of several evaluation sets: one row of panels per set, each with a y axis of its own.

    figures(table, verdicts, draw, once=("weights",))     # draw(rows, verdicts, set) -> figures

Losses of two texts differ by more than any change of the weights, so that on one axis all curves
of a set would be flat.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ucurve.analysis.evaluation_sets import LABEL, tables
from ucurve.figures.tabs import tab_of
from ucurve.formatting import LABEL_TITLES
from ucurve.schemas.results import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

Draw = Callable[["pd.DataFrame", Sequence[Verdict], str], dict[str, Figure]]
PANEL = "panel"
CAPTION = "Every row of panels is on one evaluation set; every panel has a y axis of its own."


def figures(
    table: pd.DataFrame, verdicts: Sequence[Verdict], draw: Draw, once: Sequence[str] = ()
) -> dict[str, Figure]:
    """Return the figures of all sets; of a single set those that `draw` returns.

    once: names of figures that are the same for every set.
    """
    parts = tables(table)
    if len(parts) < 2:
        return draw(table, verdicts, "")
    by_set = {
        name: draw(rows, [v for v in verdicts if v.labels.get(LABEL) == name], name)
        for name, rows in parts.items()
    }
    result: dict[str, Figure] = {}
    for figure in dict.fromkeys(name for drawn in by_set.values() for name in drawn):
        same = {name: drawn[figure] for name, drawn in by_set.items() if figure in drawn}
        first = next(iter(same.values()))
        if figure in once:
            result[figure] = first
        elif len(same) > 1 and "row" in first.chart.get("facet", {}):
            result[figure] = _stacked(same)
        else:
            for name, drawn in same.items():
                result[f"{figure}-{name}"] = replace(
                    drawn,
                    title=f"{drawn.title}: {name}",
                    tab=tab_of(drawn),
                    variant=(*drawn.variant, name),
                )
    return result


def _stacked(same: Mapping[str, Figure]) -> Figure:
    """Return one figure with the panels of every set below one another."""
    first = next(iter(same.values()))
    field = first.chart["facet"]["row"]["field"]
    is_low = isinstance(first.chart["spec"].get("height"), dict)  # cells, not a plot
    datasets: dict[str, list[dict[str, Any]]] = {}
    for name, figure in same.items():
        for dataset, rows in figure.datasets.items():
            datasets.setdefault(dataset, []).extend(
                {**row, LABEL: name, PANEL: _panel(name, field, row, is_low)} for row in rows
            )
    caption = first.caption if is_low else f"{CAPTION} {first.caption}"
    chart = _chart(first.chart, not is_low)
    return replace(first, caption=caption, chart=chart, datasets=datasets)


def _panel(name: str, field: str, row: Mapping[str, Any], is_low: bool) -> str:
    """Return the title of a panel: a line for the set, one or two for what the row was by."""
    *first, last = LABEL_TITLES.get(field, field).split()
    value = f"{last} {row.get(field)}"
    lines = [" ".join(first), value] if is_low and first else [" ".join([*first, value])]
    return "\n".join([name, *lines])


def _chart(chart: Mapping[str, Any], own_axes: bool) -> dict[str, Any]:
    """Return the chart with a row of panels per set and value of its own rows."""
    changed: dict[str, Any] = copy.deepcopy(dict(chart))
    field = changed["facet"]["row"]["field"]
    header = {"title": None, "labelExpr": "split(datum.value, '\\n')"}
    changed["facet"]["row"] = {"field": PANEL, "type": "nominal", "header": header}
    if own_axes:
        changed["resolve"] = {"scale": {"y": "independent"}}
    if "usermeta" in changed:
        facets = [field, *(f for f in changed["usermeta"]["facets"] if f != field)]
        changed["usermeta"] = {**changed["usermeta"], "facets": [PANEL, LABEL, *facets]}
    return changed
