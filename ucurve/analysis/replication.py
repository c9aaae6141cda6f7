"""Numbers that were not measured here, beside those that were, and a verdict; `ucurve.figures.published` shows both.

    given = builtin("pythia-70m", "wikitext-2")        # what was published of this suite on this evaluation set
    verdict(compared(given, table))                    # reproduced or not, number by number

A kind says which numbers are its own (suite, evaluation set, recipe) and what a figure shows (`metric` of `charts.curves`); nothing
here knows a kind. A difference is only judged where the base agrees: a base perplexity more than 5% off means another
evaluation protocol.
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
from ucurve.spec import Verdict

if TYPE_CHECKING:
    import pandas as pd

FILE = Path(__file__).parents[1] / "builtin" / "published.json"
CLAIM = "published numbers reproduced"
COMPARABLE = 0.05  # of the base perplexity
MARGINS = {"perplexity_change": 0.20, "accuracy": 0.05}  # of the published change; of all examples
NAMES = {
    "perplexity": "perplexity",
    "perplexity_change": "change of perplexity",
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
    """One number of somebody else's: `metric` of a checkpoint at `tokens`.

    labels: columns of a table and their values under which the same was measured here, {"gamma": 0.04}; none: of the base.
    error: its standard error, where one was given.
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
    """A published number beside ours; interval: 95% over draws or seeds."""

    reference: Reference
    measured: float = math.nan
    interval: tuple[float, float] = (-math.inf, math.inf)
    outcome: Outcome = "not measured"
    reason: str = ""


@cache
def _all() -> tuple[Reference, ...]:
    """Typed into `builtin/published.json`, with their sources."""
    groups = json.loads(FILE.read_text())
    return tuple(
        Reference(**{**group, **row})
        for group in groups
        for rows in [group.pop("rows")]
        for row in rows
    )


def builtin(suite: str, evaluation: str | None) -> list[Reference]:
    """What comes with the package about a suite on an evaluation set; None: the suite's own."""
    return [one for one in _all() if one.suite == suite and evaluation in (None, one.evaluation)]


def compared(references: Sequence[Reference], table: pd.DataFrame) -> list[Comparison]:
    """Every number beside ours, bases first.

    table: rows with tokens, state, the columns that `labels` name, nll_mean, base (the loss before), and for accuracy also
    accuracy and accuracy_se, its standard error from the validation set.
    """
    table = table[table["state"] == "done"] if len(table) else table
    bases = {
        one.tokens: _base(one, table)
        for one in references
        if not one.labels and one.metric == "perplexity"
    }
    judged = [one for one in references if one.labels and one.metric in MARGINS]
    return [
        *bases.values(),
        *(_judged(one, table, bases.get(one.tokens), len(judged)) for one in judged),
    ]


def _rows(one: Reference, table: pd.DataFrame) -> pd.DataFrame:
    for name, value in {"tokens": one.tokens, **one.labels}.items():
        table = table[table[name] == value] if name in table else table[:0]
    return table[table["base"].notna()] if len(table) else table


def _base(one: Reference, table: pd.DataFrame) -> Comparison:
    mine = _rows(one, table)
    if not len(mine):
        return Comparison(one)
    measured = float(np.exp(mine["base"].iloc[0]))
    off = measured / one.value - 1
    if abs(off) <= COMPARABLE:
        return Comparison(
            one, measured, (measured, measured), "reproduced", f"base within {abs(off):.1%}"
        )
    reason = f"not comparable: the evaluation protocol differs (base perplexity {measured:.4g} instead of {one.value:.4g})"
    return Comparison(one, measured, (measured, measured), "not comparable", reason)


def _judged(one: Reference, table: pd.DataFrame, base: Comparison | None, num: int) -> Comparison:
    """Reproduced where the 95% interval lies within the margin of the published number, not reproduced where the interval,
    corrected for `num` numbers, lies outside of it; so neither is said wrongly in more than 5% of cases."""
    mine = _rows(one, table)
    if not len(mine):
        return Comparison(one)
    measured, (low, high), (least, most) = _interval(one, mine, num)
    if base is not None and base.outcome == "not comparable":
        return Comparison(one, measured, (low, high), "not comparable", base.reason)
    relative, name = one.metric != "accuracy", NAMES[one.metric]
    unit = abs(one.value) if relative else 1.0
    margin = MARGINS[one.metric] * unit
    told = f"{name} {measured:+.4g} ({low:+.4g} to {high:+.4g}) against {one.value:+.4g}" if relative else (
        f"{name} {measured:.3f} ({low:.3f} to {high:.3f}) against {one.value:.3f}"
    )  # fmt: skip
    furthest, share = (
        max(abs(low - one.value), abs(high - one.value)) / unit,
        f"{margin / unit:.0%}",
    )
    if furthest <= margin / unit:
        return Comparison(
            one, measured, (low, high), "reproduced", f"reproduced within {furthest:.0%} ({told})"
        )
    if least > one.value + margin or most < one.value - margin:
        what = (
            "forgetting"
            if relative and "learning_rate" in one.labels
            else "damage"
            if relative
            else name
        )
        why = f"not reproduced because of the {what}, which is more than {share} off ({told})"
        return Comparison(one, measured, (low, high), "not reproduced", why)
    why = f"undetermined: the interval is neither within {share} of the published number nor outside ({told})"
    return Comparison(one, measured, (low, high), "undetermined", why)


def _interval(
    one: Reference, mine: pd.DataFrame, num: int
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """Mean, 95% interval, and the interval corrected for num numbers; accuracies have the validation sets' error."""
    if one.metric == "accuracy":
        values, level = mine["accuracy"].to_numpy(dtype=float), t_quantile(1 - 0.025 / num, 10**6)
        seeds = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        own = float(mine["accuracy_se"].mean())
        error = math.sqrt(seeds**2 + own**2 + (own if one.error is None else one.error) ** 2)
        mean = float(values.mean())
        return (
            mean,
            (mean - 1.96 * error, mean + 1.96 * error),
            (mean - level * error, mean + level * error),
        )
    losses, base = mine["nll_mean"].to_numpy(dtype=float), float(mine["base"].iloc[0])
    if not np.isfinite(losses).all():
        return math.inf, (-math.inf, math.inf), (-math.inf, math.inf)
    with np.errstate(over="ignore"):
        found = [
            np.exp(mean_interval(losses, level)) - np.exp(base) for level in (0.95, 1 - 0.05 / num)
        ]
    (mean, low, high), (_, least, most) = ([float(value) for value in three] for three in found)
    return mean, (low, high), (least, most)


def verdict(comparisons: Sequence[Comparison]) -> Verdict | None:
    """Were the published numbers reproduced? None while none of them is measured."""
    judged = [one for one in comparisons if one.reference.labels]
    told = [one for one in judged if one.outcome != "not measured"]
    if not told:
        return None
    answers = {one.outcome for one in told}
    answer: Literal["yes", "no", "undetermined"] = "undetermined"
    if "not reproduced" in answers:
        answer = "no"
    elif answers == {"reproduced"} and len(told) == len(judged):
        answer = "yes"
    reasons: dict[str, list[str]] = {}
    for one in told:
        if one.reason not in reasons.setdefault(one.reference.revision, []):
            reasons[one.reference.revision].append(one.reason)
    missing = len(judged) - len(told)
    return Verdict(
        claim=CLAIM,
        scope="; ".join(dict.fromkeys(one.reference.source for one in told)),
        answer=answer,
        sentence="; ".join(f"{revision}: {', '.join(mine)}" for revision, mine in reasons.items())
        + (
            f"; {missing} of {len(judged)} published numbers have no counterpart here yet."
            if missing
            else "."
        ),
        test="base perplexity within 5%, else not comparable; reproduced: the 95% interval lies within 20% of the published change "
        "of perplexity and within 0.05 of the accuracy; not reproduced: it lies outside of that, corrected for the number of "
        "numbers; published changes of perplexity come without an error and count as exact",
        evidence={
            "outcomes": [
                [one.reference.revision, one.reference.metric, one.outcome] for one in told
            ]
        },
    )
