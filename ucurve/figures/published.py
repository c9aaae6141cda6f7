"""Numbers that were not measured here, on figures and in a table beside the measured ones.

    with_references(figures, references, comparisons)     # published numbers of a kind's suite
    with_curves(figures, curves, [(7, "perplexity")])     # reference curves that a user selected

They are marked as crosses and never mixed with measurements.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ucurve.analysis.replication import MARGINS, NAMES, WORST, Comparison, Reference
from ucurve.figures.axes import tokens_axis
from ucurve.figures.colours import LineEncoding
from ucurve.figures.grids import text_table
from ucurve.schemas.references import ReferenceCurve
from ucurve.schemas.results import Figure

NUMBERS = {"perplexity": ".4g", "perplexity_change": "+.4g", "accuracy": ".3f"}
CROSSES = "Crosses (not measured here):"
NO_INTERVAL = " (no interval)"
NORMAL_95 = 1.96


def with_references(
    figures: Mapping[str, Figure],
    references: Sequence[Reference],
    comparisons: Sequence[Comparison],
) -> dict[str, Figure]:
    """Return the figures with published numbers on them, and the table of differences."""
    table = _differences(references, comparisons)
    return {**overlay(figures, references), "published": table}


def overlay(
    figures: Mapping[str, Figure],
    references: Sequence[Reference],
    without_error: str = "",
    selected: bool = False,
) -> dict[str, Figure]:
    """Return the figures with a mark per number of the metric that a figure shows.

    In every panel that it belongs to. without_error: what the label of such a number ends with.
    selected: by a user, who may want numbers of another evaluation set beside all of these.
    """
    return {
        name: _overlay(figure, references, without_error, selected)
        for name, figure in figures.items()
    }


def _overlay(
    figure: Figure, references: Sequence[Reference], without_error: str, selected: bool
) -> Figure:
    shows = figure.chart.get("usermeta", {})
    own = [reference for reference in references if reference.metric == shows.get("metric")]
    if not own:
        return figure
    [(dataset, rows)] = figure.datasets.items()
    panels = {tuple(row.get(name) for name in shows["facets"]) for row in rows}
    sets = {row.get("evaluation") for row in rows}
    marks = []
    for reference, panel in itertools.product(own, sorted(panels, key=repr)):
        place = dict(zip(shows["facets"], panel, strict=True))
        labels = dict(reference.labels)
        if reference.evaluation is not None and (reference.evaluation in sets or not selected):
            labels["evaluation"] = reference.evaluation
        line = reference.labels.get(shows["line"], shows["base"])
        if line is not None and all(
            value == labels.get(name, value) for name, value in place.items()
        ):
            known = reference.error is not None
            error = f" (± {reference.error:.3g})" if known else without_error
            marks.append(
                {
                    "what": "reference",
                    **place,
                    shows["line"]: line,
                    "tokens": reference.tokens,
                    "y": reference.value,
                    "label": reference.source + error,
                    **interval_ends(reference.value, reference.error),
                }
            )
    return replace(figure, datasets={dataset: [*rows, *marks]})


def _differences(references: Sequence[Reference], comparisons: Sequence[Comparison]) -> Figure:
    """Return the table of differences: a row per checkpoint, and its worst outcome."""
    columns = list(
        dict.fromkeys(
            _column(reference)
            for reference in references
            if not reference.labels or reference.metric in MARGINS
        )
    )
    rows: list[dict[str, Any]] = []
    for tokens in sorted({comparison.reference.tokens for comparison in comparisons}):
        own = [comparison for comparison in comparisons if comparison.reference.tokens == tokens]
        changed = [comparison.outcome for comparison in own if comparison.reference.labels]
        outcomes = changed or [comparison.outcome for comparison in own]
        texts = {_column(comparison.reference): _cell(comparison) for comparison in own}
        measured = set(outcomes) != {"not measured"}
        texts["outcome"] = min(outcomes, key=WORST.index) if measured else "…"
        rows += [
            {"what": "cell", "tokens": tokens, "column": column, "label": text}
            for column, text in texts.items()
        ]
    sources = "; ".join(dict.fromkeys(reference.source for reference in references))
    return Figure(
        "Measured and published numbers",
        f"Measured, its 95% interval (published). {sources}. Where the unperturbed perplexity is "
        "more "
        "than 5% off, the evaluation protocol differs and the numbers are not comparable.",
        text_table(
            tokens_axis(),
            LineEncoding("column", "", [*columns, "outcome"]),
            width=190,
        ),
        {"cells": rows},
    )


def _column(reference: Reference) -> str:
    name = NAMES[reference.metric]
    return name if reference.labels else f"unperturbed {name}"


def _cell(comparison: Comparison) -> str:
    number, reference = NUMBERS[comparison.reference.metric], comparison.reference
    if comparison.outcome == "not measured":
        return f"… ({reference.value:{number}})"
    low, high = comparison.interval
    interval = ""
    if reference.labels and math.isfinite(high - low):
        interval = f", {low:{number}} to {high:{number}}"
    return f"{comparison.measured:{number}}{interval} ({reference.value:{number}})"


def interval_ends(value: float, error: float | None) -> dict[str, float]:
    """Return the ends of the 95% interval that a standard error gives, for a row of a figure."""
    if error is None:
        return {}
    return {"error_low": value - NORMAL_95 * error, "error_high": value + NORMAL_95 * error}


# ---- reference curves


def evaluation_and_metric(metric: str) -> tuple[str | None, str]:
    """Split "lambada_openai/perplexity" into ("lambada_openai", "perplexity").

    lm-evaluation-harness says acc for accuracy.
    """
    evaluation, _, name = metric.rpartition("/")
    return evaluation or None, {"acc": "accuracy"}.get(name, name)


def available_curves(
    curves: Iterable[ReferenceCurve],
    suite: str,
    metrics: set[str],
    evaluation: str | Sequence[str] | None,
) -> dict[str, tuple[int, str, bool]]:
    """Return what figures of these metrics can show: {label: (curve, metric, same evaluation set)}.

    Curves measured on the same evaluation set, or on one of them, are shown by default.
    """
    own = [evaluation] if isinstance(evaluation, str) else list(evaluation or ())
    available = {}
    for curve in curves:
        for metric in curve.metrics if curve.suite == suite else ():
            measured_on, name = evaluation_and_metric(metric)
            if name in metrics:
                label = curve.name + (f" ({measured_on})" if measured_on else "")
                label += "" if len(metrics) == 1 else f": {name}"
                available[label] = (curve.id, metric, measured_on in (None, *own))
    return available


def metrics_of(figures: Mapping[str, Figure]) -> set[str]:
    """Return the metrics over tokens that these figures show."""
    metrics = {figure.chart.get("usermeta", {}).get("metric") for figure in figures.values()}
    return {metric for metric in metrics if metric}


def with_curves(
    figures: Mapping[str, Figure],
    curves: Sequence[ReferenceCurve],
    selection: Iterable[tuple[int, str]],
) -> dict[str, Figure]:
    """Return the figures with the selected (curve, metric) on those that show that metric."""
    by_id = {curve.id: curve for curve in curves}
    references = [
        reference for id, metric in selection for reference in _references_of(by_id[id], metric)
    ]
    drawn = overlay(figures, references, NO_INTERVAL, selected=True)
    for name, figure in drawn.items():
        if figure is not figures[name]:
            metric = figure.chart["usermeta"]["metric"]
            own = [reference for reference in references if reference.metric == metric]
            sources = dict.fromkeys(reference.source for reference in own)
            without = dict.fromkeys(r.source for r in own if r.error is None)
            caption = f"{figure.caption} {CROSSES} {', '.join(sources)}." + intervals_in_words(
                without, has_bars=any(reference.error is not None for reference in own)
            )
            drawn[name] = replace(figure, caption=caption)
    return drawn


def intervals_in_words(without: Iterable[str], has_bars: bool) -> str:
    """Say in a caption what the bars at crosses are, and which crosses have none."""
    names = ", ".join(without)
    bars = " Bars: 95% intervals from the standard errors in the files." if has_bars else ""
    return bars + (f" No interval is known for {names}." if names else "")


def _references_of(curve: ReferenceCurve, metric: str) -> list[Reference]:
    measured_on, name = evaluation_and_metric(metric)
    return [
        Reference(
            source=curve.name + (f" ({measured_on})" if measured_on else ""),
            suite=curve.suite or "",
            evaluation=measured_on,
            metric=name,
            tokens=row.tokens,
            value=row.value,
            revision=row.revision,
            error=row.standard_error,
        )
        for row in curve.rows
        if row.metric == metric
    ]
