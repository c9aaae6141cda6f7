"""The trend of a loss increase over checkpoints: in ranks, and in its mean.

>>> rising = np.array([[0.1, 0.2, 0.1], [0.2, 0.3, 0.4], [0.6, 0.5, 0.7]])
>>> trend(rising).p_rising < 0.05
True
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis.statistics import capped, t_survival

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """Trend over checkpoints: mean rank correlation over draws, and one-sided p-values."""

    correlation: float
    p_rising: float
    p_falling: float


def trend(values: Array) -> Trend:
    """Test whether values [num_checkpoints, num_draws] rise or fall over checkpoints.

    At least 3 checkpoints and 2 draws; non-finite values rank as the worst and count as the largest
    finite one in slopes. See `one_sided`.
    """
    finite = capped(values)
    correlation, rising, falling = one_sided(np.where(np.isfinite(values), values, np.inf), finite)
    return Trend(float(correlation), float(rising), float(falling))


def one_sided(values: Array, finite: Array) -> tuple[Array, Array, Array]:
    """Return mean rank correlations and p-values of rising and falling [...].

    values [..., num_checkpoints, num_draws] are ranked, finite are the same without infinities. The
    largest of three p-values counts.

    Page's test (Page 1963; draws as blocks): per draw the rank correlation with the checkpoints'
    order; their mean is compared with its permutation variance, 1 / (num_checkpoints - 1) per draw.
    It takes checkpoints as exchangeable within a draw, which neighbours on one training run are
    not. So a t test on the draws' correlations must agree, with the squared deviation 1/2 of one
    pseudo-draw added because a few draws may agree by accident. Ranks speak of the median, the
    reported effect is a mean; skewed draws whose spread changes move one without the other. So a t
    test on the draws' least-squares slopes over the order must agree, too.
    """
    from scipy.special import ndtr
    from scipy.stats import rankdata

    num_checkpoints, num_draws = values.shape[-2:]
    order = np.arange(num_checkpoints) - (num_checkpoints - 1) / 2
    ranks = rankdata(values, axis=-2)
    ranks = ranks - ranks.mean(axis=-2, keepdims=True)
    norm = np.sqrt(np.square(order).sum() * np.square(ranks).sum(axis=-2))
    correlations = np.divide(order @ ranks, norm, out=np.zeros_like(norm), where=norm > 0)
    mean = correlations.mean(axis=-1)
    page = mean * np.sqrt((num_checkpoints - 1) * num_draws)
    variance = ((num_draws - 1) * correlations.var(axis=-1, ddof=1) + 0.5) / num_draws
    in_ranks = mean / np.sqrt(variance / num_draws)
    in_mean = _slope_t(order, finite)
    rising, falling = (
        np.maximum.reduce(
            [
                ndtr(-sign * page),
                t_survival(sign * in_ranks, num_draws - 1),
                t_survival(sign * in_mean, num_draws - 1),
            ]
        )
        for sign in (1, -1)
    )
    return mean, rising, falling


def _slope_t(order: Array, values: Array) -> Array:
    """Return Student's t of the draws' slopes over the order, [...]."""
    slopes = order @ values / np.square(order).sum()
    rounding = 1e-12 * np.abs(values).max(axis=(-1, -2)) + 1e-150
    error = slopes.std(axis=-1, ddof=1) / np.sqrt(slopes.shape[-1])
    return np.asarray(slopes.mean(axis=-1) / np.maximum(error, rounding))


@lru_cache(maxsize=1000)
def least_draws(num_checkpoints: int, alpha: float) -> int:
    """Return the draws with which `trend` can be significant: each rises at every step."""
    perfect = np.arange(num_checkpoints, dtype=np.float64)[:, None]
    return next(
        (num for num in range(2, 100) if trend(np.tile(perfect, (1, num))).p_rising < alpha), 100
    )
