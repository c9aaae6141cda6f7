"""Does the loss increase of the next pre-training run grow with its length?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ucurve.analysis import effect_sizes
from ucurve.analysis.next_run_verdict import (
    corrected,
    evidence_of,
    more_runs,
    notes,
    obstacle,
    over_runs,
    single_interval,
    span,
    unresolved,
    verdict,
    with_unsaid,
)
from ucurve.analysis.prediction import Prediction
from ucurve.analysis.runs import Effects, Runs
from ucurve.schemas.results import Answer, Verdict

CLAIM = "progressive sensitivity of the next run"


@dataclass(frozen=True)
class _Growth:
    """How the loss increase of one setting grows: as a ratio where it has one, and in nats.

    The ratio is tested where there is one, since runs differ by factors rather than by amounts.
    """

    runs: Runs
    amount: Effects
    ratio: Effects | None  # its logarithm

    @property
    def used(self) -> Effects:
        """What is tested."""
        return self.ratio or self.amount

    @property
    def tested(self) -> Prediction:
        """The prediction of what is tested."""
        return self.used.prediction

    @property
    def effect(self) -> tuple[float, tuple[float, float], str]:
        """Mean over runs, 95% prediction interval and name of what is tested."""
        low, high = single_interval(self.used)
        mean = float(self.tested.mean[0])
        if self.ratio is None:
            name = "growth of the loss increase from the first to the last checkpoint, in a new run"
            return mean, (low, high), f"{name}, {self.runs.first.unit}"
        name = "loss increase at the last checkpoint over that at the first, in a new run"
        return float(np.exp(mean)), (float(np.exp(low)), float(np.exp(high))), name


def verdicts(settings: Sequence[Runs]) -> list[Verdict]:
    """Return a verdict per setting; p-values are corrected over them."""
    usable = [runs for runs in settings if not obstacle(runs)]
    growths = [_Growth(runs, runs.growth(), runs.log_ratio()) for runs in usable]
    num = len(settings)
    rising = corrected([float(growth.tested.p_rising[0]) for growth in growths], num)
    falling = corrected([float(growth.tested.p_falling[0]) for growth in growths], num)
    judged = [
        _verdict(growth, p, p_falling, num)
        for growth, p, p_falling in zip(growths, rising, falling, strict=True)
    ]
    return with_unsaid(settings, judged, CLAIM)


def _verdict(growth: _Growth, p: float, p_falling: float, num_settings: int) -> Verdict:
    """Return the verdict of one setting; p-values are corrected over settings."""
    condition = growth.runs.first
    interval = single_interval(growth.amount)
    smallest, unit = condition.smallest_effect, condition.unit
    reason = _reason(growth)
    answer: Answer = "undetermined"
    more = None
    if p < condition.alpha:
        answer = "yes"
        mean = float(growth.amount.prediction.mean[0])
        reason += effect_sizes.remark(mean, interval, smallest, unit)
    elif p_falling < condition.alpha:
        answer = "no"
    elif interval[1] < smallest:
        answer = "no"
        reason += f" Growth by {smallest:g} {unit} or more is ruled out."
    else:
        more = more_runs(growth.used, growth.amount.prediction, condition, num_settings)
        includes = single_interval(growth.used)[0] <= 0
        reason += unresolved("no growth" if includes else "", num_settings, more)
    effect, effect_interval, name = growth.effect
    return verdict(
        growth.runs,
        CLAIM,
        answer,
        reason,
        num_settings,
        effect=effect,
        effect_name=name + notes(growth.runs),
        interval=effect_interval,
        p_value=p_falling if answer == "no" and p_falling < condition.alpha else p,
        test="t test on " + ("the logarithm of the ratio" if growth.ratio else "the growth"),
        evidence=evidence_of(growth.runs, growth.used, 0, more),
    )


def _reason(growth: _Growth) -> str:
    condition, predicted = growth.runs.first, growth.used
    effect, (low, high), _ = growth.effect
    start = f"From {condition.at(0)} to {condition.at(-1)} the loss increase"
    if growth.ratio is None:
        return (
            f"{start} grows by {condition.amount(effect)} on average over "
            f"{over_runs(predicted, 0)}; in the next run by {span(low, high)} "
            f"{condition.unit} (95% prediction interval)."
        )
    return (
        f"{start} becomes {effect:.3g} times as large on average over "
        f"{over_runs(predicted, 0, logs=True)}; in the next run {span(low, high)} times (95% "
        "prediction interval)."
    )
