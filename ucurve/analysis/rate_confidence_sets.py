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
    threshold = (1 - level) / max(len(usable) - 1, 1)
    kept = [
        int(rate)
        for rate in usable
        if all(
            _p_worse(losses, blocks, error, int(rate), int(other)) >= threshold
            for other in usable
            if other != rate
        )
    ]
    return tuple(kept)


def _p_worse(losses: Array, blocks: Array | None, error: float, rate: int, other: int) -> float:
    """Return the one-sided p-value against "the rate is no worse than the other"."""
    from scipy.special import stdtr

    difference, num_seeds = losses[rate] - losses[other], losses.shape[1]
    if num_seeds < 2:
        return 1.0
    over_seeds = float(difference.var(ddof=1)) / num_seeds
    over_text, text_degrees = 2 * error**2, np.inf
    if blocks is not None:
        over_text = text_error.variance(blocks[rate] - blocks[other])
        text_degrees = blocks.shape[2] - 1
    total = over_seeds + over_text
    if total == 0:
        return float(difference.mean() <= 0)
    degrees = float(num_seeds - 1)
    if num_seeds >= FEW_SEEDS:
        degrees = total**2 / (over_seeds**2 / degrees + over_text**2 / text_degrees)
    return float(stdtr(degrees, -difference.mean() / np.sqrt(total)))
