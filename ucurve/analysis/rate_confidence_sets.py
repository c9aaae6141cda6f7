"""Which learning rates of a grid may be the best: a confidence set that keeps its level.

    >>> losses = np.array([[1.3, 1.32, 1.31], [1.0, 1.02, 1.01], [1.01, 1.01, 1.02]])
    >>> candidates(losses)  # [num_rates, num_seeds], lower is better
    (1, 2)

A rate is left out when some other rate is significantly better than it: one-sided paired t-tests
over seeds, Bonferroni-corrected over the other rates (multiple comparisons with the best, Hsu 1981,
with the variance of each pair). The true best rate is left out only by a wrong test, so that the
set holds it in 95% of cases. All rates and seeds are validated on the same data: an error that two
rates share cancels in their difference, and the rest, which more seeds do not reduce, is added to
the variance (`blocks`) or bounded (`error`). Calibration: `benchmarks/rate_calibration.py`.
"""

from __future__ import annotations

import numpy as np

from ucurve.analysis import text_error
from ucurve.analysis.statistics import Array

LEVEL = 0.95
FEW_SEEDS = 4  # below, Satterthwaite's degrees of freedom are too many


def candidates(
    losses: Array, blocks: Array | None = None, error: float = 0.0, level: float = LEVEL
) -> tuple[int, ...]:
    """Return the rates that may have the lowest expected loss, ascending.

    losses [num_rates, num_seeds], seeds paired; a rate with a loss that is not finite is none of
    them. blocks [num_rates, num_seeds, num_blocks]: the losses in blocks of the validation data,
    for the exact error of a difference on new data. error: without blocks, the standard error of
    one loss from the validation data; errors of two rates count as uncorrelated, which is an upper
    bound as they are measured on the same examples. Without either, the set is about this
    validation data. One seed tells no rates apart.
    """
    usable = np.flatnonzero(np.isfinite(losses).all(axis=1))
    if losses.shape[1] < 2 or len(usable) < 2:
        return tuple(int(rate) for rate in usable)
    p_values = _p_worse(losses[usable], None if blocks is None else blocks[usable], error)
    least = p_values.min(axis=1) * (len(usable) - 1)
    return tuple(int(rate) for rate in usable[least >= 1 - level])


def _p_worse(losses: Array, blocks: Array | None, error: float) -> Array:
    """Return one-sided p-values against "no worse than the other", [num_rates, other]."""
    from scipy.special import stdtr

    num_seeds = losses.shape[1]
    differences = losses[:, None] - losses[None]
    mean, over_seeds = differences.mean(axis=2), differences.var(axis=2, ddof=1) / num_seeds
    over_text, text_degrees = np.full(mean.shape, 2 * error**2), np.inf
    if blocks is not None:
        over_text = text_error.variance(blocks[:, None] - blocks[None])
        text_degrees = blocks.shape[2] - 1
    total = over_seeds + over_text
    degrees = np.full(mean.shape, num_seeds - 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        if num_seeds >= FEW_SEEDS:
            parts = over_seeds**2 / degrees + over_text**2 / text_degrees
            degrees = np.where(total > 0, total**2 / parts, degrees)
        p_values = stdtr(degrees, -mean / np.sqrt(total))
    return np.asarray(np.where(total > 0, p_values, mean <= 0), dtype=np.float64)
