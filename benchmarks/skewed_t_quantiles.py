"""The lower 2.5% quantile of Student's t under right-skewed noise, over that under normal noise.

    python benchmarks/skewed_t_quantiles.py            # prints `ucurve.analysis.contrasts.WIDENING`

The noise is a gamma distribution of the given skewness; a row per number of draws, a column per
skewness. The seed is fixed, so the table can be reproduced digit by digit.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import stdtrit

from ucurve.analysis.contrasts import NUMS_DRAWS, SKEWNESSES


def widening(num_draws: int, skewness: float, num: int, rng: np.random.Generator) -> float:
    """Return the ratio of quantiles from `num` simulated samples."""
    if skewness == 0:
        return 1.0
    shape = 4 / skewness**2
    samples = rng.standard_gamma(shape, (num, num_draws)) - shape
    error = samples.std(axis=1, ddof=1) / np.sqrt(num_draws)
    t = np.divide(samples.mean(axis=1), error, out=np.full(num, -np.inf), where=error > 0)
    return float(np.quantile(t, 0.025) / stdtrit(num_draws - 1, 0.025))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=200_000, help="samples per cell")
    num = parser.parse_args().simulations
    rng = np.random.default_rng(53)
    for num_draws in NUMS_DRAWS:
        row = [widening(num_draws, skewness, num, rng) for skewness in SKEWNESSES]
        print(f"({', '.join(f'{value:.3f}' for value in row)}),  # {num_draws} draws", flush=True)


if __name__ == "__main__":
    main()
