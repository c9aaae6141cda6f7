"""Verdicts: what the losses after a change say about each claim, with evidence; yes, no and undetermined are answers.

    conditions = [Condition(f"gamma {gamma}", tokens, losses[gamma], base) for gamma in gammas]  # one noise convention
    for verdict in all_verdicts(conditions):
        print(verdict.claim, verdict.scope, verdict.answer, verdict.sentence)

A family is the list of conditions (gammas, learning rates) of one suite, replicate and noise convention: p values are
corrected over it (Holm). Rules: "yes" where the corrected one-sided p is below `conditions.alpha`: 0.03 at the first look,
less at further ones; "no" where the 95% interval excludes an effect as large as `relevant`, or the opposite is shown; else
"undetermined", with the number of draws that would settle an effect of the size seen. Overtraining also needs a base that
is not shown to rise since the bottom, and whose 95% interval excludes that it explains half of the rise.
`ucurve.analysis.combined_verdicts` sums up over conditions, replicates and noise conventions. Every test is calibrated in
`benchmarks/calibration.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ucurve.analysis import statistics
from ucurve.analysis.combined_verdicts import over_conditions as over_conditions
from ucurve.analysis.combined_verdicts import over_conventions as over_conventions
from ucurve.analysis.combined_verdicts import over_replicates as over_replicates
from ucurve.analysis.conditions import Answer, Teller, alpha, enough, plain
from ucurve.analysis.conditions import Condition as Condition
from ucurve.analysis.conditions import paired as paired
from ucurve.spec import Verdict

BASE_ALPHA = 0.05  # more draws do not look at the base again


def all_verdicts(conditions: Sequence[Condition], seed: int = 0) -> list[Verdict]:
    """Every claim for every condition of one family (see the module), base first."""
    base = [base_degrades(conditions[0])] if conditions else []
    overtraining = catastrophic_overtraining(conditions)
    return [
        *base,
        *progressive_sensitivity(conditions),
        *overtraining,
        *inflection_point(conditions, overtraining, seed),
        *growth_of_sensitivity(conditions, seed),
    ]


def base_degrades(condition: Condition) -> Verdict:
    """Does the base's own loss rise after its minimum? Blocks of windows take the place of draws."""
    known = np.isfinite(condition.base).all(axis=1)
    base, claim = condition.base[known], "base degrades"
    if len(base) < 2:
        return Verdict(
            claim=claim,
            answer="undetermined",
            sentence="undetermined: fewer than two checkpoints are measured.",
        )
    x = Condition("", condition.x[known], base, base, x_name=condition.x_name, unit=condition.unit)
    exact = base.shape[1] == 1
    if exact and condition.unit == "nats":
        one = "undetermined: the evaluation text is a single window, so its error is unknown: evaluate more text."
        return Verdict(claim=claim, answer="undetermined", sentence=one)
    if exact:
        bottom, rise = int(base[:-1, 0].argmin()), float(base[-1, 0] - base[:-1, 0].min())
        interval, p = (rise, rise), float(rise <= 0)
    else:
        found = statistics.rise_after_minimum(base)
        bottom, rise, interval, p = found.bottom, found.rise, found.interval, found.p_value
    answer: Answer = (
        "yes" if p < BASE_ALPHA else "no" if interval[1] < condition.relevant else "undetermined"
    )
    says = {
        "yes": f"the base itself gets worse after {x.at(bottom)}: {x.amount(rise)} at the last checkpoint.",
        "no": f"the base does not get worse: {x.amount(rise)} from its lowest earlier checkpoint to the last.",
        "undetermined": f"undetermined: base {x.amount(rise)} after {x.at(bottom)}, within the error of the evaluation text.",
    }
    return Verdict(
        claim=claim,
        answer=answer,
        sentence=says[answer],
        effect=rise,
        effect_name=f"rise of the base loss after its minimum, {x.unit}",
        interval=None if exact else interval,
        p_value=None if exact else p,
        test="the loss before is known exactly: the last against the lowest earlier one"
        if exact
        else "Simes over paired t tests, last checkpoint against each earlier one; blocks of consecutive windows",
        evidence={"x": x.x.tolist(), "base": x.base_mean.tolist(), "num_blocks": base.shape[1]},
    )


def progressive_sensitivity(conditions: Sequence[Condition]) -> list[Verdict]:
    """Does the damage of the same change grow with pre-training length? One verdict per condition."""
    family = [condition.complete() for condition in conditions]
    usable = [enough(condition, 3) for condition in family]
    found = [
        statistics.trend(c.damage) if ok else statistics.Trend(0.0, 1.0, 1.0)
        for c, ok in zip(family, usable, strict=True)
    ]
    rising, falling = (
        statistics.holm([f.p_rising for f in found]),
        statistics.holm([f.p_falling for f in found]),
    )
    verdicts = []
    for asked, condition, ok, trend, p, p_falling in zip(
        conditions, family, usable, found, rising, falling, strict=True
    ):
        tell = Teller(asked, condition, "progressive sensitivity")
        if not ok:
            verdicts.append(tell.too_few(3))
            continue
        damage = statistics.capped(condition.damage)
        growth, low, high = statistics.mean_interval(damage[-1] - damage[0])
        answer: Answer = "undetermined"
        if p < condition.alpha and growth > 0:
            answer = "yes"
        elif (p_falling < condition.alpha and growth < 0) or (
            high < condition.relevant and not tell.broken_at_last
        ):
            answer = "no"
        means, steps = damage.mean(axis=1), len(damage) - 1
        course = (
            f"the damage goes from {means[0]:.3g} to {means[-1]:.3g} {condition.unit} between {condition.at(0)} and "
            f"{condition.at(-1)} and rises at {int((np.diff(means) > 0).sum())} of {steps} steps"
        )
        least = statistics.least_draws(steps + 1, alpha(condition.looks + 1) / len(family))
        more = tell.more_draws(
            growth, float((damage[-1] - damage[0]).std(ddof=1)), 1, len(family), least
        )
        verdicts.append(
            tell(
                answer,
                f"{course}.",
                more_draws=more,
                effect=growth,
                effect_name=f"growth of the damage from the first to the last checkpoint, {condition.unit}",
                interval=(low, high),
                p_value=p_falling if answer == "no" and p_falling < condition.alpha else p,
                test=f"Page's trend test with {condition.draw_name} as blocks and a t test on their rank correlations, the larger "
                f"p (one-sided, Holm over {len(family)}, {condition.held})",
                evidence={
                    "damage": plain(condition.damage.mean(axis=1)),
                    "rank_correlation": trend.correlation,
                },
            )
        )
    return verdicts


def catastrophic_overtraining(conditions: Sequence[Condition]) -> list[Verdict]:
    """Does the loss after the change rise after its minimum although the base does not? One verdict per condition."""
    family = [condition.complete() for condition in conditions]
    rises = [
        statistics.rise_after_minimum(statistics.capped(c.losses)) if enough(c, 2) else None
        for c in family
    ]
    adjusted = statistics.holm([rise.p_value if rise else 1.0 for rise in rises])
    verdicts = []
    for asked, condition, rise, p in zip(conditions, family, rises, adjusted, strict=True):
        tell = Teller(asked, condition, "catastrophic overtraining")
        if rise is None:
            verdicts.append(tell.too_few(2))
            continue
        change = condition.base[-1] - condition.base[rise.bottom]
        base, base_low, base_high = (
            statistics.mean_interval(change) if len(change) > 1 else (float(change[0]),) * 3
        )
        answer, reason = _overtrained(
            condition, rise, p, (base, base_low, base_high), tell.broken_at_last
        )
        more = (
            tell.more_draws(rise.rise, rise.std, len(condition.x) - 1, len(family))
            if p >= condition.alpha
            else None
        )
        verdicts.append(
            tell(
                answer,
                reason,
                more_draws=more,
                effect=rise.rise,
                effect_name=f"rise of the loss after its minimum, {condition.unit}",
                interval=rise.interval,
                p_value=p,
                test="Simes over paired t tests, last checkpoint against each earlier one: the choice of the minimum is "
                f"inside the test (one-sided, Holm over {len(family)}, {condition.held})",
                evidence={
                    "lowest_at": float(condition.x[rise.bottom]),
                    "loss": plain(condition.losses.mean(axis=1)),
                    "base": plain(condition.base_mean),
                    "base_change_since_lowest": base,
                    "base_interval": [base_low, base_high],
                },
            )
        )
    return verdicts


def _overtrained(
    condition: Condition,
    rise: statistics.Rise,
    p: float,
    base: tuple[float, float, float],
    broken: bool,
) -> tuple[Answer, str]:
    """The answer and its reason: a rise is only overtraining if the base is shown not to explain it."""
    place = condition.at(rise.bottom)
    risen = (
        f"the loss after the change is {condition.amount(rise.rise)} above its minimum at {place}"
    )
    since = f"the base changes by {condition.amount(base[0])} since then"
    if p >= condition.alpha:
        if rise.interval[1] < condition.relevant and not broken:
            least = f"a rise after the minimum of {condition.relevant:g} {condition.unit} or more is excluded"
            return "no", f"{least} (at most {condition.amount(rise.interval[1])})."
        if rise.rise <= 0:
            bound = f"a rise of {condition.relevant:g} {condition.unit} or more is not excluded"
            return (
                "undetermined",
                f"the loss after the change is lowest at the last checkpoint ({place}), but {bound}.",
            )
        return "undetermined", f"{risen}, which the {condition.draw_name} do not support."
    single_window = condition.base.shape[1] == 1 and condition.unit == "nats"
    if not single_window and base[0] >= condition.relevant and (base[1] > 0 or base[1] == base[2]):
        return "no", f"{risen}, but {since}: base degrades."
    if single_window or base[2] > max(rise.rise, 0.0) / 2:
        return (
            "undetermined",
            f"{risen}, but whether the base degrades is open ({since}): evaluate more text.",
        )
    return "yes", f"{risen}; {since}."


def inflection_point(
    conditions: Sequence[Condition], overtraining: Sequence[Verdict], seed: int = 0
) -> list[Verdict]:
    """Where is the bottom of the U? Takes `catastrophic_overtraining` of the same conditions: no U, no inflection."""
    verdicts = []
    for asked, verdict in zip(conditions, overtraining, strict=True):
        condition = asked.complete()
        tell = Teller(asked, condition, "inflection point")
        if not enough(condition, 2):
            verdicts.append(tell.too_few(2))
            continue
        bottom, low, high = statistics.bottom_interval(
            statistics.capped(condition.losses), np.random.default_rng(seed)
        )
        answer = (
            verdict.answer
            if verdict.answer != "yes" or high < len(condition.x) - 1
            else "undetermined"
        )
        says = {
            "yes": f"the loss after the change is lowest at {condition.at(bottom)} "
            f"({condition.between(low, high)})"
            + (", which may lie before the first checkpoint." if low == 0 else "."),
            "no": f"there is no catastrophic overtraining; the loss is lowest at {condition.at(bottom)}.",
            "undetermined": f"the loss is lowest at {condition.at(bottom)}, but that it rises afterwards is not settled "
            f"({condition.between(low, high)}).",
        }
        verdicts.append(
            tell(
                answer,
                says[answer],
                effect=float(condition.x[bottom]),
                effect_name=f"bottom of the loss after the change, {condition.x_name}",
                interval=(float(condition.x[low]), float(condition.x[high])),
                test=f"bootstrap over {condition.draw_name}, paired over checkpoints; the interval is of the bottom among these "
                "checkpoints",
                evidence={
                    "at_first_checkpoint": low == 0,
                    "at_last_checkpoint": high == len(condition.x) - 1,
                },
            )
        )
    return verdicts


def growth_of_sensitivity(conditions: Sequence[Condition], seed: int = 0) -> list[Verdict]:
    """The damage at the last checkpoint over that at the first, and the power of x by which it grows."""
    verdicts = []
    for asked in conditions:
        condition = asked.complete()
        tell = Teller(asked, condition, "growth of sensitivity")
        if not enough(condition, 2):
            verdicts.append(tell.too_few(2))
            continue
        damage = statistics.capped(condition.damage)
        ratio, low, high = statistics.ratio_interval(
            damage[0], damage[-1], np.random.default_rng(seed)
        )
        law = statistics.power_law(condition.x, damage, np.random.default_rng(seed))
        answer: Answer = "yes" if low > 1 else "no" if high < 1 else "undetermined"
        bounded = bool(np.isfinite([low, high]).all())
        law_words = (
            f"; as a power of {condition.x_name}: exponent {law.exponent:.2f}" if law else ""
        )
        law_words += f" ({law.interval[0]:.2f} to {law.interval[1]:.2f})." if law else "."
        verdicts.append(
            tell(
                answer,
                f"the damage at the last checkpoint is {ratio:.3g} times the first's (95%: {low:.3g} to {high:.3g}){law_words}"
                if bounded
                else "the damage at the first checkpoint cannot be told from zero, so no ratio can be given.",
                effect=ratio if bounded else None,
                effect_name="damage at the last checkpoint over damage at the first",
                interval=(low, high) if bounded else None,
                test=f"bootstrap over {condition.draw_name}, paired over checkpoints; the base's own error is not included; not "
                "corrected over conditions",
                evidence={"exponent": law.exponent, "exponent_interval": list(law.interval)}
                if law
                else {},
            )
        )
    return verdicts
