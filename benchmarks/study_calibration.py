"""Error rates of combined verdicts on simulated studies.

They say whether inflection points agree, sensitivity grows and published numbers are reproduced.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from simulation import SIZES, World, lengths

from ucurve.analysis import condition_verdicts, inflection_points, replication
from ucurve.analysis.conditions import Condition
from ucurve.analysis.study_experiment import StudyExperiment
from ucurve.experiments import parse
from ucurve.spec import Verdict

Array = NDArray[np.float64]
ANSWERS = ("yes", "no", "undetermined")
KINDS = ("gaussian_perturbation", "fine_tuning")


def valley(world: World, bottom: int, t: float) -> Array:
    """A V in the logarithm of the length: t standard errors per step from the minimum."""
    return t * world.error * np.abs(np.arange(world.num_checkpoints) - bottom)


def inflection(world: World, bottoms: tuple[int, int], t: float, rng: np.random.Generator) -> str:
    """Judge two experiment types, three sizes each, with minima at these checkpoints."""
    parts = []
    for kind, bottom in zip(KINDS, bottoms, strict=True):
        family = [world.condition(valley(world, bottom, t), rng) for _ in range(3)]
        x = 1e6 * lengths(world.num_checkpoints)
        named = [
            Condition(
                f"size {i}, pre-training seed 0",
                x,
                condition.losses,
                condition.base,
                smallest_effect=condition.smallest_effect,
            )
            for i, condition in enumerate(family)
        ]
        verdicts = condition_verdicts.inflection_point(
            named, condition_verdicts.catastrophic_overtraining(named)
        )
        parts.append(StudyExperiment(kind, parse({"kind": kind}), pd.DataFrame(), verdicts))
    return inflection_points.verdicts(parts)[0].answer


def growth(world: World, exponent: float, rng: np.random.Generator) -> str:
    """Judge a loss increase of 20 spreads that grows as a power of the length."""
    truth = 20 * lengths(world.num_checkpoints) ** exponent
    losses = truth[:, None] * (1 + world.noise(rng) / 20)
    base = np.zeros((world.num_checkpoints, 1))
    return condition_verdicts.growth_of_sensitivity(
        [Condition("", lengths(world.num_checkpoints), losses, base)]
    )[0].answer


def reproduced(
    factor: float, spread: float, draws: int, tails: str, rng: np.random.Generator
) -> Verdict | None:
    """Judge changes that are truly `factor` times the published ones.

    spread: std of one draw relative to the change.
    """
    references = [replication.Reference("", "s", None, "perplexity", i, 100.0) for i in range(5)]
    changes = [30.0 * 2**i for i in range(5)]
    references += [
        replication.Reference("", "s", None, "perplexity_change", i, change, {"gamma": 1.0})
        for i, change in enumerate(changes)
    ]
    noise = World(5, draws, tails=tails, shared=0.0).noise(rng) * spread
    after = (
        np.log(100 + np.array(changes)[:, None] * factor)
        + noise * (np.array(changes) / (100 + np.array(changes)))[:, None]
    )
    rows = [
        {"tokens": i, "gamma": 1.0, "state": "done", "base": np.log(100.0), "nll_mean": loss}
        for i, losses in enumerate(after)
        for loss in losses
    ]
    return replication.verdict(replication.compare(references, pd.DataFrame(rows)))


def _row(answers: Sequence[str]) -> str:
    return " | ".join(f"{100 * answers.count(answer) / len(answers):.1f}" for answer in ANSWERS)


def print_tables(num: int) -> None:
    """`num` simulations per row."""
    print(
        "\ninflection points agree: answers in %, two changes of three sizes each, "
        f"{num} simulations per row"
    )
    print(
        "| minima | t per step | noise | size | yes | no | undetermined |\n"
        "|---|---|---|---|---|---|---|"
    )
    for apart in (0, 1, 2):
        for t in (2.0, 6.0):
            for tails in ("normal", "heavy"):
                for num_checkpoints, draws in SIZES:
                    world, rng = (
                        World(num_checkpoints, draws, tails=tails),
                        np.random.default_rng(31),
                    )
                    first = num_checkpoints // 3
                    minima = (first, first + apart)
                    answers = [inflection(world, minima, t, rng) for _ in range(num)]
                    where = "the same" if not apart else f"{apart} step{'s' * (apart > 1)} apart"
                    size = f"{num_checkpoints} x {draws}"
                    print(f"| {where} | {t:g} | {tails} | {size} | {_row(answers)} |", flush=True)
    print(
        "\ngrowth of sensitivity: answers in %; nominal 2.5 for a yes and for a no without growth"
    )
    print("| exponent | noise | size | yes | no | undetermined |\n|---|---|---|---|---|---|")
    for exponent in (0.0, 0.05, 0.1):
        for tails in ("normal", "heavy", "skewed"):
            for num_checkpoints, draws in SIZES[:2]:
                world, rng = World(num_checkpoints, draws, tails=tails), np.random.default_rng(32)
                answers = [growth(world, exponent, rng) for _ in range(num)]
                print(
                    f"| {exponent:g} | {tails} | {num_checkpoints} x {draws} | {_row(answers)} |",
                    flush=True,
                )
    print(
        "\npublished numbers reproduced: answers in % about five changes, each `factor` times the "
        "published one;\nnominal 5 for a no at 1 to 1.2 and for a yes from 1.2 on; spread: std of "
        "one draw relative to the change"
    )
    print(
        "| factor | spread | noise | draws | yes | no | undetermined |\n"
        "|---|---|---|---|---|---|---|"
    )
    for factor in (1.0, 1.2, 1.5):
        for spread in (0.05, 0.2):
            for tails in ("normal", "heavy"):
                for draws in (3, 5, 8):
                    rng = np.random.default_rng(33)
                    verdicts = [reproduced(factor, spread, draws, tails, rng) for _ in range(num)]
                    answers = [verdict.answer for verdict in verdicts if verdict is not None]
                    print(
                        f"| {factor:g} | {spread:g} | {tails} | {draws} | {_row(answers)} |",
                        flush=True,
                    )
