"""Error rates of the verdicts on the next pre-training run, over worlds in which that run is known.

    python benchmarks/next_run_calibration.py                    # 2000 simulations per row
    python benchmarks/next_run_calibration.py --simulations 200

A world draws the true curve of every run and of one more, the next one: mean curve + what the run
adds. The runs are measured with noise seeds, the next one is not: it is what the verdict is about.
Between runs: none, or as much as a run's own error over noise seeds (moderate), or five times as
much (large); at the last checkpoint only, so that all contrasts move together, or at every
checkpoint, so that minima lie elsewhere in every run. Noise seeds are those of each run, or shared,
with errors that correlate by 0.5 between runs.

A wrong yes: yes, and the next run has no rise (growth). A wrong no: no, and it has a relevant one.
Nominal is 3% for yes (the first interim analysis) and 2.5% for no, and 95% for coverage.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from simulation import lengths, standard

from ucurve.analysis import contrasts, next_run_overtraining, next_run_sensitivity, statistics
from ucurve.analysis.conditions import Condition, alpha
from ucurve.analysis.prediction import predict
from ucurve.analysis.runs import aligned
from ucurve.analysis.statistics import Array
from ucurve.schemas.results import Verdict

NUM_DRAWS = 8
RELEVANT = 0.5  # smallest effect of interest, in standard errors of one run's contrast
BETWEEN = {"none": 0.0, "moderate": 1.0, "large": 5.0}  # in the same unit


@dataclass(frozen=True)
class Runs:
    """A world of runs; all in units of the standard error of one run's contrast over its draws.

    rise: of the mean curve from its minimum at the middle checkpoint to the last. between: standard
    deviation of what a run adds, at the last checkpoint or at every one (`everywhere`); tails: of
    that and of the draws.
    """

    num_runs: int
    between: float = 0.0
    shared: bool = False
    everywhere: bool = False
    rise: float = 0.0
    tails: str = "normal"
    num_checkpoints: int = 3
    level: float = 100.0

    def curves(self, rng: np.random.Generator) -> Array:
        """The true curve of every run and of the next, [num_runs + 1, num_checkpoints]."""
        own = self.between * standard(rng, self.tails, (self.num_runs + 1, self.num_checkpoints))
        if not self.everywhere:
            own[:, :-1] = 0
        mean = np.zeros(self.num_checkpoints)
        if self.rise:
            at = np.linspace(-1, 1, self.num_checkpoints)
            mean = self.rise * np.square(at)
        return np.asarray(mean + own)

    def conditions(self, curves: Array, rng: np.random.Generator) -> dict[int, Condition]:
        """What is measured of every run but the next; the unperturbed loss is exact and flat."""
        spread = np.sqrt(NUM_DRAWS / 2)
        common = standard(rng, self.tails, (self.num_checkpoints, NUM_DRAWS))
        conditions = {}
        for seed in range(self.num_runs):
            own = standard(rng, self.tails, (self.num_checkpoints, NUM_DRAWS))
            noise = np.sqrt(0.5) * (common + own) if self.shared else own
            conditions[seed] = Condition(
                f"gamma 1, pre-training seed {seed}",
                lengths(self.num_checkpoints),
                self.level + curves[seed][:, None] + spread * noise,
                np.zeros((self.num_checkpoints, 1)),
                smallest_effect=RELEVANT,
                labels={"replicate": seed, "gamma": 1.0},
            )
        return conditions


@dataclass(frozen=True)
class Outcome:
    """One simulated verdict beside the truth of the next run."""

    answer: str
    covered: bool
    has_effect: bool
    is_relevant: bool


def overtraining(world: Runs, rng: np.random.Generator) -> Outcome:
    """Judge a rise after the minimum; the next run's is after its own minimum."""
    curves = world.curves(rng)
    [verdict] = next_run_overtraining.verdicts(
        [aligned(world.conditions(curves, rng), world.shared)]
    )
    return _outcome(verdict, float(curves[-1, -1] - curves[-1, :-1].min()))


def sensitivity(world: Runs, rng: np.random.Generator) -> Outcome:
    """Judge the growth of the loss increase, as a ratio where all runs have a clear one."""
    curves = world.curves(rng)
    [verdict] = next_run_sensitivity.verdicts(
        [aligned(world.conditions(curves, rng), world.shared)]
    )
    first, last = (world.level + float(curves[-1, at]) for at in (0, -1))
    outcome = _outcome(verdict, last - first)
    if "over that at the first" in verdict.effect_name:
        return replace(outcome, covered=first > 0 and _covers(verdict, last / first))
    return outcome


def _covers(verdict: Verdict, value: float) -> bool:
    assert verdict.interval, "every simulated setting has an interval"
    return bool(verdict.interval[0] <= value <= verdict.interval[1])


def _outcome(verdict: Verdict, effect: float) -> Outcome:
    return Outcome(verdict.answer, _covers(verdict, effect), effect > 0, effect >= RELEVANT)


def naive(world: Runs, rng: np.random.Generator) -> Outcome:
    """Say yes if every run rises significantly, as if runs that agree spoke for the next."""
    curves = world.curves(rng)
    rises = [
        contrasts.rise_after_minimum(condition.losses).p_value < condition.alpha
        for condition in world.conditions(curves, rng).values()
    ]
    effect = float(curves[-1, -1] - curves[-1, :-1].min())
    return Outcome("yes" if all(rises) else "undetermined", True, effect > 0, effect >= RELEVANT)


def naive_mean(world: Runs, rng: np.random.Generator) -> Outcome:
    """Say yes if the t interval of the mean over runs, from its lowest checkpoint, is above 0."""
    curves = world.curves(rng)
    means = np.stack([c.losses.mean(axis=1) for c in world.conditions(curves, rng).values()])
    lowest = int(means[:, :-1].mean(axis=0).argmin())
    _, low, _ = statistics.mean_interval(means[:, -1] - means[:, lowest])
    effect = float(curves[-1, -1] - curves[-1, :-1].min())
    return Outcome("yes" if low > 0 else "undetermined", True, effect > 0, effect >= RELEVANT)


def rates(test: object, world: Runs, num: int, seed: int) -> dict[str, float]:
    """Return the share of wrong and right answers and of next runs within the interval, in %."""
    assert callable(test), "a test takes a world and a generator"
    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    for _ in range(num):
        outcome: Outcome = test(world, rng)
        counts["yes"] += outcome.answer == "yes"
        counts["no"] += outcome.answer == "no"
        counts["wrong yes"] += outcome.answer == "yes" and not outcome.has_effect
        counts["wrong no"] += outcome.answer == "no" and outcome.is_relevant
        counts["covered"] += outcome.covered
    return {name: 100 * counts[name] / num for name in ("yes", "wrong yes", "wrong no", "covered")}


def worlds() -> Iterator[tuple[str, Runs]]:
    """The worlds of the tables: no rise on average, and one of 6 standard errors."""
    for num_runs in (3, 5, 8):
        for name, between in BETWEEN.items():
            for shared in (False, True):
                noise = "shared" if shared else "per run"
                yield f"{num_runs} | {name} | {noise}", Runs(num_runs, between, shared)


def print_tables(num: int) -> None:
    """Print a table per kind of world."""
    print(f"{num} simulations per row, {NUM_DRAWS} noise seeds, 3 checkpoints, in %")
    kinds = {
        "no rise on average, runs differ at the last checkpoint": {},
        "no rise on average, runs differ at every checkpoint": {"everywhere": True},
        "a rise of 6 standard errors, runs differ at every checkpoint": {
            "everywhere": True, "rise": 6.0,
        },
        "no rise on average, loss increases of 4 standard errors": {"level": 3.0},
        "no rise on average, skewed": {"tails": "skewed"},
        "no rise on average, heavy tails": {"tails": "heavy"},
        "no rise on average, 5 checkpoints": {"num_checkpoints": 5, "everywhere": True},
    }  # fmt: skip
    for title, fields in kinds.items():
        print(
            f"\n{title}\n| runs | between | noise | yes | wrong yes | wrong no | coverage "
            "| sensitivity: wrong yes | coverage | all runs say yes: wrong yes | mean: wrong yes |"
            "\n|" + "---|" * 11
        )
        for name, plain in worlds():
            world = replace(plain, **fields)  # type: ignore[arg-type]
            over, grows = rates(overtraining, world, num, 1), rates(sensitivity, world, num, 2)
            all_yes, mean = rates(naive, world, num, 3), rates(naive_mean, world, num, 4)
            numbers = [
                *over.values(),
                grows["wrong yes"],
                grows["covered"],
                all_yes["wrong yes"],
                mean["wrong yes"],
            ]
            print(f"| {name} | " + " | ".join(f"{x:.1f}" for x in numbers) + " |", flush=True)


def interval_rates(num_runs: int, between: float, shared: bool, num: int) -> tuple[float, float]:
    """Return how often the prediction interval holds the next run, and wrong yes, in %."""
    rng = np.random.default_rng(1)
    runs = between * rng.standard_normal((num, num_runs + 1))
    own = rng.standard_normal((num, num_runs, NUM_DRAWS))
    common = rng.standard_normal((num, 1, NUM_DRAWS))
    noise = np.sqrt(0.5) * (common + own) if shared else own
    effects = runs[:, :-1, None] + np.sqrt(NUM_DRAWS) * noise
    variance = effects.mean(axis=1).var(axis=1, ddof=1) / NUM_DRAWS if shared else 0.0
    predicted, truth = predict(effects.mean(axis=2), variance, NUM_DRAWS - 1), runs[:, -1]
    covered = (predicted.low <= truth) & (truth <= predicted.high)
    wrong = (predicted.p_rising < alpha(1)) & (truth <= 0)
    return 100 * float(covered.mean()), 100 * float(wrong.mean())


def print_intervals(num: int) -> None:
    """Print coverage and wrong yes of single contrasts, with noise of each run's own or shared."""
    print(
        f"\nthe interval itself, {num} simulations per cell\n| runs | between | coverage, own "
        "| wrong yes | coverage, shared | wrong yes |\n|---|---|---|---|---|---|"
    )
    for num_runs in (3, 5, 8):
        for name, between in BETWEEN.items():
            cells = [x for s in (False, True) for x in interval_rates(num_runs, between, s, num)]
            print(f"| {num_runs} | {name} | " + " | ".join(f"{x:.1f}" for x in cells) + " |")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--simulations", type=int, default=2000, help="per row")
    simulations = arguments.parse_args().simulations
    print_tables(simulations)
    print_intervals(80 * simulations)
