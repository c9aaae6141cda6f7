"""Published numbers beside measured ones, and a verdict on their replication.

    references = builtin("pythia-70m", "wikitext-2")   # published for this suite and evaluation set
    verdict(compare(references, table))                # reproduced or not, number by number
 A kind selects the references that apply to it (suite, evaluation set, recipe); nothing here knows
a kind. `ucurve.figures.published` draws both. A difference is judged only when the base agrees: a
base perplexity more than 5% off means another evaluation protocol.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ucurve.analysis.statistics import mean_interval, t_quantile
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

FILE = Path(__file__).parents[1] / "builtin" / "published.json"
CLAIM = "published numbers reproduced"
COMPARABLE = 0.05  # of the base perplexity
MARGINS = {"perplexity_change": 0.20, "accuracy": 0.05}  # of the published change; of all examples
NAMES = {
    "perplexity": "perplexity",
    "perplexity_change": "change in perplexity",
    "accuracy": "accuracy",
}
Outcome = Literal["not reproduced", "not comparable", "undetermined", "reproduced", "not measured"]
WORST: tuple[Outcome, ...] = (
    "not reproduced",
    "not comparable",
    "undetermined",
    "not measured",
    "reproduced",
)


@dataclass(frozen=True)
class Reference:
    """A published number: `metric` of the checkpoint at `tokens`.

    labels: columns of a table and their values under which the same was measured here, such as
        {"gamma": 0.04}; empty: of the base.
    error: its standard error, if published.
    """

    source: str
    suite: str
    evaluation: str | None
    metric: str
    tokens: float
    value: float
    labels: Mapping[str, Any] = field(default_factory=dict)
    revision: str = ""
    error: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A published number and the measured one; interval: 95% over draws or seeds."""

    reference: Reference
    measured: float = math.nan
    interval: tuple[float, float] = (-math.inf, math.inf)
    outcome: Outcome = "not measured"
    reason: str = ""


@cache
def _all() -> tuple[Reference, ...]:
    """Read `builtin/published.json`."""
    groups = json.loads(FILE.read_text())
    return tuple(
        Reference(**{**group, **row})
        for group in groups
        for rows in [group.pop("rows")]
        for row in rows
    )


def builtin(suite: str, evaluation: str | None) -> list[Reference]:
    """Return the numbers that come with the package; evaluation None: the suite's own set."""
    return [
        reference
        for reference in _all()
        if reference.suite == suite and evaluation in (None, reference.evaluation)
    ]


def compare(references: Sequence[Reference], table: pd.DataFrame) -> list[Comparison]:
    """Compare every reference with the measured number, bases first.

    table: rows with tokens, state, the columns that `labels` name, nll_mean, base (the loss
    before), and for accuracy also accuracy and accuracy_se, its standard error from the validation
    set.
    """
    table = table[table["state"] == "done"] if len(table) else table
    bases = {
        reference.tokens: _compare_base(reference, table)
        for reference in references
        if not reference.labels and reference.metric == "perplexity"
    }
    judged = [
        reference for reference in references if reference.labels and reference.metric in MARGINS
    ]
    return [
        *bases.values(),
        *(
            _judge(reference, table, bases.get(reference.tokens), len(judged))
            for reference in judged
        ),
    ]


def _rows(reference: Reference, table: pd.DataFrame) -> pd.DataFrame:
    for name, value in {"tokens": reference.tokens, **reference.labels}.items():
        table = table[table[name] == value] if name in table else table[:0]
    return table[table["base"].notna()] if len(table) else table


def _compare_base(reference: Reference, table: pd.DataFrame) -> Comparison:
    rows = _rows(reference, table)
    if not len(rows):
        return Comparison(reference)
    measured = float(np.exp(rows["base"].iloc[0]))
    off = abs(measured / reference.value - 1)
    outcome: Outcome = "reproduced" if off <= COMPARABLE else "not comparable"
    reason = f"base within {off:.1%}"
    if outcome == "not comparable":
        reason = (
            "not comparable: the evaluation protocol differs (base perplexity "
            f"{measured:.4g} instead of {reference.value:.4g})"
        )
    return Comparison(reference, measured, (measured, measured), outcome, reason)


def _judge(
    reference: Reference, table: pd.DataFrame, base: Comparison | None, num: int
) -> Comparison:
    """Judge one number, corrected for `num` numbers.

    Reproduced when the 95% interval lies within the margin of the published number; not reproduced
    when the corrected interval lies outside of it. So either error is below 5%.
    """
    rows = _rows(reference, table)
    if not len(rows):
        return Comparison(reference)
    measured, (low, high), (least, most) = _intervals(reference, rows, num)
    if base is not None and base.outcome == "not comparable":
        return Comparison(reference, measured, (low, high), "not comparable", base.reason)
    is_change, value = reference.metric != "accuracy", reference.value
    number = "+.4g" if is_change else ".3f"
    unit = abs(value) if is_change else 1.0
    margin = MARGINS[reference.metric] * unit
    numbers = (
        f"{NAMES[reference.metric]} {measured:{number}} ({low:{number}} to {high:{number}}), "
        f"published {value:{number}}"
    )
    furthest, share = max(abs(low - value), abs(high - value)) / unit, f"{margin / unit:.0%}"
    outcome: Outcome = "undetermined"
    reason = f"undetermined: the interval overlaps the {share} margin only in part ({numbers})"
    if furthest <= margin / unit:
        outcome, reason = "reproduced", f"reproduced within {furthest:.0%} ({numbers})"
    elif least > value + margin or most < value - margin:
        outcome = "not reproduced"
        reason = f"not reproduced: the {_quantity(reference)} is more than {share} off ({numbers})"
    return Comparison(reference, measured, (low, high), outcome, reason)


def _quantity(reference: Reference) -> str:
    if reference.metric == "accuracy":
        return NAMES[reference.metric]
    return "forgetting" if "learning_rate" in reference.labels else "loss increase"


def _intervals(
    reference: Reference, rows: pd.DataFrame, num: int
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """Return the mean, its 95% interval, and its interval corrected for num numbers.

    Accuracies include the validation sets' sampling error.
    """
    if reference.metric == "accuracy":
        values, level = rows["accuracy"].to_numpy(dtype=float), t_quantile(1 - 0.025 / num, 10**6)
        seeds = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        own = float(rows["accuracy_se"].mean())
        published = own if reference.error is None else reference.error
        error = math.sqrt(seeds**2 + own**2 + published**2)
        mean = float(values.mean())
        return (
            mean,
            (mean - 1.96 * error, mean + 1.96 * error),
            (mean - level * error, mean + level * error),
        )
    losses, base = rows["nll_mean"].to_numpy(dtype=float), float(rows["base"].iloc[0])
    if not np.isfinite(losses).all():
        return math.inf, (-math.inf, math.inf), (-math.inf, math.inf)
    with np.errstate(over="ignore"):
        intervals = [
            np.exp(mean_interval(losses, level)) - np.exp(base) for level in (0.95, 1 - 0.05 / num)
        ]
    (mean, low, high), (_, least, most) = (map(float, interval) for interval in intervals)
    return mean, (low, high), (least, most)


def verdict(comparisons: Sequence[Comparison]) -> Verdict | None:
    """Return whether the published numbers were reproduced; None while none of them is measured."""
    judged = [comparison for comparison in comparisons if comparison.reference.labels]
    measured = [comparison for comparison in judged if comparison.outcome != "not measured"]
    if not measured:
        return None
    outcomes = {comparison.outcome for comparison in measured}
    answer: Answer = "undetermined"
    if "not reproduced" in outcomes:
        answer = "no"
    elif outcomes == {"reproduced"} and len(measured) == len(judged):
        answer = "yes"
    reasons: dict[str, dict[str, None]] = {}
    for comparison in measured:
        reasons.setdefault(comparison.reference.revision, {})[comparison.reason] = None
    sentence = "; ".join(f"{revision}: {', '.join(texts)}" for revision, texts in reasons.items())
    if missing := len(judged) - len(measured):
        sentence += f"; {missing} of {len(judged)} published numbers are not measured yet"
    return Verdict(
        claim=CLAIM,
        scope="; ".join(dict.fromkeys(comparison.reference.source for comparison in measured)),
        answer=answer,
        sentence=f"{sentence}.",
        test="comparable: base perplexity within 5%; reproduced: the 95% interval lies within 20% "
        "of "
        "the published change in perplexity, or within 0.05 of the accuracy; not reproduced: it "
        "lies "
        "outside of that, corrected for multiple numbers; published changes in perplexity have no "
        "standard error and count as exact",
        evidence={
            "outcomes": [
                [
                    comparison.reference.revision,
                    comparison.reference.metric,
                    comparison.outcome,
                ]
                for comparison in measured
            ]
        },
    )
