"""Verdicts of fine-tuning at one or several learning rates.

    verdicts(table, design)       # summaries over rates and pre-training seeds first, then details

The claims over pre-training tokens, the trend of the best learning rate, and the law by which
forgetting grows with the learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ucurve.analysis import (
    combined_verdicts,
    condition_verdicts,
    evaluation_sets,
    learning_rate_fits,
    loss_increase_law,
    next_run,
    replication,
    tuned_rate_verdicts,
)
from ucurve.analysis import fine_tuning as numbers
from ucurve.analysis.conditions import Condition
from ucurve.analysis.fine_tuning import Design, Panel
from ucurve.analysis.replication import Reference
from ucurve.analysis.statistics import Array
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

MAX_MORE_SEEDS = 1000


def verdicts(
    table: pd.DataFrame, design: Design, references: Sequence[Reference] = ()
) -> list[Verdict]:
    """Return the summaries of every method, the base, the details of every method, and the laws.

    All single verdicts are returned, so that the false-discovery statement of a claim counts the
    tests of all methods. The laws are those of the first method, whose chart draws them.

    references: published numbers of this experiment, judged in between.
    """
    if table.empty:
        return []
    table = numbers.prepared(table)
    summaries: list[Verdict] = []
    details: list[Verdict] = []
    laws: list[tuple[Panel, Verdict]] = []
    by_scope: dict[str, dict[int, Sequence[Condition]]] = {}
    for method in design.methods:
        families = [
            (panel, list(family.values()))
            for panel, family in numbers.conditions(table, design, method)
        ]
        judged = [
            (panel, condition_verdicts.all_verdicts(family)[1:]) for panel, family in families
        ]
        summaries += _summaries(judged, method, design)
        summaries += tuned_rate_verdicts.verdicts(table, design, method)
        summaries += _sweep_verdicts(table, design, method)
        for panel, family in families:
            scope = _family_scope(method, panel["evaluation"], design)
            by_scope.setdefault(scope, {})[int(panel["replicate"])] = family
        if method == design.methods[0]:
            details += [_base(panel, family, design) for panel, family in families]
            laws = [(panel, _law(panel, family, method, design)) for panel, family in families]
        details += [verdict for _, group in judged for verdict in group]
    published = replication.verdict(
        replication.compare(references, numbers.comparable_rows(table, design))
    )
    summaries += next_run.verdicts(by_scope, shared=True)
    return [*summaries, *([published] if published else []), *details, *_with_summary(laws, design)]


def _family_scope(method: str, evaluation: str, design: Design) -> str:
    return method + (f", {evaluation}" if design.num_evaluations > 1 else "")


def _law(panel: Panel, family: Sequence[Condition], method: str, design: Design) -> Verdict:
    """Return the law over learning rates and tokens of one pre-training seed."""
    scope = f"{method}, {_scope(panel, design)}"
    return loss_increase_law.law_verdict(family, "learning_rate", "learning rate", scope)


def _with_summary(laws: Sequence[tuple[Panel, Verdict]], design: Design) -> list[Verdict]:
    """Return the laws after their summaries over pre-training seeds, per evaluation set."""
    summaries = []
    for evaluation in dict.fromkeys(panel["evaluation"] for panel, _ in laws):
        group = [verdict for panel, verdict in laws if panel["evaluation"] == evaluation]
        if len(group) > 1:
            scope = _family_scope(design.methods[0], evaluation, design)
            summaries.append(loss_increase_law.over_replicates(group, scope))
    return [*summaries, *(verdict for _, verdict in laws)]


def _scope(panel: Panel, design: Design) -> str:
    evaluation = f", {panel['evaluation']}" if design.num_evaluations > 1 else ""
    return f"pre-training seed {panel['replicate']}{evaluation}"


def _base(panel: Panel, family: Sequence[Condition], design: Design) -> Verdict:
    verdict = condition_verdicts.base_degrades(family[0])
    return verdict.model_copy(update={"scope": _scope(panel, design)})


def _summaries(
    judged: Sequence[tuple[Panel, list[Verdict]]], method: str, design: Design
) -> list[Verdict]:
    """Summarize each claim over learning rates, then pre-training seeds, per evaluation set.

    Preceded by the answer over the sets where there are several.
    """
    summaries = []
    for claim in ("progressive sensitivity", "catastrophic overtraining"):
        by_set: dict[str, list[Verdict]] = {}
        details: dict[str, list[Verdict]] = {}
        for panel, group in judged:
            family = [verdict for verdict in group if verdict.claim == claim]
            run = f"pre-training seed {panel['replicate']}"
            summary = combined_verdicts.over_conditions(family, run)
            by_set.setdefault(panel["evaluation"], []).append(summary)
            details.setdefault(panel["evaluation"], []).extend(family)
        per_set = {
            name: combined_verdicts.over_replicates(runs, method) for name, runs in by_set.items()
        }
        if len(per_set) > 1:
            summaries.append(evaluation_sets.over_sets(per_set, details))
        for name, verdict in per_set.items():
            scope = _family_scope(method, name, design)
            summaries.append(verdict.model_copy(update={"scope": scope}))
    return summaries


def _sweep_verdicts(table: pd.DataFrame, design: Design, method: str) -> list[Verdict]:
    """Return what several learning rates show, per pre-training seed and evaluation set.

    Preceded by summaries over pre-training seeds when there are several.
    """
    if len(design.rates) < 2:
        return []
    trends, laws = [], []
    rates = np.array(design.rates)
    for panel, rows in numbers.families(table, method):
        x, losses = numbers.grid(rows, numbers.badness(rows, design), design.rates)
        _, forgetting = numbers.grid(rows, rows["forgetting"].to_numpy(dtype=float), design.rates)
        losses, forgetting = numbers.complete_seeds(losses, forgetting)
        scope = _scope(panel, design)
        evaluation = str(panel["evaluation"])
        trends.append((evaluation, _best_rate(x, rates, losses, forgetting, scope)))
        laws.append((evaluation, _growth(rates, forgetting, scope)))
    summaries = [
        summary
        for group in (trends, laws)
        for summary in evaluation_sets.over_replicates_and_sets(group, method, least=2)
    ]
    details = [
        verdict.model_copy(update={"scope": f"{method}, {verdict.scope}"})
        for _, verdict in [*trends, *laws]
    ]
    return [*summaries, *details]


def _more_seeds(num_seeds: int, effect: float, interval: tuple[float, float]) -> int | None:
    """Return how many more seeds could exclude zero from the interval of this effect, if few."""
    if not effect:
        return None
    half = (interval[1] - interval[0]) / 2
    more = int(np.ceil(num_seeds * (1.2 * half / abs(effect)) ** 2)) - num_seeds
    return max(more, 1) if more <= MAX_MORE_SEEDS else None


def _seeds_text(more: int | None) -> str:
    if more is None:
        return " More seeds are unlikely to resolve it."
    return f" About {more} more seeds could resolve it."


def _best_rate(x: Array, rates: Array, losses: Array, forgetting: Array, scope: str) -> Verdict:
    claim = "best learning rate falls with pre-training"
    trend = learning_rate_fits.rate_trend(x, rates, losses, forgetting)
    answers: dict[str, Answer] = {"constant": "no", "rising": "no", "undetermined": "undetermined"}
    estimated = bool(np.isfinite(trend.p))
    num_seeds = losses.shape[2] if losses.ndim == 3 else 0
    more: int | None = None
    sentence = _best_rate_text(trend)
    if estimated and trend.speed == "undetermined":
        more = _more_seeds(num_seeds, trend.p, trend.p_interval)
        sentence += _seeds_text(more)
    elif trend.speed == "falling":
        more = _more_seeds(num_seeds, trend.excess, trend.excess_interval)
        sentence += _seeds_text(more)
    return Verdict(
        claim=claim,
        scope=scope,
        answer=answers.get(trend.speed, "yes"),
        sentence=sentence,
        effect=trend.p if estimated else None,
        effect_name="p in lr* ~ tokens^-p",
        interval=trend.p_interval if estimated else None,
        test="parabola through the best learning rate and its neighbours; bootstrap over seeds, "
        "paired over checkpoints and learning rates; excludes the validation set's sampling error",
        num_draws=num_seeds,
        draw_name="seeds",
        more_draws=more,
        evidence={
            "speed": trend.speed,
            **({"b": trend.b, "q": trend.q, "excess": trend.excess} if estimated else {}),
        },
    )


def _best_rate_text(trend: learning_rate_fits.RateTrend) -> str:
    low, high = trend.p_interval
    law = f"lr* falls as tokens^-{trend.p:.2f} (95% CI: {low:.2f} to {high:.2f})"
    growth = (
        f"forgetting grows as lr^{trend.b:.2f} tokens^{trend.q:.2f}, so b p - q = "
        f"{trend.excess:.2f} ({trend.excess_interval[0]:.2f} to {trend.excess_interval[1]:.2f})"
    )
    reason = trend.reason[:1].upper() + trend.reason[1:]
    return {
        "constant": f"Constant: {law}, less than one grid step over these checkpoints.",
        "rising": f"It rises: {law}.",
        "quickly falling": f"Quickly falling: {law}; {growth}. The falling learning rate offsets "
        "the growing sensitivity.",
        "slowly falling": f"Slowly falling: {law}; {growth}. Forgetting at the best learning rate "
        "still grows.",
        "falling": f"Falling: {law}; {growth}. Whether quickly or slowly is undetermined.",
        "undetermined": f"{reason}{'' if np.isnan(trend.p) else f' ({law})'}.",
    }[trend.speed]


def _growth(rates: Array, forgetting: Array, scope: str) -> Verdict:
    claim = "forgetting grows exponentially with the learning rate"
    law = learning_rate_fits.growth_law(rates, forgetting) if forgetting.size else None
    if law is None:
        reason = (
            "At least 2 seeds and 4 learning rates with significantly positive forgetting are "
            "needed."
        )
        return Verdict(claim=claim, scope=scope, answer="undetermined", sentence=reason)
    low, high = law.interval
    answer: Answer = "yes" if low > 0 else "no" if high < 0 else "undetermined"
    power = f"forgetting ~ lr^{law.exponent:.2f}"
    sentence = {
        "yes": f"An exponential fits better than a power law ({power}).",
        "no": f"A power law fits better: {power}.",
        "undetermined": f"An exponential and a power law ({power}) fit equally well.",
    }[answer]
    more = None
    if answer == "undetermined":
        more = _more_seeds(forgetting.shape[2], law.advantage, law.interval)
        sentence += _seeds_text(more)
    return Verdict(
        claim=claim,
        scope=scope,
        answer=answer,
        sentence=sentence,
        effect=law.advantage,
        effect_name="residual sum of squares of log forgetting, power law minus exponential",
        interval=law.interval,
        test=f"least squares with two parameters per checkpoint over up to {law.num_rates} "
        "learning "
        "rates; bootstrap over seeds; compares the two fits only; excludes the sampling error of "
        "the unperturbed loss",
        num_draws=forgetting.shape[2],
        draw_name="seeds",
        more_draws=more,
        evidence={"exponent": law.exponent, "num_rates": law.num_rates},
    )
