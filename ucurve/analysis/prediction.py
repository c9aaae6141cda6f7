"""What pre-training runs say of their mean and of a new run, from one effect per run.

    predicted = predict(effects)                # [..., num_runs]
    predicted.low, predicted.high                   # 95% prediction interval of a new run's effect
    predicted.mean_low, predicted.mean_high         # 95% confidence interval of the mean over runs

A new run differs from the mean by the spread between runs, and the mean itself is known to that
spread over the root of their number. A run's own sampling error is part of the spread already. An
error that all runs have in common moves them together, so that the spread does not show it: its
variance (`shared`) is added. The sum keeps the degrees of freedom of what is known worst:
Satterthwaite's are too many with 3 runs (coverage 93.7%).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ucurve.analysis.statistics import Array

LEVEL = 0.95
MOST_RUNS = 100  # more pre-training runs than this are not asked for


@dataclass(frozen=True)
class Prediction:
    """Mean over runs, and the errors with which it holds for the mean and for a new run.

    Arrays [...]: one per contrast. std: between runs; error_new and error_mean: standard errors.
    """

    mean: Array
    std: Array
    error_new: Array
    error_mean: Array
    degrees: int

    def new(self, probability: float) -> Array:
        """Return the quantile of a new run's effect."""
        return self.mean + _quantile(self.degrees, probability) * self.error_new

    @property
    def low(self) -> Array:
        """Lower end of the 95% prediction interval."""
        return self.new(0.5 - LEVEL / 2)

    @property
    def high(self) -> Array:
        """Upper end of the 95% prediction interval."""
        return self.new(0.5 + LEVEL / 2)

    @property
    def mean_low(self) -> Array:
        """Lower end of the 95% confidence interval of the mean over runs."""
        return self.mean - _quantile(self.degrees, 0.5 + LEVEL / 2) * self.error_mean

    @property
    def mean_high(self) -> Array:
        """Upper end of the 95% confidence interval of the mean over runs."""
        return self.mean + _quantile(self.degrees, 0.5 + LEVEL / 2) * self.error_mean

    @property
    def p_rising(self) -> Array:
        """One-sided p-value against a new run's effect of zero or less."""
        return _tail(self.mean / self.error_new, self.degrees)

    @property
    def p_falling(self) -> Array:
        """One-sided p-value against a new run's effect of zero or more."""
        return _tail(-self.mean / self.error_new, self.degrees)


def predict(effects: Array, shared: Array | float = 0.0, shared_degrees: int = 1) -> Prediction:
    """Return mean and errors of effects [..., num_runs], at least 2 runs.

    shared: variance of an error that all runs have in common, [...], known to
    `shared_degrees` degrees of freedom.
    """
    num = effects.shape[-1]
    mean = effects.mean(axis=-1)
    variance = effects.var(axis=-1, ddof=1)
    floor = np.square(1e-12 * np.abs(effects).max(initial=0.0)) + 1e-300
    return Prediction(
        mean,
        np.sqrt(variance),
        np.sqrt(np.maximum(variance * (1 + 1 / num), floor) + shared),
        np.sqrt(np.maximum(variance / num, floor) + shared),
        min(num - 1, shared_degrees) if np.any(shared) else num - 1,
    )


def runs_needed(mean: float, std: float, num_runs: int, alpha: float) -> int | None:
    """Return how many runs would show an effect above zero in a new one, if these are typical.

    None where that is more than 100: with any number of runs, a part of them has no such effect.
    """
    nums = np.arange(num_runs + 1.0, MOST_RUNS + 1)
    enough = mean > _quantile(nums - 1, 1 - alpha) * std * np.sqrt(1 + 1 / nums)
    return int(nums[enough.argmax()]) if enough.any() else None


def simes(p_values: Array) -> float:
    """Return the p-value of Simes' method (1986): some of these hypotheses is false."""
    ordered, num = np.sort(p_values), len(p_values)
    return float(np.min(ordered * num / np.arange(1, num + 1)))


def _quantile(degrees: Array | int, probability: float) -> Array:
    from scipy.special import stdtrit

    return np.asarray(stdtrit(degrees, probability), dtype=np.float64)


def _tail(t: Array, degrees: int) -> Array:
    from scipy.special import stdtr

    return np.asarray(stdtr(degrees, -t), dtype=np.float64)
