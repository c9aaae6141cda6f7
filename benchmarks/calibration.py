"""Error rates of the verdicts: false positives, coverage of intervals, and power.

    python benchmarks/calibration.py                    # 2000 simulations per row: ten minutes
    python benchmarks/calibration.py --simulations 200

One simulated condition has losses [num_checkpoints, num_draws] = truth + noise of the draw shared
by all checkpoints + noise of its own, the latter with correlation rho between neighbouring
checkpoints; normal, heavy-tailed (Student, 3 degrees of freedom) or skewed (log-normal, skewness
1.75). Effects are in units of the standard error of a paired difference: a U of t = 6 ends 6
standard errors above its minimum. Nominal are 5% for a false yes (one-sided) and 95% for coverage.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace

import interim_look_calibration
import numpy as np
import study_calibration
import sweep_calibration
from numpy.typing import NDArray
from simulation import SIZES, World, lengths

from ucurve.analysis import condition_verdicts, contrasts, statistics
from ucurve.analysis.conditions import Condition

Array = NDArray[np.float64]


def u_shape(world: World, t: float) -> Array:
    """A parabola: minimum at the middle checkpoint, ends t standard errors above it."""
    at = np.linspace(-1, 1, world.num_checkpoints)
    return t * world.error * np.square(at)


def says(
    verdicts: Callable[[Condition], str], world: World, truth: Array, num: int, seed: int
) -> dict[str, float]:
    """Return the frequency of each answer over `num` simulated conditions."""
    rng = np.random.default_rng(seed)
    answers = [verdicts(world.condition(truth, rng)) for _ in range(num)]
    return {answer: answers.count(answer) / num for answer in ("yes", "no", "undetermined")}


def overtraining(condition: Condition) -> str:
    return condition_verdicts.catastrophic_overtraining([condition])[0].answer


def sensitivity(condition: Condition) -> str:
    """Judge losses whose base is exact and flat: the loss increase has the same truth."""
    flat = replace(condition, base=np.zeros((len(condition.x), 1)))
    return condition_verdicts.progressive_sensitivity([flat])[0].answer


def base(condition: Condition) -> str:
    """Judge base losses, with blocks of windows in place of draws."""
    return condition_verdicts.base_degrades(replace(condition, base=condition.losses)).answer


def naive(condition: Condition) -> str:
    """Say yes if the last point is 2 standard errors above the lowest, picked from its draws."""
    difference = condition.losses[-1] - condition.losses[condition.losses.mean(axis=1).argmin()]
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return "yes" if difference.mean() > 2 * error > 0 else "no"


def naive_any(condition: Condition) -> str:
    """Say yes if any point after the lowest is 2 standard errors above it."""
    lowest = condition.losses.mean(axis=1).argmin()
    difference = condition.losses[lowest + 1 :] - condition.losses[lowest]
    error = difference.std(axis=1, ddof=1) / np.sqrt(difference.shape[1])
    return "yes" if (difference.mean(axis=1) > 2 * error).any() else "no"


def family_overtraining(world: World, num_gammas: int, num: int, seed: int) -> float:
    """Share of families of gammas (the same draws, scaled) with any yes on flat truth."""
    rng, wrong = np.random.default_rng(seed), 0
    for _ in range(num):
        first = world.condition(np.zeros(world.num_checkpoints), rng)
        other = world.condition(np.zeros(world.num_checkpoints), rng).losses
        family = [
            replace(first, losses=np.sqrt(1 - w) * (first.losses - 10) + np.sqrt(w) * (other - 10))
            for w in np.linspace(0, 0.5, num_gammas)
        ]
        wrong += any(
            verdict.answer == "yes"
            for verdict in condition_verdicts.catastrophic_overtraining(family)
        )
    return wrong / num


def coverage(world: World, truth: Array, num: int, seed: int) -> dict[str, float]:
    """Coverage of the 95% intervals of rise, minimum, ratio last/first and exponent."""
    rng = np.random.default_rng(seed)
    hits = dict.fromkeys(("rise", "bottom", "ratio", "exponent"), 0)
    x = lengths(world.num_checkpoints)
    growing = 20 * x**0.3
    for _ in range(num):
        losses = truth[:, None] + world.noise(rng)
        low, high = contrasts.rise_after_minimum(losses).interval
        hits["rise"] += low <= float(truth[-1] - truth[:-1].min()) <= high
        _, first, last = statistics.minimum_interval(losses, rng)
        hits["bottom"] += first <= int(truth.argmin()) <= last
        damage = growing[:, None] * (1 + world.noise(rng) / 20)
        _, low, high = statistics.ratio_interval(damage[0], damage[-1], rng)
        hits["ratio"] += low <= float(growing[-1] / growing[0]) <= high
        law = statistics.power_law(x, damage, rng)
        hits["exponent"] += law is not None and law.interval[0] <= 0.3 <= law.interval[1]
    return {name: count / num for name, count in hits.items()}


def truths(world: World) -> Iterator[tuple[str, Array]]:
    """Truths without a rise after the minimum."""
    at = np.linspace(0, 1, world.num_checkpoints)
    yield "flat", np.zeros(world.num_checkpoints)
    yield "falling", -8 * world.error * at
    yield "falling, then flat", 8 * world.error * np.maximum(0.5 - at, 0)


def worlds(sizes: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, World]]:
    for num_checkpoints, num_draws in sizes:
        plain = World(num_checkpoints, num_draws)
        yield "normal", plain
        yield "neighbours correlate 0.9", replace(plain, rho=0.9)
        yield "heavy tails", replace(plain, tails="heavy")
        yield "skewed, spread grows 5x", replace(plain, tails="skewed", spread_ratio=5)
        yield "skewed, spread shrinks 5x", replace(plain, tails="skewed", spread_ratio=0.2)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--simulations", type=int, default=2000, help="per row of the first tables"
    )
    num = arguments.parse_args().simulations
    error = 100 * np.sqrt(0.05 * 0.95 / num)
    print(f"{num} simulations per row; standard error of a 5% rate {error:.1f}%\n")
    print("false yes in %, nominal 5")
    print(
        "| truth | noise | size | overtraining | unperturbed loss rises | sensitivity | naive last "
        "| naive any |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for noise, world in worlds(SIZES):
        for truth_name, truth in truths(world):
            tests = (overtraining, base, sensitivity, naive, naive_any)
            rates = [
                100 * says(test, world, truth, num, seed)["yes"] for seed, test in enumerate(tests)
            ]
            size = f"{world.num_checkpoints} x {world.num_draws}"
            print(
                f"| {truth_name} | {noise} | {size} | "
                + " | ".join(f"{rate:.1f}" for rate in rates)
                + " |",
                flush=True,
            )
    print("\nany false yes for 4 gammas of the same draws on flat truth, in %, nominal 5")
    for num_checkpoints, num_draws in SIZES:
        wrong = family_overtraining(World(num_checkpoints, num_draws), 4, num, 9)
        print(f"{num_checkpoints} x {num_draws}: {100 * wrong:.1f}", flush=True)
    print("\ncoverage of 95% intervals in %, U of t = 6 / power law with exponent 0.3")
    print(
        "| noise | size | rise | minimum | ratio last/first | exponent |\n|---|---|---|---|---|---|"
    )
    for noise, world in worlds(SIZES):
        covered = coverage(world, u_shape(world, 6), num // 2, 10)
        size = f"{world.num_checkpoints} x {world.num_draws}"
        print(
            f"| {noise} | {size} | "
            + " | ".join(f"{100 * value:.1f}" for value in covered.values())
            + " |",
            flush=True,
        )
    print(
        "\npower in %: true yes for a U (overtraining, base) or a rise (sensitivity) of t standard "
        "errors; and false no"
    )
    print(
        "| t | size | overtraining | its no | unperturbed loss rises | sensitivity | its no |\n"
        "|---|---|---|---|---|---|---|"
    )
    for num_checkpoints, num_draws in SIZES:
        world = World(num_checkpoints, num_draws)
        for t in (3.0, 5.0, 8.0):
            rise = t * world.error * np.linspace(0, 1, num_checkpoints)
            over = says(overtraining, world, u_shape(world, t), num, 11)
            worse = says(base, world, u_shape(world, t), num, 12)
            grows = says(sensitivity, world, rise, num, 13)
            rates = [over["yes"], over["no"], worse["yes"], grows["yes"], grows["no"]]
            columns = " | ".join(f"{100 * rate:.1f}" for rate in rates)
            print(f"| {t:g} | {num_checkpoints} x {num_draws} | {columns} |", flush=True)
    interim_look_calibration.print_tables(num // 2)
    study_calibration.print_tables(num // 8)
    sweep_calibration.print_tables(num // 4)


if __name__ == "__main__":
    main()
