"""Intervals and corrections on curves over checkpoints, for `ucurve.analysis.condition_verdicts`.

    >>> holm([0.01, 0.04])
    [0.02, 0.04]

Throughout, losses is [num_checkpoints, num_draws], checkpoints in order of pre-training length and
draws paired: column j is the same noise (fine-tuning seed, window of text) at every checkpoint.
Differences between checkpoints are taken within draws, so what draws share cancels; draws are the
independent units and nothing is assumed about how checkpoints correlate within one. The tests are
in `ucurve.analysis.contrasts` and `ucurve.analysis.trends`; false positives, coverage and power in
`benchmarks/calibration.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NUM_RESAMPLES = 4000
NUM_LONG_BLOCKS = 8  # of a text, in tests and intervals; 32 are stored


@dataclass(frozen=True)
class PowerLaw:
    """y = factor * x^exponent, fitted to log means; interval: 95% for the exponent."""

    exponent: float
    factor: float
    interval: tuple[float, float]


def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def t_survival(t: Array, degrees: int) -> Array:
    """Return P(T > t), elementwise."""
    from scipy.special import stdtr

    return np.asarray(stdtr(degrees, -t), dtype=np.float64)


def capped(losses: Array) -> Array:
    """Replace every non-finite loss by the largest finite one, so a rise to it is understated.

    All non-finite: zeros.
    """
    finite = np.isfinite(losses)
    return np.where(finite, losses, losses[finite].max() if finite.any() else 0.0)


def mean_interval(values: Array, level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of independent values [num] and its t interval; (-inf, inf) for one value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, -np.inf, np.inf
    half = (
        t_quantile(0.5 + level / 2, len(values) - 1)
        * float(values.std(ddof=1))
        / np.sqrt(len(values))
    )
    return mean, mean - half, mean + half


def paired_intervals(values: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Return intervals for comparing the means of values [num_checkpoints, num_blocks].

    What a block has in common over checkpoints is removed first (Cousineau 2005, with Morey's
    factor 2008), as a test on paired differences does. NaN with fewer than two checkpoints or
    blocks.
    """
    num_checkpoints, num_blocks = values.shape
    mean = values.mean(axis=1)
    if num_checkpoints < 2 or num_blocks < 2:
        return mean * np.nan, mean * np.nan
    own = values - values.mean(axis=0) + values.mean()
    factor = np.sqrt(num_checkpoints / (num_checkpoints - 1) / num_blocks)
    half = t_quantile(0.5 + level / 2, num_blocks - 1) * own.std(axis=1, ddof=1) * factor
    return mean - half, mean + half


def resampled_means(
    losses: Array, generator: np.random.Generator, num: int = NUM_RESAMPLES
) -> Array:
    """Bootstrap the mean curve, paired over checkpoints: [num, num_checkpoints].

    Every draw's deviation from the mean curve gets one normal weight for all checkpoints
    (multiplier bootstrap), and the sum is scaled by a chi factor so that each checkpoint's
    quantiles are those of Student's t: resampling 5 draws with replacement gives intervals a third
    too short.
    """
    num_draws = losses.shape[1]
    mean = losses.mean(axis=1)
    weights = generator.standard_normal((num, num_draws)) / np.sqrt(num_draws * (num_draws - 1))
    weights *= np.sqrt((num_draws - 1) / generator.chisquare(num_draws - 1, (num, 1)))
    means: Array = mean + weights @ (losses - mean[:, None]).T
    return means


def minimum_interval(
    losses: Array, generator: np.random.Generator, level: float = 0.95
) -> tuple[int, int, int]:
    """Return the index of the lowest mean and its bootstrap interval (first and last index)."""
    lowest = resampled_means(losses, generator).argmin(axis=1)
    low, high = np.quantile(lowest, [0.5 - level / 2, 0.5 + level / 2], method="inverted_cdf")
    return int(losses.mean(axis=1).argmin()), int(low), int(high)


def ratio_interval(
    first: Array, last: Array, generator: np.random.Generator
) -> tuple[float, float, float]:
    """Return mean(last) / mean(first) over paired draws with its 95% bootstrap interval.

    NaN and (-inf, inf) when mean(first) is not significantly positive: the ratio is then unbounded
    (Fieller 1954).
    """
    means = resampled_means(np.stack([first, last]), generator)
    if np.mean(means[:, 0] <= 0) > 0.0125:
        return np.nan, -np.inf, np.inf
    low, high = np.quantile(means[:, 1] / means[:, 0], [0.025, 0.975])
    return float(last.mean() / first.mean()), float(low), float(high)


def power_law(x: Array, values: Array, generator: np.random.Generator) -> PowerLaw | None:
    """Fit log mean values [num_checkpoints, num_draws] on log x by least squares.

    None when a mean is not significantly positive, or fewer than 3 x are positive.
    """
    used = x > 0
    means = resampled_means(values[used], generator)
    centre = values[used].mean(axis=1)
    if used.sum() < 3 or centre.min() <= 0 or np.mean(means.min(axis=1) <= 0) > 0.0125:
        return None
    log_x = np.log(x[used])
    slopes = (log_x - log_x.mean()) / np.square(log_x - log_x.mean()).sum()
    exponent = float(slopes @ np.log(centre))
    low, high = np.quantile(np.log(np.maximum(means, 1e-300)) @ slopes, [0.025, 0.975])
    factor = float(np.exp(np.log(centre).mean() - exponent * log_x.mean()))
    return PowerLaw(exponent, factor, (float(low), float(high)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the family-wise error (Holm 1979), in the same order."""
    adjusted, worst = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def draws_needed(effect: float, std: float, alpha: float) -> int:
    """Return the draws with which a one-sided t-test at alpha has 80% power for this effect.

    std: of the paired differences.
    """
    from scipy.special import ndtri

    threshold = float(ndtri(1 - alpha))
    return (
        int(np.ceil(((threshold + 0.84) * std / effect) ** 2 + threshold**2 / 2))
        if effect > 0
        else 10**9
    )


def blocks(window_nll: Array, window_tokens: Array, num_blocks: int = 32) -> Array:
    """Return losses [num_checkpoints, num_blocks] whose mean over blocks is the loss per token.

    window_nll [num_checkpoints, num_windows]: loss sums in nats; window_tokens [num_windows]:
    scored tokens. Neighbouring windows share documents, so intervals come from blocks of
    consecutive windows.
    """
    parts = np.array_split(np.arange(window_nll.shape[1]), min(num_blocks, window_nll.shape[1]))
    sums = np.stack([window_nll[:, part].sum(axis=1) for part in parts], axis=1)
    losses: Array = sums * len(parts) / window_tokens.sum()
    return losses


def long_blocks(values: Array, num: int = NUM_LONG_BLOCKS) -> Array:
    """Return at most num blocks [..., num] of values in blocks of the same text [..., num_blocks].

    Neighbouring blocks are joined; the mean over blocks stays that over the text. Blocks of a text
    resemble their neighbours (correlations of 0.26, 0.17 and 0.15 at lags 1 to 3 of 32 blocks of
    English), so that tests over 32 are wrong up to five times as often as stated; joined by four
    they are nearly independent, at hardly any cost in power (docs/calibration.md).
    """
    num_blocks = values.shape[-1]
    if num_blocks <= num:
        return values
    parts = np.array_split(np.arange(num_blocks), num)
    sums = np.stack([values[..., part].sum(axis=-1) for part in parts], axis=-1)
    return np.asarray(sums * (num / num_blocks), dtype=np.float64)
