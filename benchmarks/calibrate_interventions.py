"""How often "bends the U" is wrong when an intervention does nothing, and how its interval covers.

    python benchmarks/calibrate_interventions.py --simulations 4000 --seed 1

Curves of the control after noise are a truth plus the deviation of each pre-training seed, which is
partly the same at neighbouring budgets. An intervention without effect deviates on its own from
half of the run on. Printed as Markdown: the rule in use, in which other seeds choose the minimum,
and the naive one, in which the mean of the control itself does.
"""

from __future__ import annotations

import argparse

import numpy as np

from ucurve.analysis.interventions import Branches, change_of_rise, p_below
from ucurve.analysis.statistics import Array, mean_interval

TRUTHS = {
    "flat, then +0.1": (0.0, 0.0, 0.0, 0.0, 0.1),
    "U": (0.2, 0.05, 0.0, 0.05, 0.2),
    "minimum between two": (0.2, 0.0, 0.0, 0.1, 0.3),
}
ALPHA = 0.05  # of one test; a verdict has that of its interim analysis, and Holm's correction
OWN = 0.03  # nats: what one training run adds to its curve; a branch adds as much again


def simulated(truth: Array, num_seeds: int, rng: np.random.Generator, heavy: bool) -> Branches:
    """Return a control and an intervention that does nothing."""

    def deviations() -> Array:
        shape = (len(truth), num_seeds)
        draws = rng.standard_t(4, shape) / np.sqrt(2) if heavy else rng.standard_normal(shape)
        shared = rng.standard_normal(num_seeds)
        return OWN * (np.sqrt(0.5) * draws + np.sqrt(0.5) * shared)

    trunk = truth[:, None] + deviations()
    curves = {"none": trunk + deviations(), "other": trunk + deviations()}
    budgets = [float(i) for i in range(len(truth))]
    return Branches(list(range(num_seeds)), budgets, curves, {("init_std", 0.3): curves})


def naive(curves: dict[str, Array]) -> Array:
    """Return the change of the rise from the minimum of the control's own mean curve."""
    minimum = int(curves["none"][:-1].mean(axis=1).argmin())
    rises = {name: curve[-1] - curve[minimum] for name, curve in curves.items()}
    return rises["other"] - rises["none"]


def rates(truth: Array, num_seeds: int, simulations: int, seed: int, heavy: bool) -> list[str]:
    """Return wrong yes and bias of both rules, and the coverage of the one in use."""
    rng = np.random.default_rng(seed)
    wrong, means, covered = np.zeros(2), np.zeros(2), 0
    for _ in range(simulations):
        curves = dict(simulated(truth, num_seeds, rng, heavy).after["init_std", 0.3])
        for rule, values in enumerate((change_of_rise(curves, "other"), naive(curves))):
            wrong[rule] += p_below(values, 0.0) < ALPHA
            means[rule] += values.mean() / simulations
            if rule == 0:
                _, low, high = mean_interval(values)
                covered += low <= 0 <= high
    percent = [f"{100 * share / simulations:.1f} %" for share in (*wrong, covered)]
    return [percent[0], f"{means[0]:+.4f}", percent[2], percent[1], f"{means[1]:+.4f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print("| truth | seeds | wrong yes | bias | coverage | naive: wrong yes | naive: bias |")
    print("|---|---|---|---|---|---|---|")
    for heavy in (False, True):
        for name, truth in TRUTHS.items():
            for num_seeds in (2, 3, 4, 8):
                tails = ", heavy tails" if heavy else ""
                numbers = rates(
                    np.array(truth), num_seeds, arguments.simulations, arguments.seed, heavy
                )
                print(f"| {name}{tails} | {num_seeds} | {' | '.join(numbers)} |", flush=True)


if __name__ == "__main__":
    main()
