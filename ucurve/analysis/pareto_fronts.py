"""The Pareto front of learning the new task and keeping pre-training text, with a band.

    band = front_band(task, retention)             # [num_rates, num_seeds] each, lower is better
    band.steps                                     # [(new-task loss, low, high), ...]

The front at a new-task loss is the lowest retention loss among the rates that reach it. Which rates
are on the front is estimated too, so the band is made of simultaneous 95% intervals of both losses
at every rate (Bonferroni): where all of them hold, which is the case in at least 95% of
experiments, the whole true front of these rates lies between its limits, whichever rates are on it.
Below the smallest loss that is reached for certain there is no upper limit. About one checkpoint
and these texts; calibration: `benchmarks/rate_calibration.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ucurve.analysis.statistics import Array, mean_interval

Step = tuple[float, float, float]
LEVEL = 0.95


@dataclass(frozen=True)
class FrontBand:
    """A band of step functions over the loss on the new task.

    steps: where the limits change, ascending: (task loss, lower, upper limit of retention loss);
    upper limit inf before a rate reaches that loss for certain. front: the estimated one, its rates
    and their means (rate, task, retention), by ascending task loss.
    """

    steps: list[Step]
    front: list[tuple[int, float, float]]

    def holds(self, front: list[tuple[float, float]]) -> bool:
        """Return whether a front, given as its corners, lies within the band everywhere."""
        places = sorted({place for place, _, _ in self.steps} | {place for place, _ in front})
        return all(self._holds_at(place, _height(front, place)) for place in places)

    def _holds_at(self, place: float, height: float) -> bool:
        reached = [(low, high) for at, low, high in self.steps if at <= place]
        if not reached:
            return bool(np.isinf(height))
        low, high = reached[-1]
        return low <= height <= high


def front_band(task: Array, retention: Array) -> FrontBand | None:
    """Return the band of one checkpoint; None with fewer than two seeds or without a finite rate.

    task, retention [num_rates, num_seeds], lower is better; a rate at which a seed diverged is left
    out.
    """
    usable = np.flatnonzero((np.isfinite(task) & np.isfinite(retention)).all(axis=1))
    if not len(usable) or task.shape[1] < 2:
        return None
    level = 1 - (1 - LEVEL) / (2 * len(usable))
    learned = [mean_interval(task[rate], level) for rate in usable]
    retained = [mean_interval(retention[rate], level) for rate in usable]
    lows = [(x[1], y[1]) for x, y in zip(learned, retained, strict=True)]
    highs = [(x[2], y[2]) for x, y in zip(learned, retained, strict=True)]
    places = sorted({x for x, _ in lows} | {x for x, _ in highs})
    steps = [(float(place), _height(lows, place), _height(highs, place)) for place in places]
    means = [(x[0], y[0]) for x, y in zip(learned, retained, strict=True)]
    front = sorted(
        (x, y, int(rate))
        for (x, y), rate in zip(means, usable, strict=True)
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in means)
    )
    return FrontBand(_changes(steps), [(rate, float(x), float(y)) for x, y, rate in front])


def true_front(task: Array, retention: Array) -> list[tuple[float, float]]:
    """Return the corners of the front of means [num_rates]."""
    return [
        (float(x), float(y))
        for x, y in zip(task, retention, strict=True)
        if _height(list(zip(task, retention, strict=True)), float(x)) >= y
    ]


def _height(points: list[tuple[float, float]], place: float) -> float:
    """Return the lowest retention loss of the points that reach a loss on the new task."""
    return min((float(y) for x, y in points if x <= place), default=float("inf"))


def _changes(steps: list[Step]) -> list[Step]:
    """Return the steps at which a limit changes."""
    return [step for i, step in enumerate(steps) if i == 0 or step[1:] != steps[i - 1][1:]]
