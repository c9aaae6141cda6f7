"""Does the loss after the modification of the next pre-training run rise after its minimum?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ucurve.analysis import effect_sizes, prediction, text_error
from ucurve.analysis.next_run_verdict import (
    corrected,
    evidence_of,
    more_runs,
    notes,
    obstacle,
    over_runs,
    span,
    unresolved,
    verdict,
    with_unsaid,
)
from ucurve.analysis.runs import Effects, Runs
from ucurve.schemas.results import Answer, Verdict

CLAIM = "catastrophic overtraining of the next run"


@dataclass(frozen=True)
class _Rise:
    """The rise of one setting in a new run.

    minimum: the checkpoint before the last whose mean over runs is lowest. interval: 95%, of the
    rise after the minimum of the new run, wherever that is. p: the rise is there and more than the
    unperturbed loss explains; p_rise: it is there.
    """

    runs: Runs
    rises: Effects
    beyond: Effects
    minimum: int
    interval: tuple[float, float]
    p: float
    p_rise: float

    @property
    def mean(self) -> float:
        """Mean over runs of the rise from the checkpoint where their mean is lowest."""
        return float(self.rises.prediction.mean[self.minimum])

    @property
    def base(self) -> float:
        """Mean over runs of the rise of the unperturbed loss from there."""
        return float(np.mean(self.runs.base[-1] - self.runs.base[self.minimum]))


def verdicts(settings: Sequence[Runs]) -> list[Verdict]:
    """Return a verdict per setting; p-values are corrected over them."""
    rises = [_rise(runs) for runs in settings if not obstacle(runs)]
    num = len(settings)
    unexplained = corrected([rise.p for rise in rises], num)
    risen = corrected([rise.p_rise for rise in rises], num)
    judged = [
        _verdict(rise, p, p_rise, num)
        for rise, p, p_rise in zip(rises, unexplained, risen, strict=True)
    ]
    return with_unsaid(settings, judged, CLAIM)


def _rise(runs: Runs) -> _Rise:
    """Return the rise in a new run, whose minimum may be at any checkpoint before the last.

    Lower end: the highest of Bonferroni's lower ends over checkpoints. Upper end: that of the rise
    after each run's own minimum, which is not smaller than from any fixed checkpoint.
    """
    rises, beyond = runs.rises(), runs.rises_beyond_base()
    predicted = rises.prediction
    num, minimum = len(predicted.mean), int(predicted.mean.argmax())
    lows = predicted.mean - np.hypot(predicted.mean - predicted.new(0.025 / num), rises.text)
    mean, text = float(predicted.mean[minimum]), float(rises.text[minimum])
    _, high = text_error.widened((mean, float(rises.largest().high)), mean, text)
    unexplained = beyond.prediction.p_rising  # of that contrast, and where the minimum is
    both = np.maximum(predicted.p_rising, unexplained)
    return _Rise(
        runs,
        rises,
        beyond,
        minimum,
        (float(lows.max()), high),
        max(prediction.simes(both), float(unexplained[minimum])),
        prediction.simes(predicted.p_rising),
    )


def _verdict(rise: _Rise, p: float, p_rise: float, num_settings: int) -> Verdict:
    """Return the verdict of one setting; p-values are corrected over settings."""
    condition = rise.runs.first
    smallest, unit = condition.smallest_effect, condition.unit
    reason = _reason(rise)
    answer: Answer = "undetermined"
    more = None
    if p < condition.alpha:
        answer = "yes"
        reason += effect_sizes.remark(rise.mean, rise.interval, smallest, unit)
    elif p_rise < condition.alpha:
        explained = rise.beyond.prediction.high[rise.minimum] < 0
        answer = "no" if explained else "undetermined"
        reason += (
            " That is more than half of the rise: the unperturbed loss rises, too."
            if explained
            else " Whether that is less than half of the rise is undetermined."
        )
    elif rise.interval[1] < smallest:
        answer = "no"
        reason += f" A rise of {smallest:g} {unit} or more is ruled out."
    else:
        num_tests = num_settings * len(rise.rises.of_runs)
        more = more_runs(rise.rises, rise.rises.largest(), condition, num_tests, rise.minimum)
        reason += unresolved("no rise" if rise.interval[0] <= 0 else "", num_settings, more)
    return verdict(
        rise.runs,
        CLAIM,
        answer,
        reason,
        num_settings,
        effect=rise.mean,
        effect_name=f"rise of the loss after its minimum, in a new run, {unit}" + notes(rise.runs),
        interval=rise.interval,
        p_value=p,
        test="t tests, last checkpoint against each earlier one, combined by Simes' method, which "
        "accounts for selecting the minimum; the rise, and the rise less twice that of the "
        "unperturbed loss, must both be above zero",
        evidence={
            **evidence_of(rise.runs, rise.rises, rise.minimum, more),
            "lowest_at": float(condition.x[rise.minimum]),
            "base_change_since_lowest": rise.base,
        },
    )


def _reason(rise: _Rise) -> str:
    condition = rise.runs.first
    return (
        f"From {condition.at(rise.minimum)} to {condition.at(-1)} the loss after the modification "
        f"changes by {condition.amount(rise.mean)} on average over "
        f"{over_runs(rise.rises, rise.minimum)}; in the next run, from its minimum to the last "
        f"checkpoint, by {span(*rise.interval)} {condition.unit} (95% prediction interval). The "
        f"unperturbed loss changes by {condition.amount(rise.base)} on average."
    )
