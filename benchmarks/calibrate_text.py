"""Coverage of intervals on new text: simulated draws on texts whose error is known.

    python benchmarks/calibrate_text.py --repeats 20000 --seed 1

A text is 32 blocks. What one draw measures of a rise on a block is the true rise, plus what is the
draw's, plus what is the block's, plus what is of both. The interval is to hold the true rise, which
is the mean over draws and over all texts of this kind.
"""

from __future__ import annotations

import argparse

import numpy as np

from ucurve.analysis import statistics, text_error

RISE = 0.02


def coverage(
    repeats: int,
    seed: int,
    *,
    draws_error: float,
    text_error: float,
    cell_error: float = 0.0005,
    num_draws: int = 8,
    num_blocks: int = 32,
) -> dict[str, float]:
    """Return how often 95% intervals hold the rise on new text, without and with the text's error.

    draws_error, text_error: standard errors of the mean over all draws, and over all blocks;
    cell_error: of the mean over all cells.
    """
    generator = np.random.default_rng(seed)
    hits = {"draws only": 0, "with text": 0}
    for _ in range(repeats):
        draws = draws_error * np.sqrt(num_draws) * generator.standard_normal((num_draws, 1))
        blocks = text_error * np.sqrt(num_blocks) * generator.standard_normal(num_blocks)
        cells = generator.standard_normal((num_draws, num_blocks))
        cells *= cell_error * np.sqrt(num_draws * num_blocks)
        for name, (low, high) in intervals(RISE + draws + blocks + cells).items():
            hits[name] += low <= RISE <= high
    return {name: count / repeats for name, count in hits.items()}


def intervals(values: statistics.Array) -> dict[str, tuple[float, float]]:
    """Return both intervals of the mean of values [num_draws, num_blocks]."""
    mean, low, high = statistics.mean_interval(values.mean(axis=1))
    half = text_error.half_width(values)
    return {"draws only": (low, high), "with text": text_error.widened((low, high), mean, half)}


def main() -> None:
    """Print the table of `docs/concepts/statistics.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    print("| draws | error over draws | error of the text | draws only | with the text |")
    print("|---|---|---|---|---|")
    for num, draws, text in (
        (8, 0.0008, 0.0016),
        (8, 0.0013, 0.0016),
        (64, 0.0003, 0.0016),
        (3, 0.0013, 0.0016),
        (8, 0.01, 0.0016),
        (8, 0.0013, 0.0),
    ):
        found = coverage(
            chosen.repeats, chosen.seed, draws_error=draws, text_error=text, num_draws=num
        )
        print(
            f"| {num} | {draws:g} | {text:g} | {found['draws only']:.1%} | "
            f"{found['with text']:.1%} |"
        )


if __name__ == "__main__":
    main()
