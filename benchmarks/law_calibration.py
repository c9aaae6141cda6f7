"""Coverage of the power law's intervals, and how often its verdict is wrong.

    python benchmarks/law_calibration.py                     # 2000 simulations per row: 2 minutes
    python benchmarks/law_calibration.py --simulations 200

Worlds are those of `law_simulation.py`: five checkpoints, four gammas, draws that all points share.
"""

from __future__ import annotations

import argparse

import numpy as np
from law_simulation import LawWorld

from ucurve.analysis.power_law_surface import Surface, fit

TOLERANCE = 1.25
NAMES = ("a", "b", "c", "level", "refuted", "lack of fit", "no fit")


def fitted(world: LawWorld, rng: np.random.Generator) -> Surface | None:
    """Fit one simulated table."""
    return fit(np.array(world.tokens), np.array(world.gammas), world.draw(rng))


def coverage(world: LawWorld, num: int, seed: int) -> dict[str, float]:
    """Return shares of intervals that hold the truth, of false refutations, and without a fit."""
    rng = np.random.default_rng(seed)
    rows = dict.fromkeys(NAMES, 0)
    for _ in range(num):
        surface = fitted(world, rng)
        if surface is None:
            rows["no fit"] += 1
            continue
        truths = {
            "a": (surface.size_exponent, world.a),
            "b": (surface.x_exponent, world.b),
            "c": (surface.factor, world.factor),
            "level": (surface.level, world.level),
        }
        for name, (interval, truth) in truths.items():
            rows[name] += interval is not None and interval[1] <= truth <= interval[2]
        low, high = surface.ratio_intervals(1 - 0.05 / len(surface.means))
        rows["refuted"] += bool(((low > TOLERANCE) | (high < 1 / TOLERANCE)).any())
        rows["lack of fit"] += surface.lack_of_fit_p < 0.05
    num_fitted = max(num - rows["no fit"], 1)
    return {name: count / (num if name == "no fit" else num_fitted) for name, count in rows.items()}


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--simulations", type=int, default=2000, help="per row")
    num = arguments.parse_args().simulations
    print(f"all in %, {num} simulations per row; seed 15")
    print(f"| draws | spread | seeds | {' | '.join(NAMES)} |")
    print(f"|---|---|---|{'---|' * len(NAMES)}")
    for tails in ("normal", "heavy", "skewed"):
        for spread in (0.3, 1.0):
            for num_draws in (3, 5, 8, 20):
                rates = coverage(LawWorld(num_draws, tails, spread), num, seed=15)
                cells = " | ".join(f"{100 * rates[name]:.1f}" for name in NAMES)
                print(f"| {tails} | {spread:g} | {num_draws} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
