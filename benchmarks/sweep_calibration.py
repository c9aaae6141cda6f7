"""Error rates of the verdicts on simulated learning-rate sweeps (see calibration.py)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis.learning_rate_fits import growth_law, rate_trend

Array = NDArray[np.float64]
RATES = 1e-3 * 2.0 ** np.arange(-4, 5)
TOKENS = 1e6 * 2.0 ** np.arange(5)
SPEEDS = ("constant", "slowly falling", "quickly falling", "falling", "rising", "undetermined")


def sweep(
    generator: np.random.Generator, p: float, q: float, noise: float, seeds: int
) -> tuple[Array, Array]:
    """Draw losses with their best rate at 1e-3 T^-p, and forgetting ~ lr T^q.

    A seed shifts all rates alike, and each rate by noise of its own.
    """
    log_t = np.log(TOKENS / TOKENS.mean())
    distance = np.log(RATES / 1e-3)[None, :] + p * log_t[:, None]
    shared, own = (
        generator.normal(0, 0.05, (5, 1, seeds)),
        generator.normal(0, noise, (5, len(RATES), seeds)),
    )
    losses = 2 + 0.05 * distance[:, :, None] ** 2 + shared + own
    forgetting = (
        50
        * RATES[None, :, None]
        * np.exp(q * log_t)[:, None, None]
        * np.exp(generator.normal(0, 0.05, own.shape))
    )
    return losses, forgetting


def grown(generator: np.random.Generator, law: str, seeds: int = 5, noise: float = 0.1) -> Array:
    """Draw forgetting [5 checkpoints, rates, seeds] that follows a law in the rate.

    Both laws fit "between" equally badly.
    """
    x, z = np.log(RATES), RATES
    standard = (x - x.mean()) / x.std(), (z - z.mean()) / z.std()
    shapes = {
        "power": RATES**1.3,
        "exponential": np.exp(RATES / 4e-3),
        "between": np.exp(sum(standard) / 2),
    }
    curve = 0.1 * shapes[law] / shapes[law][4]
    own = np.exp(generator.normal(0, noise, (5, len(RATES), seeds)))
    return np.asarray(curve[None, :, None] * np.linspace(1, 4, 5)[:, None, None] * own)


def print_tables(num: int) -> None:
    """Print the tables of both verdicts, `num` simulations per row."""
    print(
        "\nbest learning rate against tokens: answers in %, 5 checkpoints x 9 rates; coverage of "
        "the interval of the exponent p"
    )
    print(f"| truth | seeds | {' | '.join(SPEEDS)} | coverage |")
    print(f"|---|---|{'---|' * (len(SPEEDS) + 1)}")
    truths = {
        "constant": (0.0, 0.6),
        "slowly falling": (0.5, 1.2),
        "quickly falling": (0.5, 0.2),
        "rising": (-0.5, 0.2),
    }
    for truth, (p, q) in truths.items():
        for seeds in (3, 5, 8):
            generator = np.random.default_rng(14)
            trends = [
                rate_trend(TOKENS, RATES, *sweep(generator, p, q, 0.01, seeds)) for _ in range(num)
            ]
            rates = [100 * sum(trend.speed == speed for trend in trends) / num for speed in SPEEDS]
            covered = 100 * np.mean(
                [trend.p_interval[0] <= p <= trend.p_interval[1] for trend in trends]
            )
            print(
                f"| {truth} | {seeds} | "
                + " | ".join(f"{rate:.1f}" for rate in rates)
                + f" | {covered:.1f} |",
                flush=True,
            )
    print(
        "\ngrowth of forgetting in the rate: answers in %, 5 checkpoints x 9 rates; nominal 5 for "
        "any answer between the laws"
    )
    print("| truth | seeds | exponential | power law | undetermined |\n|---|---|---|---|---|")
    for truth in ("exponential", "power", "between"):
        for seeds in (3, 5, 8):
            generator = np.random.default_rng(15)
            laws = [growth_law(RATES, grown(generator, truth, seeds)) for _ in range(num)]
            up = 100 * sum(law is not None and law.interval[0] > 0 for law in laws) / num
            down = 100 * sum(law is not None and law.interval[1] < 0 for law in laws) / num
            print(
                f"| {truth} | {seeds} | {up:.1f} | {down:.1f} | {100 - up - down:.1f} |", flush=True
            )
