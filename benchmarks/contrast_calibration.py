"""Error rates of verdict method 2 beside method 1, in worlds that its constants were not chosen on.

    python benchmarks/contrast_calibration.py                       # 5,000 simulations per cell
    python benchmarks/contrast_calibration.py --draws draws.npy     # and resampled real draws

Thousands of tables are simulated at once: `ucurve.analysis.contrasts` and `trends` take leading
axes. Draws share no noise here; what they share cancels. The constants were chosen on log-normal
and gamma draws; these worlds are normal, heavy-tailed (Laplace), and skewed to the right or left
(Weibull, shape 1.1, skewness 1.7). draws.npy: losses [num_checkpoints, num_seeds] of real draws,
resampled and centred.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit
from simulation import World

from ucurve.analysis import contrasts, trends
from ucurve.analysis.conditions import alpha

Array = NDArray[np.float64]
SIZES = ((5, 3), (5, 5), (5, 8), (15, 8), (20, 20))
TAILS = ("normal", "laplace", "weibull", "left weibull")
SPREADS = {0.2: "shrinks", 1.0: "constant", 5.0: "grows"}
LEVELS = [(look, holm) for look in (1, 2, 3) for holm in (1, 4, 7)]
SEED = 53


class RealDraws:
    """Real draws [num_checkpoints, num_seeds], resampled and centred: the truth is flat."""

    def __init__(self, losses: Array, num_draws: int) -> None:
        self.centred = losses - losses.mean(axis=1, keepdims=True)
        self.num_checkpoints, self.num_draws = len(losses), num_draws

    def noises(self, num: int, rng: np.random.Generator) -> Array:
        """Return [num, num_checkpoints, num_draws]; a seed keeps its checkpoints together."""
        seeds = rng.integers(self.centred.shape[1], size=(num, self.num_draws))
        return np.swapaxes(self.centred.T[seeds], -1, -2)


def student_p(losses: Array) -> Array:
    """Return method 1's p-value of overtraining [num]: t tests with each contrast's variance."""
    tested = contrasts.of(losses)
    num_draws = losses.shape[-1]
    t = tested.mean / np.sqrt(tested.own / num_draws)
    return contrasts.simes(np.asarray(stdtr(num_draws - 1, -t)))


def contrast_p(losses: Array) -> Array:
    """Return method 2's p-value of overtraining [num]."""
    return contrasts.simes(contrasts.p_values(contrasts.of(losses)))


def rank_p(losses: Array) -> Array:
    """Return method 1's p-value of progressive sensitivity: ranks alone."""
    return trends.one_sided(losses, _staircase(losses))[1]


def slope_p(losses: Array) -> Array:
    """Return method 2's p-value of progressive sensitivity: ranks and slopes."""
    return trends.one_sided(losses, losses)[1]


def _staircase(losses: Array) -> Array:
    """Return values whose slopes are all positive, so that the slope test always agrees."""
    return np.broadcast_to(np.arange(losses.shape[-2], dtype=float)[:, None], losses.shape)


def wrong_no(losses: Array) -> tuple[float, float]:
    """Return how frequently the upper limit excludes the truth, methods 1 and 2.

    At the worst position of the minimum, the other checkpoints being far above it: the verdict's
    limit is the largest over checkpoints, so that is the worst truth.
    """
    tested = contrasts.of(losses)
    num_draws = losses.shape[-1]
    error = np.sqrt(tested.own / num_draws)
    student = tested.mean + float(stdtrit(num_draws - 1, 0.975)) * error
    limits = contrasts.upper_limits(tested)
    return float((student < 0).mean(axis=0).max()), float((limits < 0).mean(axis=0).max())


def covered(losses: Array, truth: Array) -> float:
    """Return the coverage of the rise's interval."""
    tested = contrasts.of(losses)
    rise = truth[-1] - truth[:-1].min()
    low = contrasts.lower_limits(tested).max(axis=-1)
    high = contrasts.upper_limits(tested).max(axis=-1)
    return float(((low <= rise) & (rise <= high)).mean())


def worlds(num_checkpoints: int, num_draws: int) -> Iterator[tuple[str, World]]:
    """Yield every world of one size."""
    for tails in TAILS:
        for spread, word in SPREADS.items():
            for rho in (0.0, 0.6, 0.9):
                world = World(num_checkpoints, num_draws, tails, rho, spread, shared=0.0)
                yield f"{tails} | {word} | {rho:g}", world


def u_shape(world: World, t: float) -> Array:
    """A parabola: minimum at the middle checkpoint, ends t standard errors above it."""
    return t * world.error * np.square(np.linspace(-1, 1, world.num_checkpoints))


def at_levels(p: Array) -> str:
    """Return the rates at every look and Holm level, over nominal."""
    rates = [float((p < alpha(look) / holm).mean()) * holm / alpha(look) for look, holm in LEVELS]
    return " ".join(f"{rate:.1f}" for rate in rates)


def row(world: World | RealDraws, num: int, rng: np.random.Generator) -> str:
    """Return the cells of one world: rates in %, then method 2 over nominal at every level."""
    losses = world.noises(num, rng)
    p = [student_p(losses), contrast_p(losses), rank_p(losses), slope_p(losses)]
    cells = [100 * float((value < alpha(1)).mean()) for value in p]
    cells += [100 * rate for rate in wrong_no(losses)]
    if isinstance(world, World):
        truth = u_shape(world, 6)
        cells.append(100 * covered(losses + truth[:, None], truth))
    return " | ".join(f"{cell:.1f}" for cell in cells) + f" | {at_levels(p[1])}"


def families(world: World, num: int, rng: np.random.Generator, num_gammas: int = 7) -> str:
    """Any wrong yes in a family of gammas of the same draws, Holm's first step, in %."""
    one, other = world.noises(num, rng), world.noises(num, rng)
    least = [np.ones(num), np.ones(num)]
    for weight in np.linspace(0, 0.5, num_gammas):
        losses = np.sqrt(1 - weight) * one + np.sqrt(weight) * other
        for index, test in enumerate((student_p, contrast_p)):
            least[index] = np.minimum(least[index], test(losses))
    return " | ".join(f"{100 * float((p < alpha(1) / num_gammas).mean()):.1f}" for p in least)


def looks(world: World, num: int, rng: np.random.Generator) -> str:
    """Any wrong yes by the fourth look, draws doubled at each, in %."""
    losses = replace(world, num_draws=8 * world.num_draws).noises(num, rng)
    wrong = np.zeros((2, num), bool)
    for look in range(1, 5):
        seen = losses[..., : world.num_draws * 2 ** (look - 1)]
        for index, test in enumerate((student_p, contrast_p)):
            wrong[index] |= test(seen) < alpha(look)
    return " | ".join(f"{100 * float(rate):.1f}" for rate in wrong.mean(axis=1))


def powers(world: World, num: int, rng: np.random.Generator) -> Iterator[str]:
    """Yield rows of power in %, methods 1 and 2, for overtraining and sensitivity."""
    for t in (3.0, 5.0, 8.0):
        bent = world.noises(num, rng) + u_shape(world, t)[:, None]
        line = t * world.error * np.linspace(0, 1, world.num_checkpoints)
        risen = world.noises(num, rng) + line[:, None]
        p = [student_p(bent), contrast_p(bent), rank_p(risen), slope_p(risen)]
        rates = [100 * float((value < alpha(1)).mean()) for value in p]
        yield f"{t:g} | " + " | ".join(f"{rate:.0f}" for rate in rates)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=5_000, help="per cell")
    parser.add_argument("--draws", type=Path, nargs="*", default=[], help="real draws, .npy")
    parser.add_argument("--first", type=int, default=0, help="index of the first size")
    parser.add_argument("--last", type=int, default=len(SIZES), help="index after the last size")
    arguments = parser.parse_args()
    num = arguments.simulations
    error = 100 * np.sqrt(0.03 * 0.97 / num)
    print(f"{num} simulations per cell, seed {SEED}; standard error of a 3% rate {error:.2f}%")
    print(f"last column: over nominal at (look, Holm divisor) {LEVELS}", flush=True)
    print("size | tails | spread | rho | yes 1 | yes 2 | trend 1 | 2 | no 1 | no 2 | covered")
    for size in SIZES[arguments.first : arguments.last]:
        rng = np.random.default_rng([SEED, *size])  # the same whichever sizes are simulated
        name = f"{size[0]} x {size[1]}"
        for world_name, world in worlds(*size):
            print(f"{name} | {world_name} | {row(world, num, rng)}", flush=True)
        for path in arguments.draws:
            draws = np.load(path)
            if len(draws) == size[0]:
                real = RealDraws(draws, size[1])
                print(f"{name} | {path.stem} | | | {row(real, num, rng)}", flush=True)
        normal = World(*size, shared=0.0)
        for powered in powers(normal, num, rng):
            print(f"{name} | power at t = {powered}", flush=True)
        part = num // 4
        for tails, spread in (("normal", 1.0), ("weibull", 0.2), ("left weibull", 5.0)):
            world = World(*size, tails, 0.6, spread, shared=0.0)
            print(f"{name} | {tails} | any of 7 gammas | {families(world, part, rng)}", flush=True)
            if size[1] <= 8:
                print(f"{name} | {tails} | by look 4 | {looks(world, part, rng)}", flush=True)


if __name__ == "__main__":
    main()
