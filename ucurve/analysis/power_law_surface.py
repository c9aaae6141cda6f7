"""A power law over two factors, y = c size^a x^b, fitted to means of draws that all cells share.

    law = fit(x, sizes, values)         # [num_x], [num_sizes], [num_x, num_sizes, num_draws]
    law.size_exponent, law.x_exponent   # with 95% intervals over draws

The means are fitted, not their logarithms (a weighted Poisson score, concave for any means): the
mean of a law with noise obeys it, the mean logarithm does not, and a mean below zero has no
logarithm but counts. Cells weigh by relative error, equally within 10%. One draw moves all cells
together, so intervals are t intervals over the draws' influences on the estimate, with draws - 1
degrees of freedom, and nothing is assumed about cells being independent. Coverage:
`benchmarks/law_calibration.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import statistics
from ucurve.analysis.statistics import Array

MISFIT = 0.1  # relative deviation of any real cell from a law: exacter cells weigh no more
Interval = tuple[float, float, float]  # estimate, lower end, upper end


@dataclass(frozen=True)
class Surface:
    """A fitted law. Cells are those of `used` [num_x, num_sizes], row by row.

    coefficients: log of the value at the geometric means, exponent of the size (none for a single
    size), exponent of x (none for a single x). influence [num_coefficients, num_draws]: what each
    draw adds to them, of mean 0. deviations [num_cells, num_draws]: of each cell's values from
    their mean.
    """

    x: Array
    sizes: Array
    used: NDArray[np.bool_]
    coefficients: Array
    influence: Array
    means: Array  # [num_cells]
    deviations: Array
    cell_terms: Array  # [num_cells, num_coefficients]

    @property
    def num_draws(self) -> int:
        """The number of draws, which are the independent units."""
        return int(self.influence.shape[1])

    def terms(self, x: Array, sizes: Array) -> Array:
        """Return the linear predictor's terms at pairs of x and size, [num, num_coefficients]."""
        return _terms(x, sizes, self.x, self.sizes)

    @property
    def fitted(self) -> Array:
        """The value of the law at every cell, [num_cells]."""
        return np.asarray(np.exp(self.cell_terms @ self.coefficients), dtype=np.float64)

    def extended(self, x: Array, sizes: Array, values: Array) -> Surface:
        """Return the same law with other cells: pairs of x and size, values [num, num_draws]."""
        means = values.mean(axis=1)
        return replace(
            self,
            means=means,
            deviations=values - means[:, None],
            cell_terms=self.terms(x, sizes),
        )

    def estimate(self, combination: Array) -> Interval:
        """Return a linear combination of the coefficients with its 95% interval."""
        value = float(combination @ self.coefficients)
        half = _half(combination @ self.influence, 0.95)
        return value, value - half, value + half

    @property
    def size_exponent(self) -> Interval | None:
        """The exponent of the size; None for a single size."""
        return self.estimate(self._unit(1)) if len(self.sizes) > 1 else None

    @property
    def x_exponent(self) -> Interval | None:
        """The exponent of x; None for a single x."""
        return self.estimate(self._unit(-1)) if len(self.x) > 1 else None

    @property
    def level(self) -> Interval:
        """The value at the geometric means of x and size."""
        return _exp(self.estimate(self._unit(0)))

    @property
    def factor(self) -> Interval:
        """The factor c: the value at x = 1 and size 1."""
        return _exp(self.estimate(self.terms(np.ones(1), np.ones(1))[0]))

    def _unit(self, index: int) -> Array:
        unit = np.zeros(len(self.coefficients))
        unit[index] = 1.0
        return unit

    @property
    def ratios(self) -> Array:
        """Measured mean over fitted value, [num_cells]."""
        return np.asarray(self.means / self.fitted, dtype=np.float64)

    @property
    def ratio_errors(self) -> Array:
        """Standard error of every ratio; the estimate of the law moves with the same draws."""
        own = self.deviations / self.fitted[:, None]
        own = own - self.ratios[:, None] * (self.cell_terms @ self.influence)
        return np.asarray(own.std(axis=1, ddof=1) / np.sqrt(self.num_draws), dtype=np.float64)

    def ratio_intervals(self, level: float) -> tuple[Array, Array]:
        """Return the t interval of every ratio at this level."""
        half = statistics.t_quantile(0.5 + level / 2, self.num_draws - 1) * self.ratio_errors
        return self.ratios - half, self.ratios + half

    @property
    def lack_of_fit_p(self) -> float:
        """P-value against an exact law: a t-test per cell, combined by Simes' method."""
        t = np.abs(self.ratios - 1) / np.maximum(self.ratio_errors, 1e-9)
        p = np.sort(2 * statistics.t_survival(t, self.num_draws - 1))
        return float(np.minimum(1.0, (p * len(p) / np.arange(1, len(p) + 1)).min()))

    def resampled(self, generator: np.random.Generator, num: int) -> Array:
        """Return resampled coefficients [num, num_coefficients], see `resampled_means`."""
        around = self.coefficients[:, None] + self.influence
        return statistics.resampled_means(around, generator, num)


def fit(x: Array, sizes: Array, values: Array) -> Surface | None:
    """Fit values [num_x, num_sizes, num_draws]; x and sizes are positive and distinct.

    Cells with a value that is not finite are left out. None with fewer than two draws, with no more
    cells than a law has coefficients, or where no law fits: the weighted mean is not above zero, or
    an exponent has no finite estimate.
    """
    used = finite_cells(values)
    rows, columns = used.any(axis=1), used.any(axis=0)
    x, sizes, values = x[rows], sizes[columns], values[np.ix_(rows, columns)]
    used = used[np.ix_(rows, columns)]
    i, j = np.nonzero(used)
    cells = values[i, j]
    if not len(cells) or cells.shape[1] < 2:
        return None
    terms = _terms(x[i], sizes[j], x, sizes)
    if len(cells) < terms.shape[1] or np.linalg.matrix_rank(terms) < terms.shape[1]:
        return None
    means = cells.mean(axis=1)
    deviations = cells - means[:, None]
    relative = _relative_weights(means, deviations, j)
    expected = np.maximum(_by_column(np.abs(means), j), 1e-300)
    coefficients = None
    for _ in range(4):  # the weights settle in two or three
        weights = relative / expected
        coefficients = _solve(terms, means, weights)
        if coefficients is None:
            return None
        expected = np.exp(terms @ coefficients)
    assert coefficients is not None, "the loop ran"
    information = (terms * (weights * expected)[:, None]).T @ terms
    influence = np.linalg.solve(information, terms.T @ (weights[:, None] * deviations))
    return Surface(x, sizes, used, coefficients, influence, means, deviations, terms)


def finite_cells(values: Array) -> NDArray[np.bool_]:
    """Return where all draws of values [num_x, num_sizes, num_draws] are finite."""
    return np.asarray(np.isfinite(values).all(axis=2), dtype=np.bool_)


def _terms(x: Array, sizes: Array, all_x: Array, all_sizes: Array) -> Array:
    """Return 1, log size and log x relative to their geometric means; no term for one value."""
    columns = [np.ones(len(x))]
    if len(all_sizes) > 1:
        columns.append(np.log(sizes) - np.log(all_sizes).mean())
    if len(all_x) > 1:
        columns.append(np.log(x) - np.log(all_x).mean())
    return np.stack(columns, axis=1)


def _by_column(cells: Array, column: NDArray[np.intp]) -> Array:
    """Return the mean over each column of the grid, for every cell."""
    means: Array = (np.bincount(column, cells) / np.maximum(np.bincount(column), 1))[column]
    return means


def _relative_weights(means: Array, deviations: Array, column: NDArray[np.intp]) -> Array:
    """Return the weight of every cell: its relative variance, pooled over all cells of its size.

    A cell's own would make those weigh more that happen to have a low mean and a small spread.
    """
    num_draws = deviations.shape[1]
    variance = np.square(deviations).sum(axis=1) / (num_draws - 1) / num_draws
    scale = np.maximum(_by_column(np.square(means), column), 1e-300)
    return np.asarray(1 / (MISFIT**2 + _by_column(variance, column) / scale), dtype=np.float64)


def _solve(terms: Array, means: Array, weights: Array) -> Array | None:
    """Return the root of sum weights (means - exp(terms beta)) terms, by damped Newton steps."""
    total = float(weights @ means)
    if not total > 0:
        return None
    beta = np.zeros(terms.shape[1])
    beta[0] = np.log(total / weights.sum())
    for _ in range(200):
        mu = weights * np.exp(terms @ beta)
        information = (terms * mu[:, None]).T @ terms
        try:
            step = np.linalg.solve(information, terms.T @ (weights * means - mu))
        except np.linalg.LinAlgError:
            return None
        longest = float(np.abs(terms @ step).max())
        if not np.isfinite(longest):
            return None
        beta = beta + step * min(1.0, 1.0 / longest) if longest else beta
        if longest < 1e-10:
            return beta
    return None


def _half(influence: Array, level: float) -> float:
    num = len(influence)
    quantile = statistics.t_quantile(0.5 + level / 2, num - 1)
    return float(quantile * influence.std(ddof=1) / np.sqrt(num))


def _exp(interval: Interval) -> Interval:
    with np.errstate(over="ignore"):
        value, low, high = (float(number) for number in np.exp(interval))
    return value, low, high
