"""Fits to a sweep of learning rates: the best rate, its trend, and the growth of forgetting.

    >>> losses = np.array([[1.3, 1.32], [1.0, 1.02], [1.6, 1.7]])  # [num_rates, num_seeds]
    >>> best_rate(losses)  # lower is better
    Best(index=1, candidates=(1,), at_edge=False)

Seeds are paired: column j is the same seed everywhere. Intervals are over seeds
(`statistics.resampled_means`); false positives and coverage: `tests/test_learning_rate_fits.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ucurve.analysis import rate_confidence_sets, statistics
from ucurve.analysis.statistics import Array

Speed = Literal[
    "constant", "slowly falling", "quickly falling", "falling", "rising", "undetermined"
]


@dataclass(frozen=True)
class Best:
    """The rate with the lowest mean loss.

    candidates: the 95% confidence set of the best rate on the grid, see `rate_confidence_sets`.
    at_edge: it is at the edge of the grid, so the optimum may lie beyond.
    """

    index: int
    candidates: tuple[int, ...]
    at_edge: bool


@dataclass(frozen=True)
class RateTrend:
    """lr* ~ T^-p and forgetting ~ lr^b T^q over tokens T.

    excess = b p - q: if not negative, the best rate falls fast enough to offset growing forgetting.
    Intervals are 95% over seeds. reason: why the speed is undetermined.
    """

    speed: Speed
    p: float
    p_interval: tuple[float, float]
    b: float
    q: float
    excess: float
    excess_interval: tuple[float, float]
    reason: str = ""


@dataclass(frozen=True)
class GrowthLaw:
    """Whether log forgetting follows the rate (exponential) or its logarithm (power law).

    advantage: residual sum of squares of the power law minus that of the exponential; above 0 the
    exponential fits better. exponent: of the power law.
    """

    advantage: float
    interval: tuple[float, float]
    exponent: float
    num_rates: int


def best_rate(losses: Array, blocks: Array | None = None, error: float = 0.0) -> Best | None:
    """Return the best of losses [num_rates, num_seeds]; None without a finite mean.

    Lower is better, non-finite is worst. blocks, error: see `rate_confidence_sets.candidates`.
    """
    means = np.where(np.isfinite(losses).all(axis=1), losses.mean(axis=1), np.inf)
    if not np.isfinite(means).any():
        return None
    index = int(means.argmin())
    rates = rate_confidence_sets.candidates(losses, blocks, error)
    return Best(index, rates, index in (0, len(means) - 1))


def optima(rates: Array, means: Array) -> Array:
    """Return the log of the best rate of each row of means [..., num_rates].

    The vertex of the parabola through the lowest mean and its neighbours over log rate; at the edge
    of the grid, the edge.
    """
    logs = np.log(rates)
    flat = means.reshape(-1, len(rates))
    middle = flat.argmin(axis=1)
    inner = np.clip(middle, 1, len(rates) - 2)
    rows = np.arange(len(flat))
    x, y = (
        np.stack([logs[inner + i] for i in (-1, 0, 1)]),
        np.stack([flat[rows, inner + i] for i in (-1, 0, 1)]),
    )
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    curvature = (right - left) / (x[2] - x[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = (x[0] + x[1]) / 2 - left / (2 * curvature)
    inside = (middle == inner) & (curvature > 0)
    best = np.where(inside, np.clip(vertex, x[0], x[2]), logs[middle])
    return np.asarray(best.reshape(means.shape[:-1]), dtype=np.float64)


def rate_trend(
    x: Array, rates: Array, losses: Array, forgetting: Array, seed: int = 0
) -> RateTrend:
    """Return how the best rate changes with pre-training length x [num_checkpoints].

    rates [num_rates], ascending; losses (lower is better) and forgetting [num_checkpoints,
    num_rates, num_seeds]. Undetermined with fewer than 3 checkpoints, 3 rates or 2 seeds, when a
    best rate is at the edge of the grid, or when forgetting is not positive. Constant: the interval
    of p excludes a change by one step of the grid over the range of x.
    """
    positive = x > 0  # step 0 has no place on a logarithmic axis
    x, losses, forgetting = x[positive], losses[positive], forgetting[positive]
    if obstacle := _obstacle(rates, losses, forgetting):
        return _unknown(obstacle)
    generator = np.random.default_rng(seed)
    shape = losses.shape
    capped = np.where(
        np.isfinite(losses), losses, np.nanmax(np.where(np.isfinite(losses), losses, np.nan))
    )
    both = np.concatenate([capped.reshape(-1, shape[2]), forgetting.reshape(-1, shape[2])])
    means = np.concatenate(
        [both.mean(axis=1)[None], statistics.resampled_means(both, generator)]
    )  # the first row is the estimate
    half = shape[0] * shape[1]
    log_x = np.log(x)
    slope_of = (log_x - log_x.mean()) / np.square(log_x - log_x.mean()).sum()
    p = -optima(rates, means[:, :half].reshape(-1, *shape[:2])) @ slope_of
    grid = np.stack(
        np.broadcast_arrays(1.0, np.log(rates)[None, :], log_x[:, None]), axis=-1
    ).reshape(half, 3)
    _, b, q = np.linalg.pinv(grid) @ np.log(np.maximum(means[:, half:], 1e-12)).T
    excess = b * p - q
    p_interval, excess_interval = _interval(p[1:]), _interval(excess[1:])
    step = float(np.median(np.diff(np.log(rates)))) / (log_x[-1] - log_x[0])
    speed = _speed(p_interval, excess_interval, step)
    reason = "neither a falling nor a constant rate is ruled out" if speed == "undetermined" else ""
    return RateTrend(
        speed,
        float(p[0]),
        p_interval,
        float(b[0]),
        float(q[0]),
        float(excess[0]),
        excess_interval,
        reason,
    )


def _obstacle(rates: Array, losses: Array, forgetting: Array) -> str:
    """Return why no trend can be computed; empty if it can."""
    num_checkpoints, num_rates, num_seeds = losses.shape
    if num_checkpoints < 3 or num_rates < 3 or num_seeds < 2:
        return "at least 3 checkpoints, 3 learning rates and 2 seeds are needed"
    bests = [best_rate(checkpoint) for checkpoint in losses]
    if any(best is None or best.at_edge for best in bests):
        return "a best learning rate is at the edge of the grid: widen the grid"
    if broken := int((~np.isfinite(forgetting)).sum()):
        places = ", ".join(
            f"{rate:g}" for rate in rates[(~np.isfinite(forgetting)).any(axis=(0, 2))]
        )
        return (
            f"{broken} of {forgetting.size} forgettings {'is' if broken == 1 else 'are'} not "
            f"finite, at learning rate {places}: leave that rate out"
        )
    if not (forgetting.mean(axis=2) > 0).all():
        return "forgetting is not positive everywhere"
    return ""


def _speed(
    p_interval: tuple[float, float], excess_interval: tuple[float, float], step: float
) -> Speed:
    """Return how the best rate changes: the sign of p, and of the excess b p - q.

    step: p of a change by one step of the grid over the range of x.
    """
    if p_interval[0] > 0:
        if excess_interval[0] >= 0:
            return "quickly falling"
        return "slowly falling" if excess_interval[1] < 0 else "falling"
    if p_interval[1] < 0:
        return "rising"
    return "constant" if -step < p_interval[0] and p_interval[1] < step else "undetermined"


def _unknown(reason: str) -> RateTrend:
    everything = (-np.inf, np.inf)
    return RateTrend("undetermined", np.nan, everything, np.nan, np.nan, np.nan, everything, reason)


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def growth_law(rates: Array, forgetting: Array, seed: int = 0) -> GrowthLaw | None:
    """Compare both laws on forgetting [num_checkpoints, num_rates, num_seeds], all checkpoints.

    rates [num_rates], ascending. Both laws have two parameters per checkpoint, fitted to log mean
    forgetting by least squares, so their sums of squares are comparable. Cells that are not
    significantly positive are left out; None when no checkpoint has 4 rates left, or with fewer
    than 2 seeds.
    """
    num_checkpoints, num_rates, num_seeds = forgetting.shape
    if num_seeds < 2:
        return None
    cells = np.where(np.isfinite(forgetting), forgetting, -1.0).reshape(-1, num_seeds)
    means = np.concatenate(
        [cells.mean(axis=1)[None], statistics.resampled_means(cells, np.random.default_rng(seed))]
    )
    positive = ((means <= 0).mean(axis=0) < 0.0125).reshape(num_checkpoints, num_rates)
    positive &= np.isfinite(forgetting).all(axis=2)  # no law of replaced values
    log_means = np.log(np.maximum(means, 1e-12)).reshape(-1, num_checkpoints, num_rates)
    advantage, exponents, used = np.zeros(len(means)), [], 0
    for i in range(num_checkpoints):
        usable = positive[i]
        if usable.sum() >= 4:
            y = log_means[:, i, usable]
            advantage += _residual(np.log(rates[usable]), y) - _residual(rates[usable], y)
            exponents.append(np.polyfit(np.log(rates[usable]), y[0], 1)[0])
            used = max(used, int(usable.sum()))
    if not exponents:
        return None
    return GrowthLaw(float(advantage[0]), _interval(advantage[1:]), float(np.mean(exponents)), used)


def _residual(x: Array, y: Array) -> Array:
    """Return the residual sum of squares of a line over x [num] in each row of y [..., num]."""
    design = np.stack([np.ones_like(x), x], axis=1)
    projector = np.eye(len(x)) - design @ np.linalg.pinv(design)
    return np.asarray(np.square(y @ projector.T).sum(axis=-1), dtype=np.float64)


def at_matched_loss(losses: Array, forgetting: Array, target: float) -> float:
    """Return forgetting where the loss on the new task first reaches `target`.

    losses, forgetting [num_rates], by ascending rate; interpolated linearly. NaN when the target is
    not reached, or when the smallest rate is already below it.
    """
    for i in range(len(losses)):
        if losses[i] <= target:
            if i == 0:
                return float(forgetting[0]) if losses[0] == target else float("nan")
            share = (losses[i - 1] - target) / (losses[i - 1] - losses[i])
            return float(forgetting[i - 1] + share * (forgetting[i] - forgetting[i - 1]))
    return float("nan")
