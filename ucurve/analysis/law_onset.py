"""The token budget at which the U begins, by a law of the loss increase and the unperturbed loss.

    onsets(law, sizes, x, base)     # base [num_checkpoints, num_blocks]

The loss after a change is the unperturbed loss plus the law. Between checkpoints the unperturbed
loss is interpolated over the logarithm of tokens (monotone cubic, Fritsch and Carlson 1980). Draws
move the law, the evaluation text moves the unperturbed loss: the interval has both, and is given
over draws alone, too. An onset is never outside the measured checkpoints.
"""

from __future__ import annotations

import numpy as np

from ucurve.analysis import statistics
from ucurve.analysis.power_law_surface import Surface
from ucurve.analysis.statistics import Array
from ucurve.schemas.loss_increase_laws import LawOnset

NUM_PLACES = 161  # over the logarithm of tokens
NUM_RESAMPLES = 500


def onsets(law: Surface, sizes: Array, x: Array, base: Array, seed: int = 0) -> list[LawOnset]:
    """Return for every size where law plus unperturbed loss is lowest, with 95% intervals."""
    from scipy.interpolate import PchipInterpolator

    generator = np.random.default_rng(seed)
    places = np.geomspace(x[0], x[-1], NUM_PLACES)
    coefficients = law.resampled(generator, NUM_RESAMPLES)
    bases = base.mean(axis=1)[None]
    if base.shape[1] > 1:  # a single block is exact
        bases = statistics.resampled_means(base, generator, NUM_RESAMPLES)
    curves = PchipInterpolator(np.log(x), bases.T)(np.log(places)).T
    exact = PchipInterpolator(np.log(x), base.mean(axis=1))(np.log(places))
    result = []
    for size in sizes:
        terms = law.terms(places, np.full(NUM_PLACES, size))
        best = int((exact + np.exp(terms @ law.coefficients)).argmin())
        increase = np.exp(np.minimum(coefficients @ terms.T, 700.0))
        over_draws = _interval((exact + increase).argmin(axis=1), best)
        low, high = _interval((curves + increase).argmin(axis=1), best)
        result.append(
            LawOnset(
                size=float(size),
                tokens=float(places[best]),
                low=float(places[low]),
                high=float(places[high]),
                draws_low=float(places[over_draws[0]]),
                draws_high=float(places[over_draws[1]]),
                before_first=low == 0,
                after_last=high == NUM_PLACES - 1,
            )
        )
    return result


def _interval(indices: Array, estimate: int) -> tuple[int, int]:
    low, high = np.quantile(indices, [0.025, 0.975], method="inverted_cdf")
    return min(int(low), estimate), max(int(high), estimate)
