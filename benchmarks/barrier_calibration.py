"""Error rates of the barrier and of the average along a line, on simulated blocks of text.

    python benchmarks/barrier_calibration.py --repeats 4000 --seed 1

A line has 3, 7 or 15 positions between its ends; a block of text moves all losses alike, and each
position on its own, more or less like its neighbour. `spread` is that of the own part half-way over
that next to the ends. True lines: flat (no barrier, and the average as good as both ends), and with
a bump of exactly the smallest size of interest, which a "no" would deny wrongly.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import numpy as np
from simulation import Array, standard

from ucurve.analysis import statistics
from ucurve.analysis.interpolation import ALPHA, SMALLEST, Line, barrier, gain

STEPS = (4, 8, 16)
TAILS = ("normal", "heavy", "skewed", "left-skewed")


@dataclass(frozen=True)
class TextWorld:
    """How losses of one text scatter over blocks along a line; error: of a mean own part."""

    steps: int = 8
    num_blocks: int = 32
    tails: str = "normal"
    rho: float = 0.0
    spread: float = 1.0
    error: float = 0.002

    def line(self, truth: Array, rng: np.random.Generator) -> Line:
        """Return a line whose true losses are 2.5 + truth [steps + 1]."""
        shape = (self.steps + 1, self.num_blocks)
        sign = -1 if self.tails == "left-skewed" else 1
        own = sign * standard(rng, self.tails.removeprefix("left-"), shape)
        for k in range(1, self.steps + 1):
            own[k] = self.rho * own[k - 1] + np.sqrt(1 - self.rho**2) * own[k]
        t = np.linspace(0, 1, self.steps + 1)
        spread = self.spread ** (4 * t * (1 - t))
        own *= (spread * self.error * np.sqrt(self.num_blocks))[:, None]
        text = 0.3 * standard(rng, self.tails.removeprefix("left-"), (1, self.num_blocks))
        losses = statistics.long_blocks(2.5 + truth[:, None] + own + text)
        done = np.ones(len(t), dtype=bool)
        return Line("", "a", "b", 1.0, 1.0, t, losses, done)


def truths(world: TextWorld) -> dict[str, Array]:
    """Return true lines: flat, and with a bump of the smallest size of interest half-way."""
    t = np.linspace(0, 1, world.steps + 1)
    return {"flat": np.zeros(len(t)), "bump": SMALLEST * np.where(t == 0.5, 1.0, 0.0)}


def rates(world: TextWorld, repeats: int, seed: int) -> dict[str, float]:
    """Return shares of lines with a wrong answer, and of intervals that hold the true height.

    wrong yes: a barrier on a flat line. average: it is called better than both ends on a flat line.
    wrong no: a bump of the smallest size of interest is excluded.
    """
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(("wrong yes", "average", "wrong no", "coverage"), 0)
    for name, truth in truths(world).items():
        for _ in range(repeats):
            line = world.line(truth, rng)
            height = barrier(line)
            low, high = height.interval
            if name == "flat":
                counts["wrong yes"] += height.p_value < ALPHA and height.value > 0
                counts["average"] += gain(line).p_value < ALPHA
                continue
            counts["wrong no"] += high < SMALLEST
            counts["coverage"] += low <= SMALLEST <= high
    return {name: count / repeats for name, count in counts.items()}


def power(world: TextWorld, size: float, repeats: int, seed: int) -> float:
    """Return how often a barrier of `size` nats, a parabola, is found."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, world.steps + 1)
    truth = 4 * size * t * (1 - t)
    lines = (world.line(truth, rng) for _ in range(repeats))
    return sum(barrier(line).p_value < ALPHA for line in lines) / repeats


def main() -> None:
    """Print the tables of `docs/calibration.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    print("| blocks | neighbours | spread | steps | wrong yes | average | wrong no | coverage |")
    print("|---|---|---|---|---|---|---|---|")
    for tails, rho, spread in itertools.product(TAILS, (0.0, 0.6, 0.9), (1.0, 3.0)):
        for steps in STEPS:
            world = TextWorld(steps, 32, tails, rho, spread)
            cells = [f"{100 * rate:.1f}" for rate in rates(world, *vars(chosen).values()).values()]
            print(f"| {tails} | {rho:g} | {spread:g} | {steps} | {' | '.join(cells)} |", flush=True)
    for rho, size in itertools.product((0.0, 0.9), (3, 5)):
        world = TextWorld(8, 32, "normal", rho)
        found = power(world, size * world.error * np.sqrt(1.5), chosen.repeats, chosen.seed)
        print(f"power at t = {size}, neighbours {rho:g}: {100 * found:.0f}%")


if __name__ == "__main__":
    main()
