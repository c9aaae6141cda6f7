"""Numbers that were not measured here as marks on figures, and as a table of differences beside those that were."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ucurve.analysis.replication import MARGINS, NAMES, WORST, Comparison, Reference
from ucurve.figures import charts
from ucurve.spec import Figure


def beside(
    figures: Mapping[str, Figure], references: Sequence[Reference], compared: Sequence[Comparison]
) -> dict[str, Figure]:
    """The figures with the published numbers on them, and one more: the table of differences."""
    return {**overlaid(figures, references), "published": _differences(references, compared)}


def overlaid(figures: Mapping[str, Figure], references: Sequence[Reference]) -> dict[str, Figure]:
    """The figures with a mark "reference" per number of the metric that a figure says it shows, in every panel it belongs to."""
    return {name: _overlaid(figure, references) for name, figure in figures.items()}


def _overlaid(figure: Figure, references: Sequence[Reference]) -> Figure:
    shows = figure.chart.get("usermeta", {})
    mine = [one for one in references if one.metric == shows.get("metric")]
    if not mine:
        return figure
    [(dataset, rows)] = figure.datasets.items()
    panels = {tuple(row.get(name) for name in shows["facets"]) for row in rows}
    marks = []
    for one, panel in itertools.product(mine, sorted(panels, key=repr)):
        where = dict(zip(shows["facets"], panel, strict=True))
        named = {**one.labels, "evaluation": one.evaluation}
        line = one.labels.get(shows["line"], shows["base"])
        if line is not None and all(
            value == named.get(name, value) for name, value in where.items()
        ):
            told = one.source + (f" (± {one.error:.3g})" if one.error else "")
            marks.append(
                {
                    "what": "reference",
                    **where,
                    shows["line"]: line,
                    "tokens": one.tokens,
                    "y": one.value,
                    "label": told,
                }
            )
    return replace(figure, datasets={dataset: [*rows, *marks]})


def _differences(references: Sequence[Reference], comparisons: Sequence[Comparison]) -> Figure:
    """The table of differences: a row per checkpoint, "measured, its interval (published)", and the worst outcome."""
    columns = list(
        dict.fromkeys(_column(one) for one in references if not one.labels or one.metric in MARGINS)
    )
    rows: list[dict[str, Any]] = []
    for tokens in sorted({one.reference.tokens for one in comparisons}):
        mine = [one for one in comparisons if one.reference.tokens == tokens]
        judged = [one.outcome for one in mine if one.reference.labels] or [
            one.outcome for one in mine
        ]
        texts = {_column(one.reference): _cell(one) for one in mine}
        texts["outcome"] = "…" if set(judged) == {"not measured"} else min(judged, key=WORST.index)
        rows += [
            {"what": "cell", "tokens": tokens, "column": column, "label": text}
            for column, text in texts.items()
        ]
    return Figure(
        "Beside the published numbers",
        f"Measured, its 95% interval (published). {'; '.join(dict.fromkeys(one.source for one in references))}. Where the base "
        "perplexity is more than 5% off, the evaluation protocol differs and the numbers are not comparable.",
        charts.text_table(
            charts.tokens_axis(), charts.Lines("column", "", [*columns, "outcome"]), width=190
        ),
        {"cells": rows},
    )


def _column(one: Reference) -> str:
    return f"base {NAMES[one.metric]}" if not one.labels else NAMES[one.metric]


def _cell(one: Comparison) -> str:
    number = {"perplexity": ".4g", "perplexity_change": "+.4g", "accuracy": ".3f"}[
        one.reference.metric
    ]
    if one.outcome == "not measured":
        return f"… ({one.reference.value:{number}})"
    low, high = one.interval
    spread = (
        f", {low:{number}} to {high:{number}}"
        if one.reference.labels and math.isfinite(high - low)
        else ""
    )
    return f"{one.measured:{number}}{spread} ({one.reference.value:{number}})"
