"""Error rates of verdicts whose replicates are blocks of one text, which neighbours make alike.

    python benchmarks/block_calibration.py                    # 20,000 simulations per cell

Rounding, pruning and "unperturbed loss rises" have no draws: blocks of consecutive windows take
their place, and the tests treat them as independent. Each cell has the rate with the 32 blocks that
are stored and with the 8 long ones that are tested. The own part of every checkpoint is correlated
over blocks: independent, of first order (AR(1)) with 0.25, and with 0.26, 0.17, 0.15 at lags 1 to
3, which the 32 blocks of `novels-held-out` show for the difference of two unperturbed losses (a
Gaussian process with these autocorrelations, zero beyond). What all checkpoints have in common
cancels and is left out. Blocks of normal noise of one spread; the truth is flat.
"""

from __future__ import annotations

import argparse

import numpy as np
from contrast_calibration import Array, contrast_p, slope_p
from scipy.linalg import toeplitz

from ucurve.analysis import contrasts, statistics
from ucurve.analysis.condition_verdicts import BASE_ALPHA
from ucurve.analysis.conditions import alpha

NUM_BLOCKS = 32
SIZES = (5, 15)  # checkpoints
SEED = 53
CORRELATIONS = {
    "independent": 0.0 ** np.arange(NUM_BLOCKS),
    "0.25 at lag 1, AR(1)": 0.25 ** np.arange(NUM_BLOCKS),
    "0.26, 0.17, 0.15 at lags 1 to 3": np.r_[1, 0.26, 0.17, 0.15, np.zeros(NUM_BLOCKS - 4)],
}


def blocks(num: int, num_checkpoints: int, correlations: Array, rng: np.random.Generator) -> Array:
    """Return flat losses [num, num_checkpoints, NUM_BLOCKS], correlated over blocks."""
    factor = np.linalg.cholesky(toeplitz(correlations))
    own = rng.standard_normal((num, num_checkpoints, NUM_BLOCKS))
    return np.asarray(own @ factor.T, dtype=np.float64)


def row(losses: Array) -> list[float]:
    """Return rates in %: wrong yes of three claims, wrong no, and coverage of a single contrast."""
    tested = contrasts.of(losses)
    rises, grows = contrast_p(losses), slope_p(losses)
    limits = contrasts.upper_limits(tested)
    low = contrasts.lower_limits(tested).max(axis=-1)
    covered = (low <= 0) & (limits.max(axis=-1) >= 0)
    rates = [
        (rises < alpha(1)).mean(),
        (grows < alpha(1)).mean(),
        (rises < BASE_ALPHA).mean(),
        (limits < 0).mean(axis=0).max(),
        covered.mean(),
    ]
    return [100 * float(rate) for rate in rates]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=20_000, help="per cell")
    arguments = parser.parse_args()
    print(
        "| checkpoints | blocks | overtraining, 3 | sensitivity, 3 | "
        'unperturbed loss rises, 5 | wrong "no", 2.5 | coverage of the rise, 95 |'
    )
    print("|---|---|---|---|---|---|---|")
    for num_checkpoints in SIZES:
        for name, correlations in CORRELATIONS.items():
            rng = np.random.default_rng([SEED, num_checkpoints])
            losses = blocks(arguments.simulations, num_checkpoints, correlations, rng)
            pairs = zip(row(losses), row(statistics.long_blocks(losses)), strict=True)
            cells = " | ".join(f"{stored:.1f} → {long:.1f}" for stored, long in pairs)
            print(f"| {num_checkpoints} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
