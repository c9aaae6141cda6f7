"""What fine-tuning at one or several learning rates says: the claims over tokens, the best rate's trend, the growth of forgetting.

verdicts(table, spec)       # what holds over rates and replicates first, then the evidence
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ucurve.analysis import claims, learning_rate_fits, replication
from ucurve.analysis import fine_tuning as numbers
from ucurve.analysis.conditions import Answer, Condition
from ucurve.analysis.fine_tuning import Where
from ucurve.analysis.statistics import Array
from ucurve.experiments.fine_tuning_fields import TuningFields
from ucurve.spec import Verdict

if TYPE_CHECKING:
    import pandas as pd


def verdicts(table: pd.DataFrame, spec: TuningFields) -> list[Verdict]:
    """What holds over learning rates and replicates, method by method, and the published numbers; then the base, and the
    evidence for the first method, rate by rate."""
    if table.empty:
        return []
    table = numbers.prepared(table)
    first: list[Verdict] = []
    parts: list[Verdict] = []
    for method in spec.methods:
        families = [
            (where, list(family.values()))
            for where, family in numbers.conditions(table, spec, method)
        ]
        found = [(where, claims.all_verdicts(family)[1:]) for where, family in families]
        first += _summed(found, method, spec) + _rates(table, spec, method)
        if method == spec.methods[0]:
            parts += [_base(where, family, spec) for where, family in families]
            parts += [verdict for _, mine in found for verdict in mine]
    reported = replication.verdict(
        replication.compared(numbers.published_of(spec), numbers.beside_published(table, spec))
    )
    return [*first, *([reported] if reported else []), *parts]


def _scope(where: Where, spec: TuningFields) -> str:
    return f"replicate {where['replicate']}" + (
        f", {where['evaluation']}" if len(spec.evaluations) > 1 else ""
    )


def _base(where: Where, family: Sequence[Condition], spec: TuningFields) -> Verdict:
    return claims.base_degrades(family[0]).model_copy(update={"scope": _scope(where, spec)})


def _summed(
    found: Sequence[tuple[Where, list[Verdict]]], method: str, spec: TuningFields
) -> list[Verdict]:
    """Each claim over learning rates, then over replicates, for every evaluation set."""
    made = []
    for claim in ("progressive sensitivity", "catastrophic overtraining"):
        for name in dict.fromkeys(where["evaluation"] for where, _ in found):
            runs = [
                claims.over_conditions(
                    [v for v in mine if v.claim == claim], f"replicate {where['replicate']}"
                )
                for where, mine in found
                if where["evaluation"] == name
            ]
            scope = method + (f", {name}" if len(spec.evaluations) > 1 else "")
            made.append(claims.over_replicates(runs, scope))
    return made


def _rates(table: pd.DataFrame, spec: TuningFields, method: str) -> list[Verdict]:
    """What several learning rates say, per replicate and evaluation set, and over replicates where there are several."""
    if len(spec.rates) < 2:
        return []
    trends, laws = [], []
    rates = np.array(spec.rates)
    for where, rows in numbers.families(table, method):
        x, losses = numbers.grid(rows, numbers.badness(rows, spec), spec.rates)
        _, forgotten = numbers.grid(rows, rows["forgetting"].to_numpy(dtype=float), spec.rates)
        losses, forgetting = numbers.whole_seeds(losses, forgotten)
        scope = _scope(where, spec)
        trends.append(_best_rate(x, rates, losses, forgetting, scope))
        laws.append(_growth(rates, forgetting, scope))
    summed = (
        [claims.over_replicates(found, method) for found in (trends, laws)]
        if len(trends) > 1
        else []
    )
    return [
        *summed,
        *(
            verdict.model_copy(update={"scope": f"{method}, {verdict.scope}"})
            for verdict in [*trends, *laws]
        ),
    ]


def _settled_by(
    num_seeds: int, effect: float, interval: tuple[float, float]
) -> tuple[str, dict[str, int]]:
    """How many more seeds would take zero out of an interval around an effect of this size: a sentence, and evidence."""
    half = (interval[1] - interval[0]) / 2
    more = (
        int(np.ceil(num_seeds * (1.2 * half / abs(effect)) ** 2)) - num_seeds if effect else 10**6
    )
    if more > 1000:
        return " Too few seeds to settle it.", {}
    return f" Too few seeds: about {max(more, 1)} more would settle it.", {
        "more_draws": max(more, 1)
    }


def _best_rate(x: Array, rates: Array, losses: Array, forgetting: Array, scope: str) -> Verdict:
    claim = "best learning rate falls with pre-training"
    trend = learning_rate_fits.rate_trend(x, rates, losses, forgetting)
    answers: dict[str, Answer] = {"constant": "no", "rising": "no", "undetermined": "undetermined"}
    low, high = trend.p_interval
    law = f"lr* falls as tokens^-{trend.p:.2f} (95%: {low:.2f} to {high:.2f})"
    speed = f"forgetting grows as lr^{trend.b:.2f} tokens^{trend.q:.2f}, so b p - q is {trend.excess:.2f}"
    speed += f" ({trend.excess_interval[0]:.2f} to {trend.excess_interval[1]:.2f})"
    says = {
        "constant": f"no: constant; {law}, less than one step of the grid over these checkpoints.",
        "rising": f"no: it rises; {law}.",
        "quickly falling": f"yes: quickly falling; {law}; {speed}: the falling rate makes up for the growing sensitivity.",
        "slowly falling": f"yes: slowly falling; {law}; {speed}: forgetting at the best rate grows all the same.",
        "falling": f"yes: falling; {law}; {speed}: whether quickly or slowly is open.",
        "undetermined": f"undetermined: {trend.reason}."
        if np.isnan(trend.p)
        else f"undetermined: {law}: {trend.reason}.",
    }
    known = bool(np.isfinite(trend.p))
    more: tuple[str, dict[str, int]] = ("", {})
    if known and trend.speed == "undetermined":
        more = _settled_by(losses.shape[2], trend.p, trend.p_interval)
    elif trend.speed == "falling":
        more = _settled_by(losses.shape[2], trend.excess, trend.excess_interval)
    return Verdict(
        claim=claim,
        scope=scope,
        answer=answers.get(trend.speed, "yes"),
        sentence=says[trend.speed] + more[0],
        effect=trend.p if known else None,
        effect_name="p in lr* ~ tokens^-p",
        interval=trend.p_interval if known else None,
        test="parabola through the best rate and its neighbours; bootstrap over seeds, paired over checkpoints and rates; the "
        "validation set's own error is not included",
        num_draws=losses.shape[2] if losses.ndim == 3 else 0,
        draw_name="seeds",
        evidence={
            "speed": trend.speed,
            **({"b": trend.b, "q": trend.q, "excess": trend.excess, **more[1]} if known else {}),
        },
    )


def _growth(rates: Array, forgetting: Array, scope: str) -> Verdict:
    claim = "forgetting grows exponentially with the learning rate"
    law = learning_rate_fits.growth_law(rates, forgetting) if forgetting.size else None
    if law is None:
        why = "undetermined: it needs 2 seeds and 4 learning rates at which forgetting is clearly positive."
        return Verdict(claim=claim, scope=scope, answer="undetermined", sentence=why)
    low, high = law.interval
    answer: Answer = "yes" if low > 0 else "no" if high < 0 else "undetermined"
    power = f"forgetting ~ lr^{law.exponent:.2f}"
    says = {
        "yes": f"yes: log forgetting follows the rate itself more closely than its logarithm (as a power, {power}).",
        "no": f"no: a power law fits better, {power}.",
        "undetermined": f"undetermined: an exponential and a power law ({power}) fit equally well.",
    }
    more = (
        _settled_by(forgetting.shape[2], law.advantage, law.interval)
        if answer == "undetermined"
        else ("", {})
    )
    return Verdict(
        claim=claim,
        scope=scope,
        answer=answer,
        sentence=says[answer] + more[0],
        effect=law.advantage,
        effect_name="squares of log forgetting left by the power law minus those left by the exponential",
        interval=law.interval,
        test=f"least squares with two parameters per checkpoint over up to {law.num_rates} rates; bootstrap over seeds; which of "
        "the two fits better, not whether either is true; the base's own error is not included",
        num_draws=forgetting.shape[2],
        draw_name="seeds",
        evidence={"exponent": law.exponent, "num_rates": law.num_rates, **more[1]},
    )
