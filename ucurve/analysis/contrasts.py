"""Contrasts between the last checkpoint and earlier ones, for few draws that are not normal.

    >>> losses = np.array([[3.0, 3.2, 3.1], [2.0, 2.1, 2.2], [2.9, 3.0, 3.0]])
    >>> rise_after_minimum(losses).minimum
    1

A contrast is the difference last checkpoint minus an earlier one within each draw. Student's t test
on each has two faults with few draws, and both make skewed draws wrong far more often than stated
(`docs/calibration.md`): its variance is estimated from few values, and a sample that misses the
long tail has a shifted mean and too small a variance at the same time. Here

- the variance of each contrast is shrunken towards the mean variance of all contrasts, as if that
  mean were known from PRIOR_DEGREES draws (Smyth 2004 does so over genes), with degrees of freedom
  from the covariance of the contrasts (Satterthwaite 1946);
- t probabilities become normal deviates z, and a left skewness of the contrasts lowers them by
  Hall's transformation (Hall 1992), whose first term is that of Cornish and Fisher;
- an upper limit uses the larger variance and the quantile of t under right-skewed noise.

All functions take losses [..., num_checkpoints, num_draws]: leading axes are independent cases,
which is how `benchmarks/calibration.py` simulates thousands at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TEST = (
    "paired t-tests, last checkpoint against each earlier one, with pooled variance and corrected "
    "for skewness, combined by Simes' method"
)

# Chosen by simulation on one half of the worlds and judged on the other (docs/calibration.md).
PRIOR_DEGREES = 4
SKEWNESS_WEIGHT = 0.85
LEAST_DRAWS_FOR_SKEWNESS = 5  # fewer say nothing of a distribution's shape

# Quantiles of t under gamma noise over those of Student's t, at 2.5%: a row per number of draws, a
# column per skewness; made by `benchmarks/skewed_t_quantiles.py`.
NUMS_DRAWS = (5, 6, 8, 10, 15, 20, 30, 50, 100)
SKEWNESSES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
WIDENING = (
    (1.000, 1.186, 1.410, 1.783, 2.327, 4.691, 12.182),  # 5 draws
    (1.000, 1.166, 1.388, 1.698, 2.170, 3.958, 8.999),  # 6 draws
    (1.000, 1.135, 1.334, 1.595, 1.955, 3.202, 6.094),  # 8 draws
    (1.000, 1.119, 1.302, 1.525, 1.817, 2.751, 4.689),  # 10 draws
    (1.000, 1.095, 1.241, 1.404, 1.621, 2.242, 3.239),  # 15 draws
    (1.000, 1.088, 1.204, 1.335, 1.504, 1.950, 2.686),  # 20 draws
    (1.000, 1.076, 1.164, 1.262, 1.391, 1.706, 2.177),  # 30 draws
    (1.000, 1.057, 1.124, 1.195, 1.279, 1.491, 1.769),  # 50 draws
    (1.000, 1.045, 1.083, 1.122, 1.180, 1.318, 1.452),  # 100 draws
)


@dataclass(frozen=True)
class Contrasts:
    """Moments of the contrasts last minus earlier checkpoint, each [..., num_contrasts].

    own: variance over draws of each contrast alone. pooled: shrunken towards their mean. degrees:
    Satterthwaite's degrees of freedom of pooled. skewness [..., 1]: mean over contrasts of the
    sample skewness, 0 below `LEAST_DRAWS_FOR_SKEWNESS` draws. floor [..., 1]: the variance that
    rounding errors have.
    """

    mean: Array
    own: Array
    pooled: Array
    degrees: Array
    skewness: Array
    floor: Array
    num_draws: int

    @property
    def error(self) -> Array:
        """Standard error of each mean, from the pooled variance."""
        return np.asarray(np.sqrt(np.maximum(self.pooled / self.num_draws, self.floor)))

    @property
    def bend(self) -> Array:
        """The coefficient a of `deviates`, at most 0."""
        scaled = SKEWNESS_WEIGHT * self.skewness / np.sqrt(self.num_draws)
        return np.asarray(np.minimum(scaled, 0.0))


@dataclass(frozen=True)
class Rise:
    """How far the last checkpoint's mean lies above the lowest one before it.

    minimum: index of the lowest mean among all but the last. rise: last mean minus that mean.
    interval: 95% for the true rise, valid although the minimum was selected from the same draws.
    p_value: one-sided, against "no checkpoint before the last is lower". std: of the paired
    differences between last and minimum.
    """

    minimum: int
    rise: float
    interval: tuple[float, float]
    p_value: float
    std: float


def rise_after_minimum(losses: Array) -> Rise:
    """Test whether any earlier checkpoint is lower than the last.

    Finite losses [num_checkpoints, num_draws], at least 2 of each. The p-values of all contrasts
    are combined by Simes' method (Simes 1986; valid for these positively dependent contrasts): any
    checkpoint may be the minimum, so selecting it costs no validity. A falling truth makes every
    contrast negative, so a flat truth is the worst case. The interval ends at Bonferroni's lower
    limit (the largest over checkpoints) and the largest upper limit (the true minimum's own is
    lower or equal).
    """
    contrasts = of(losses)
    minimum = int(contrasts.mean.argmax())
    return Rise(
        minimum,
        float(contrasts.mean[minimum]),
        (float(lower_limits(contrasts).max()), float(upper_limits(contrasts).max())),
        float(simes(p_values(contrasts))),
        float(np.sqrt(contrasts.own[minimum])),
    )


def of(losses: Array) -> Contrasts:
    """Return the contrasts of finite losses [..., num_checkpoints, num_draws].

    With C the covariance of the contrasts over n draws, v its diagonal and w the weight of the mean
    variance, pooled_j = sum_k W_jk v_k, W = (1 - w) I + w / num_contrasts. For normal draws the
    covariance of v_j and v_k is 2 C_jk^2 / (n - 1), so
    degrees_j = (n - 1) pooled_j^2 / sum_kl W_jk W_jl C_kl^2.
    """
    num_draws = losses.shape[-1]
    differences = losses[..., -1:, :] - losses[..., :-1, :]
    mean = differences.mean(axis=-1)
    deviations = differences - mean[..., None]
    covariance = deviations @ np.swapaxes(deviations, -1, -2) / (num_draws - 1)
    own = np.einsum("...ii->...i", covariance)
    weight = PRIOR_DEGREES / (PRIOR_DEGREES + num_draws - 1)
    pooled = (1 - weight) * own + weight * own.mean(axis=-1, keepdims=True)
    squares = np.square(covariance)
    rows = squares.mean(axis=-1)
    spread = (
        (1 - weight) ** 2 * np.square(own)
        + 2 * weight * (1 - weight) * rows
        + weight**2 * rows.mean(axis=-1, keepdims=True)
    )
    least = np.full_like(pooled, num_draws - 1)
    scale = np.abs(losses).max(axis=(-1, -2))[..., None]
    return Contrasts(
        mean,
        own,
        pooled,
        np.divide((num_draws - 1) * np.square(pooled), spread, out=least, where=spread > 0),
        _mean_skewness(deviations),
        np.square(1e-12 * scale + 1e-150),
        num_draws,
    )


def _mean_skewness(deviations: Array) -> Array:
    """Return the mean over contrasts of the sample skewness G1 (Joanes and Gill 1998), [..., 1]."""
    num_draws = deviations.shape[-1]
    if num_draws < LEAST_DRAWS_FOR_SKEWNESS:
        return np.zeros((*deviations.shape[:-2], 1))
    std = np.sqrt(np.square(deviations).mean(axis=-1, keepdims=True))
    scaled = np.divide(deviations, std, out=np.zeros_like(deviations), where=std > 0)
    skewness = (scaled**3).mean(axis=-1) * np.sqrt(num_draws * (num_draws - 1)) / (num_draws - 2)
    return np.asarray(skewness.mean(axis=-1, keepdims=True))


def p_values(contrasts: Contrasts) -> Array:
    """Return one-sided p-values against "not higher than at the earlier checkpoint"."""
    from scipy.special import ndtr, ndtri, stdtr

    p = stdtr(contrasts.degrees, -contrasts.mean / contrasts.error)
    z = np.clip(-ndtri(p), -37.0, 37.0)  # where the normal distribution ends in double precision
    return np.asarray(ndtr(-deviates(z, contrasts.bend)))


def deviates(z: Array, bend: Array) -> Array:
    """Return z corrected for skewness by Hall's transformation, bend a = weight skewness / sqrt(n).

    z' = z + a z^2 / 3 + a^2 z^3 / 27 + a / 6 (Hall 1992, on the removal of skewness by
    transformation), of which z + a (2 z^2 + 1) / 6 of Cornish and Fisher has the first order; that
    one falls again for large z, so clear effects would lose. Hall's is flat at z = -3 / a; from
    there on z' continues with slope 1.
    """
    a = np.where(bend < 0, bend, -1.0)
    turn = -3 / a
    low = np.minimum(z, turn)
    bent = low + a * low**2 / 3 + a**2 * low**3 / 27 + a / 6 + np.maximum(z - turn, 0.0)
    return np.where(bend < 0, bent, z)


def plain_deviates(corrected: Array, bend: Array) -> Array:
    """Return the z that `deviates` turns into these: its inverse."""
    a = np.where(bend < 0, bend, -1.0)
    at_turn = -1 / a + a / 6
    root = np.cbrt(1 + a * (np.minimum(corrected, at_turn) - a / 6))
    plain = 3 / a * (root - 1) + np.maximum(corrected - at_turn, 0.0)
    return np.where(bend < 0, plain, corrected)


def simes(p: Array) -> Array:
    """Combine p-values [..., num] by Simes' method (Simes 1986)."""
    num = p.shape[-1]
    return np.asarray(np.min(np.sort(p, axis=-1) * num / np.arange(1, num + 1), axis=-1))


def lower_limits(contrasts: Contrasts, level: float = 0.975) -> Array:
    """Return lower limits that hold together with this probability (Bonferroni).

    What `p_values` would not reject: its steps, inverted.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    critical = np.full_like(contrasts.mean, -ndtri((1 - level) / contrasts.mean.shape[-1]))
    z = plain_deviates(critical, contrasts.bend)
    return np.asarray(
        contrasts.mean + stdtrit(contrasts.degrees, ndtr(-z)) * contrasts.error, dtype=np.float64
    )


def upper_limits(contrasts: Contrasts) -> Array:
    """Return the upper limit of each contrast, of 97.5% on its own.

    With the larger of the contrast's own and its pooled variance, and the lower quantile of t under
    gamma noise of the contrasts' mean right skewness: a sample that misses the right tail has too
    low a mean and too small a variance, and would exclude a rise that is there.
    """
    from scipy.special import stdtrit

    variance = np.maximum(contrasts.own, contrasts.pooled) / contrasts.num_draws
    quantile = float(stdtrit(contrasts.num_draws - 1, 0.975)) * widening(
        contrasts.num_draws, contrasts.skewness
    )
    return np.asarray(contrasts.mean + quantile * np.sqrt(np.maximum(variance, contrasts.floor)))


def widening(num_draws: int, skewness: Array) -> Array:
    """Interpolate `WIDENING`: in 1 / sqrt(num_draws), where it is 1 at 0, and in the skewness."""
    at = [0.0, *(1 / np.sqrt(num) for num in reversed(NUMS_DRAWS))]
    table = np.array([[1.0] * len(SKEWNESSES), *reversed(WIDENING)])
    row = [np.interp(1 / np.sqrt(num_draws), at, column) for column in table.T]
    return np.asarray(np.interp(skewness, SKEWNESSES, row))
