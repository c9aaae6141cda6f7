"""Error rates of verdicts when draws are added until they say yes, and power of a few seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from simulation import World, lengths

from ucurve.analysis import condition_verdicts
from ucurve.analysis.conditions import Condition
from ucurve.analysis.verdict_order import more_draws
from ucurve.spec import Verdict

Judge = Callable[[Condition], Verdict]
MOST = 4  # looks that are simulated
POOL = 160  # draws at most


def first_yes(judge: Judge, condition: Condition, start: int, advised: bool) -> int | None:
    """Return the interim look (1, 2, ...) at which the answer is yes; None when it never is.

    Draws are added as the verdict advises, or doubled at every look.
    """
    num = start
    for look in range(1, MOST + 1):
        verdict = judge(replace(condition, losses=condition.losses[:, :num], look=look))
        if verdict.answer == "yes":
            return look
        more = more_draws(verdict) if advised else num
        if not more or num + more > condition.losses.shape[1]:
            return None
        num += more
    return None


def overtraining(condition: Condition) -> Verdict:
    return condition_verdicts.catastrophic_overtraining([condition])[0]


def sensitivity(condition: Condition) -> Verdict:
    return condition_verdicts.progressive_sensitivity(
        [replace(condition, base=np.zeros((len(condition.x), 1)))]
    )[0]


def print_tables(num: int) -> None:
    """Print false yes by the k-th look on flat truth, then the power of few seeds at six rates."""
    print(
        "\nfalse yes in % on flat truth when draws are added until yes, by the k-th look; "
        "nominal 5 by the second"
    )
    print(
        "| claim | noise | starts with | draws added | 1 | 2 | 3 | 4 |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name, judge in (("overtraining", overtraining), ("sensitivity", sensitivity)):
        for tails in ("normal", "heavy"):
            for start in (3, 5, 8):
                for advised in (True, False):
                    rng = np.random.default_rng(21)
                    simulated = World(5, POOL, tails=tails)
                    # In units of one draw's std: small, but a no is possible.
                    relevant = 0.3 if advised else 1e-9
                    conditions = (
                        simulated.condition(np.zeros(5), rng, relevant) for _ in range(num)
                    )
                    firsts = [
                        first_yes(judge, condition, start, advised) for condition in conditions
                    ]
                    rates = [
                        100 * sum(look is not None and look <= k for look in firsts) / num
                        for k in range(1, MOST + 1)
                    ]
                    how = "as advised" if advised else "doubled"
                    print(
                        f"| {name} | {tails} | {start} | {how} | "
                        + " | ".join(f"{rate:.1f}" for rate in rates)
                        + " |",
                        flush=True,
                    )
    print(
        "\nprogressive sensitivity at 6 rates: forgetting 1 + 0.5 per doubling of tokens, spread "
        "0.1 of it, the same seeds at\nevery rate: yes in % per rate where it grows, and any false "
        "yes where it does not"
    )
    print("| seeds | yes, growing | any yes, flat |\n|---|---|---|")
    for seeds in (3, 4, 5, 8):
        rng = np.random.default_rng(22)
        grown = [answers(sweep(seeds, 0.5, rng)) for _ in range(num)]
        flat = [answers(sweep(seeds, 0.0, rng)) for _ in range(num)]
        right = 100 * np.mean([answer == "yes" for family in grown for answer in family])
        wrong = 100 * np.mean(["yes" in family for family in flat])
        print(f"| {seeds} | {right:.1f} | {wrong:.1f} |", flush=True)


def sweep(seeds: int, growth: float, rng: np.random.Generator) -> list[Condition]:
    """Six learning rates over five checkpoints."""
    x = lengths(5)
    truth = 1 + growth * np.arange(5)
    shared = rng.normal(0, 0.05, (5, seeds))
    losses = [truth[:, None] * (1 + shared + rng.normal(0, 0.1, (5, seeds))) for _ in range(6)]
    return [Condition("", x, rows, np.zeros((5, 1)), draw_name="seeds") for rows in losses]


def answers(family: list[Condition]) -> list[str]:
    return [verdict.answer for verdict in condition_verdicts.progressive_sensitivity(family)]
