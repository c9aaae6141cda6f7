"""Looking again: how often a verdict is wrong when draws are added until it says yes, and what a few seeds can say at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from simulation import World, lengths

from ucurve.analysis import claims
from ucurve.analysis.verdict_order import more_draws
from ucurve.spec import Verdict

Judge = Callable[[claims.Condition], Verdict]
MOST = 4  # looks that are simulated
POOL = 160  # draws at most


def first_yes(judge: Judge, condition: claims.Condition, start: int, advised: bool) -> int | None:
    """The look (1, 2, ...) at which the answer is yes, when draws are added until it is: as many as the verdict asks for, or
    twice as many each time whatever it says."""
    num = start
    for look in range(1, MOST + 1):
        found = judge(replace(condition, losses=condition.losses[:, :num], looks=look))
        if found.answer == "yes":
            return look
        more = more_draws(found) if advised else num
        if not more or num + more > condition.losses.shape[1]:
            return None
        num += more
    return None


def overtraining(condition: claims.Condition) -> Verdict:
    return claims.catastrophic_overtraining([condition])[0]


def sensitivity(condition: claims.Condition) -> Verdict:
    return claims.progressive_sensitivity(
        [replace(condition, base=np.zeros((len(condition.x), 1)))]
    )[0]


def print_tables(num: int) -> None:
    """Wrong yes by the k-th look on flat truth, then what few seeds can say about several rates."""
    print(
        "\nwrong yes in % on flat truth when draws are added until yes, by the k-th look; nominal 5 by the second"
    )
    print(
        "| claim | noise | starts with | draws added | 1 | 2 | 3 | 4 |\n|---|---|---|---|---|---|---|---|"
    )
    for name, judge in (("overtraining", overtraining), ("sensitivity", sensitivity)):
        for tails in ("normal", "heavy"):
            for start in (3, 5, 8):
                for advised in (True, False):
                    rng = np.random.default_rng(21)
                    simulated = World(5, POOL, tails=tails)
                    relevant = (
                        0.3 if advised else 1e-9
                    )  # of one draw's std: small, but a no is possible
                    made = (simulated.condition(np.zeros(5), rng, relevant) for _ in range(num))
                    looks = [first_yes(judge, one, start, advised) for one in made]
                    rates = [
                        100 * sum(look is not None and look <= k for look in looks) / num
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
        "\nprogressive sensitivity at 6 rates: forgetting 1 + 0.5 per doubling of tokens, spread 0.1 of it, the same seeds at every"
    )
    print("rate: yes in % per rate where it grows, and any wrong yes where it does not")
    print("| seeds | yes, growing | any yes, flat |\n|---|---|---|")
    for seeds in (3, 4, 5, 8):
        rng = np.random.default_rng(22)
        grown = [answers(sweep(seeds, 0.5, rng)) for _ in range(num)]
        flat = [answers(sweep(seeds, 0.0, rng)) for _ in range(num)]
        right = 100 * np.mean([answer == "yes" for found in grown for answer in found])
        print(
            f"| {seeds} | {right:.1f} | {100 * np.mean(['yes' in found for found in flat]):.1f} |",
            flush=True,
        )


def sweep(seeds: int, growth: float, rng: np.random.Generator) -> list[claims.Condition]:
    """Six learning rates over five checkpoints."""
    x = lengths(5)
    truth = 1 + growth * np.arange(5)
    shared = rng.normal(0, 0.05, (5, seeds))
    made = [truth[:, None] * (1 + shared + rng.normal(0, 0.1, (5, seeds))) for _ in range(6)]
    return [claims.Condition("", x, one, np.zeros((5, 1)), draw_name="seeds") for one in made]


def answers(family: list[claims.Condition]) -> list[str]:
    return [verdict.answer for verdict in claims.progressive_sensitivity(family)]
