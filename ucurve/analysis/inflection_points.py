"""Inflection points of different modifications side by side: do they agree?
 The paper reads equal inflection points under noise and under fine-tuning as a sign of a shared
mechanism. A larger modification moves the minimum to fewer tokens, so minima of all sizes are
compared, per pre-training seed: they *agree* when all intervals together span at most one step
between checkpoints, *differ* when no interval of one modification meets one of the other, and
anything else is undetermined. The verdicts of single conditions hold everything that is needed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ucurve.analysis import combined_verdicts
from ucurve.formatting import tokens
from ucurve.schemas.results import Answer, ConditionMinimum, Verdict

if TYPE_CHECKING:
    from ucurve.analysis.study_experiment import StudyExperiment

CLAIM = "inflection points agree"
UNIT = "tokens"  # minima on another axis (features learned) cannot be compared with these
RUN = re.compile(r"pre-training seed \d+")


def minima(experiments: Sequence[StudyExperiment]) -> list[ConditionMinimum]:
    """Return one minimum per condition whose loss may be a U-curve.

    A condition that two experiments share counts once, with the more draws.
    """
    largest: dict[tuple[str, str], Verdict] = {}
    for experiment in experiments:
        for verdict in filter(_has_minimum, experiment.verdicts):
            key = experiment.change, verdict.scope
            previous = largest.get(key)
            if previous is None or (verdict.num_draws or 0) > (previous.num_draws or 0):
                largest[key] = verdict
    return [
        _minimum(change, verdict)
        for (change, _), verdict in largest.items()
        if verdict.answer != "no"
    ]


def _minimum(change: str, verdict: Verdict) -> ConditionMinimum:
    assert verdict.minimum, "only for verdicts that have a minimum"
    run = run_of(verdict)
    return ConditionMinimum(
        change=change,
        condition=", ".join(part for part in verdict.scope.split(", ") if part != run),
        run=run,
        answer=verdict.answer,
        tokens=verdict.minimum.x,
        low=0.0 if verdict.minimum.at_first_checkpoint else verdict.minimum.low,
        high=verdict.minimum.high,
        step=max((b / a for a, b in itertools.pairwise(verdict.x) if a > 0), default=1.0),
    )


def run_of(verdict: Verdict) -> str:
    """Return the pre-training run in a verdict's scope, "pre-training seed 0"; empty if none."""
    match = RUN.search(verdict.scope)
    return match[0] if match else ""


def verdicts(experiments: Sequence[StudyExperiment]) -> list[Verdict]:
    """Return a verdict over all pre-training seeds first, then one per seed.

    None when fewer than two experiment types have minima in tokens.
    """
    with_minimum = [
        (experiment.change, verdict)
        for experiment in experiments
        for verdict in experiment.verdicts
        if _has_minimum(verdict)
    ]
    changes = list(dict.fromkeys(change for change, _ in with_minimum))
    if len(changes) < 2:
        return []
    points = minima(experiments)
    runs = sorted({run_of(verdict) for _, verdict in with_minimum})
    single = [
        _verdict(changes, [point for point in points if point.run == run], run) for run in runs
    ]
    summary = combined_verdicts.over_replicates(single, " and ".join(changes))
    return [summary.model_copy(update={"minima": points}), *single]


def _has_minimum(verdict: Verdict) -> bool:
    return (
        verdict.claim == "inflection point"
        and verdict.minimum is not None
        and verdict.effect_name.endswith(UNIT)
    )


def _verdict(changes: Sequence[str], points: Sequence[ConditionMinimum], run: str) -> Verdict:
    established = {
        change: [point for point in points if point.change == change and point.answer == "yes"]
        for change in changes
    }
    answer, reason = compare(established)
    return Verdict(
        claim=CLAIM,
        scope=run,
        answer=answer,
        sentence=reason,
        test="95% bootstrap intervals of the minima of all conditions with an established rise; "
        "agree: all intervals lie within one step between checkpoints; differ: no interval of one "
        "modification meets one of the other",
    )


def compare(established: dict[str, list[ConditionMinimum]]) -> tuple[Answer, str]:
    """Return answer and reason from the established minima of every modification."""
    missing = [change for change, points in established.items() if not points]
    ranges = {change: _range(points) for change, points in established.items() if points}
    listed = "; ".join(
        f"{change}: {_tokens(low)} to {_tokens(high)}" for change, (low, high) in ranges.items()
    )
    if missing:
        reason = f"No U-curve is established for {' and '.join(missing)}"
        return (
            "undetermined",
            f"{reason}, so there is nothing to compare{listed and f' ({listed})'}.",
        )
    for first, second in itertools.combinations(established, 2):
        if not any(
            a.low <= b.high and b.low <= a.high
            for a in established[first]
            for b in established[second]
        ):
            return (
                "no",
                f"They differ at every size tested ({listed}); other sizes might agree.",
            )
    points = [point for group in established.values() for point in group]
    low, high = _range(points)
    if low > 0 and high / low <= min(point.step for point in points) * 1.001:
        return "yes", f"They agree within one step between checkpoints ({listed})."
    return (
        "undetermined",
        f"The intervals overlap but span more than one step between checkpoints ({listed}).",
    )


def _range(points: Sequence[ConditionMinimum]) -> tuple[float, float]:
    return min(point.low for point in points), max(point.high for point in points)


def _tokens(value: float) -> str:
    return f"{tokens(value)} tokens" if value else "before the first checkpoint"
