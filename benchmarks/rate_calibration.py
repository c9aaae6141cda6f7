"""Error rates of what is said at the best learning rate, and of the set of rates that may be it.

    python benchmarks/rate_calibration.py                     # 1000 simulations per row: 10 minutes
    python benchmarks/rate_calibration.py --simulations 200

Worlds are those of `rate_simulation.py`: five checkpoints, six rates a half decade apart. Nominal
are 3% for a wrong yes (the first interim analysis) and 95% for intervals and sets.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rate_simulation import RateWorld, validated

from ucurve.analysis import contrasts, rate_confidence_sets, tuned_rate_verdicts
from ucurve.analysis.fine_tuning import Design
from ucurve.analysis.pareto_fronts import front_band, true_front
from ucurve.analysis.tuned_rate_sweeps import Sweep
from ucurve.schemas.results import Verdict

Array = NDArray[np.float64]
SEED = 16
SEEDS = (3, 4, 5, 8)
DESIGN = Design([3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1], ["full"], "id_loss")
WORLDS = {
    "one rate is clearly the best": RateWorld(),
    "two rates nearly tie": RateWorld(gap=0.001),
    "two rates differ by half a seed's std": RateWorld(gap=0.005),
    "the same, losses and forgetting correlate +0.7": RateWorld(gap=0.005, correlation=0.7),
    "the same, correlate -0.7": RateWorld(gap=0.005, correlation=-0.7),
    "two rates nearly tie, skewed": RateWorld(gap=0.001, skewed=True),
}
POWER = {
    "forgetting grows twofold": RateWorld(growth=2.0),
    "the same, two rates nearly tie": RateWorld(gap=0.001, growth=2.0),
    "new task 0.03 nats worse": RateWorld(task_growth=0.03),
}


def on_all_seeds(sweep: Sweep) -> Array:
    """Return forgetting at the rate with the lowest mean loss, chosen and read on all seeds."""
    return sweep.at_rates(sweep.retention, sweep.task.mean(axis=2).argmin(axis=1).tolist())


def naive_rise(sweep: Sweep) -> bool:
    return contrasts.rise_after_minimum(on_all_seeds(sweep)).p_value < 0.03


def covers(verdict: Verdict, truth: float) -> bool:
    return verdict.interval is not None and verdict.interval[0] <= truth <= verdict.interval[1]


def answers(world: RateWorld, num_seeds: int, num: int) -> dict[str, float]:
    """Return shares of answers and of intervals that hold the truth, and the bias of the loss."""
    rng = np.random.default_rng(SEED)
    task, forgetting = world.truth()
    growth = float(forgetting[-1] - forgetting[0])
    rise = float(forgetting[-1] - forgetting[:-1].min())
    count: dict[str, float] = dict.fromkeys(
        ("naive", "overtraining", "sensitivity", "task", "rise in", "growth in", "task in"), 0.0
    )
    bias, naive_bias = 0.0, 0.0
    for _ in range(num):
        sweep = world.draw(rng, num_seeds)
        over, sensitive, learned = (
            judge(sweep, DESIGN, "full")
            for judge in (
                tuned_rate_verdicts.overtraining,
                tuned_rate_verdicts.sensitivity,
                tuned_rate_verdicts.learned,
            )
        )
        count["naive"] += naive_rise(sweep)
        count["overtraining"] += over.answer == "yes"
        count["sensitivity"] += sensitive.answer == "yes"
        count["task"] += learned.answer == "yes"
        count["rise in"] += covers(over, rise)
        count["growth in"] += covers(sensitive, growth)
        count["task in"] += covers(learned, float(task[-1] - task[:-1].min()))
        truth = float(task.mean())
        bias += sweep.at_best_rate(sweep.task).mean() - truth
        naive_bias += sweep.task.mean(axis=2).min(axis=1).mean() - truth
    shares = {name: 100 * value / num for name, value in count.items()}
    return {**shares, "bias": 1000 * bias / num, "naive bias": 1000 * naive_bias / num}


def sets_hold(num_seeds: int, gap: float, own: float, share: float, num: int) -> dict[str, float]:
    """Return how often each kind of set holds the true best of six rates, and its size."""
    rng, text = np.random.default_rng(SEED), 0.01
    task = 2 + gap * np.array([4.0, 1.0, 0.0, 1.0, 4.0, 9.0])
    held = dict.fromkeys(("one standard error", "blocks", "bound", "seeds only", "size"), 0.0)
    for _ in range(num):
        blocks = validated(rng, task, own, text, share, num_seeds)
        losses = blocks.mean(axis=2)
        means = losses.mean(axis=1)
        error = losses[means.argmin()].std(ddof=1) / np.sqrt(num_seeds)
        found = rate_confidence_sets.candidates(losses, blocks)
        held["one standard error"] += means[2] <= means.min() + error
        held["blocks"] += 2 in found
        held["bound"] += 2 in rate_confidence_sets.candidates(losses, error=text)
        held["seeds only"] += 2 in rate_confidence_sets.candidates(losses)
        held["size"] += len(found) / 100
    return {name: 100 * value / num for name, value in held.items()}


def fronts_hold(world: RateWorld, num_seeds: int, num: int) -> float:
    """Return how often the band of one checkpoint's Pareto front holds the true front, in %."""
    rng, held = np.random.default_rng(SEED), 0
    task, forgetting = (values[0] for values in world.means())
    for _ in range(num):
        sweep = world.draw(rng, num_seeds)
        band = front_band(sweep.task[0], sweep.retention[0])
        held += band is not None and band.holds(true_front(task, forgetting))
    return 100 * held / num


def row(name: str, num_seeds: int, values: dict[str, float]) -> None:
    print(
        f"| {name} | {num_seeds} | " + " | ".join(f"{v:.1f}" for v in values.values()) + " |",
        flush=True,
    )


def table(title: str, rows: dict[str, Callable[[int], dict[str, float]]]) -> None:
    print(f"\n{title}")
    for place, (name, make) in enumerate(rows.items()):
        for num_seeds in SEEDS:
            values = make(num_seeds)
            if not place and num_seeds == SEEDS[0]:
                print(f"| | seeds | {' | '.join(values)} |\n|---|---|{'---|' * len(values)}")
            row(name, num_seeds, values)


def main() -> None:
    """Print the tables."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--simulations", type=int, default=1000, help="per row")
    num = arguments.parse_args().simulations
    print(f"all in %, bias in 0.001 nats; {num} simulations per row; seed {SEED}")
    for title, worlds in {"flat truth": WORLDS, "power": POWER}.items():
        table(
            title,
            {name: lambda n, w=world: answers(w, n, num) for name, world in worlds.items()},
        )
    kinds = {
        f"{name}, seeds {own:g}, shared {share:g}": (gap, own, share)
        for name, gap in {"all equal": 0.0, "neighbours 0.005 worse": 0.005}.items()
        for own in (0.01, 0.003)
        for share in (1.0, 0.5, 0.0)
    }
    table(
        "sets of rates that hold the best",
        {name: lambda n, k=kind: sets_hold(n, *k, num) for name, kind in kinds.items()},
    )
    table(
        "Pareto fronts within their band",
        {
            name: lambda n, w=world: {"held": fronts_hold(w, n, num)}
            for name, world in {**WORLDS, "skewed": replace(RateWorld(), skewed=True)}.items()
        },
    )


if __name__ == "__main__":
    main()
