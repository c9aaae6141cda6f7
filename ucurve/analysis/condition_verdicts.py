"""Verdicts on conditions: what the losses after a modification say about each claim.

    conditions = [Condition(f"gamma {gamma}", tokens, losses[gamma], base) for gamma in gammas]
    for verdict in all_verdicts(conditions):
        print(verdict.claim, verdict.scope, verdict.answer, verdict.sentence)

A family is the list of conditions (gammas, learning rates) of one suite, pre-training seed and
noise convention: p-values are corrected over it (Holm). "yes" when the corrected one-sided p-value
is below `Condition.alpha`: 0.03 at the first interim analysis, less at later ones; "no" when the
95% interval excludes the smallest effect of interest, or the opposite is significant; else
"undetermined", with the number of draws that could resolve an effect of the size observed.
Overtraining also needs an unperturbed loss that explains less than half of the rise: the 95%
interval of its change since the minimum stays below that; above it the answer is "no".
`ucurve.analysis.combined_verdicts` summarizes over conditions, pre-training seeds and noise
conventions. Tests over draws are calibrated in `benchmarks/calibration.py`, over blocks of text in
`benchmarks/block_calibration.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ucurve.analysis import broken_losses, contrasts, statistics, text_error, trends
from ucurve.analysis.conditions import (
    METHOD,
    METHOD_TEXT,
    Condition,
    VerdictBuilder,
    alpha,
    finite_values,
    is_sufficient,
)
from ucurve.analysis.statistics import Array
from ucurve.formatting import counted
from ucurve.schemas.results import Answer, Minimum, Verdict

BASE_ALPHA = (
    0.05  # no interim analyses: additional draws do not evaluate the unperturbed model again
)
BASE_CLAIM = "unperturbed loss rises"


def all_verdicts(conditions: Sequence[Condition], seed: int = 0) -> list[Verdict]:
    """Return the verdicts on every claim for every condition of one family, base first."""
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
    """Test whether the unperturbed loss rises after its minimum; blocks of windows act as draws."""
    usable = np.isfinite(condition.base).all(axis=1)
    base = condition.base[usable]
    exact = base.shape[1] == 1
    if obstacle := _base_obstacle(condition, base):
        return Verdict(claim=BASE_CLAIM, answer="undetermined", sentence=obstacle)
    if exact:
        minimum, rise = int(base[:-1, 0].argmin()), float(base[-1, 0] - base[:-1, 0].min())
        interval, p = (rise, rise), float(rise <= 0)
    else:
        test = contrasts.rise_after_minimum(base)
        minimum, rise, interval, p = test.minimum, test.rise, test.interval, test.p_value
    answer: Answer = "undetermined"
    if p < BASE_ALPHA:
        answer = "yes"
    elif interval[1] < condition.smallest_effect:
        answer = "no"
    x = Condition("", condition.x[usable], base, base, x_name=condition.x_name, unit=condition.unit)
    reasons = {
        "yes": f"The unperturbed loss rises after {x.at(minimum)}: {x.amount(rise)} at the last "
        "checkpoint.",
        "no": f"The unperturbed loss does not rise: {x.amount(rise)} from its lowest earlier "
        "checkpoint to the last.",
        "undetermined": f"The unperturbed loss changes by {x.amount(rise)} after {x.at(minimum)}, "
        "within the sampling error of the evaluation text.",
    }
    return Verdict(
        claim=BASE_CLAIM,
        answer=answer,
        sentence=reasons[answer],
        effect=rise,
        effect_name=f"rise of the unperturbed loss after its minimum, {x.unit}",
        interval=None if exact else interval,
        p_value=None if exact else p,
        test="exact losses: last checkpoint against the lowest earlier one"
        if exact
        else f"blocks of consecutive windows: {contrasts.TEST}{METHOD_TEXT}",
        method=METHOD,
        x=x.x.tolist(),
        evidence={"base": x.base_mean.tolist(), "num_blocks": base.shape[1]},
    )


def _base_obstacle(condition: Condition, base: Array) -> str:
    """Return why nothing can be said of the unperturbed loss; empty where something can."""
    if condition.broken:
        return (
            f"{condition.broken_text} Such a loss cannot be compared with the others. "
            f"{broken_losses.BASE_REMEDY}"
        )
    if len(base) < 2:
        return "Fewer than two checkpoints are measured."
    if base.shape[1] == 1 and condition.unit == "nats":
        return (
            "The evaluation text is a single window, so its sampling error is unknown: use more "
            "evaluation text."
        )
    return ""


def progressive_sensitivity(conditions: Sequence[Condition]) -> list[Verdict]:
    """Test whether the loss increase of a fixed modification grows with pre-training length.

    Returns one verdict per condition.
    """
    family = [condition.complete() for condition in conditions]
    sufficient = [is_sufficient(condition, 3) for condition in family]
    tested = [
        trends.trend(condition.loss_increase) if ok else trends.Trend(0.0, 1.0, 1.0)
        for condition, ok in zip(family, sufficient, strict=True)
    ]
    rising = statistics.holm([trend.p_rising for trend in tested])
    falling = statistics.holm([trend.p_falling for trend in tested])
    verdicts = []
    for planned, used, ok, trend, p_rising, p_falling in zip(
        conditions, family, sufficient, tested, rising, falling, strict=True
    ):
        builder = VerdictBuilder(planned, used, "progressive sensitivity")
        verdicts.append(
            _sensitivity(builder, trend, p_rising, p_falling, len(family))
            if ok
            else builder.too_few(3)
        )
    return verdicts


def _growth_interval(condition: Condition, increase: Array) -> tuple[float, float, float]:
    """Return how much larger the last loss increase is than the first, with its interval."""
    growth, low, _ = statistics.mean_interval(increase[-1] - increase[0])
    high = float(contrasts.upper_limits(contrasts.of(increase))[0])
    half = condition.text_half(0, of_increase=True)
    return growth, *text_error.widened((low, high), growth, half)


def _sensitivity(
    builder: VerdictBuilder,
    trend: trends.Trend,
    p_rising: float,
    p_falling: float,
    num_conditions: int,
) -> Verdict:
    """Return the verdict of one condition; p-values are corrected over num_conditions."""
    condition = builder.used
    increase = statistics.capped(condition.loss_increase)
    growth, low, high = _growth_interval(condition, increase)
    falls = p_falling < condition.alpha
    answer: Answer = "undetermined"
    if p_rising < condition.alpha and growth > 0:
        answer = "yes"
    elif (falls and growth < 0) or (
        high < condition.smallest_effect and not builder.broken_at_last
    ):
        answer = "no"
    means, num_steps = increase.mean(axis=1), len(increase) - 1
    replaced = [index for index in (0, -1) if builder.is_broken_at(index)]
    ends = [
        "a value that is not finite"
        if index in replaced
        else f"{means[index]:.3g} {condition.unit}"
        for index in (0, -1)
    ]
    num_rises = int((np.diff(means) > 0).sum())
    least = trends.least_draws(num_steps + 1, alpha(condition.look + 1) / num_conditions)
    std = float((increase[-1] - increase[0]).std(ddof=1))
    return builder(
        answer,
        f"The loss increase goes from {ends[0]} to {ends[1]} between "
        f"{condition.at(0)} and {condition.at(-1)}; it grows at {num_rises} of {num_steps} steps.",
        more_draws=builder.more_draws(growth, std, 1, num_conditions, least),
        effect=None if replaced else growth,
        effect_name="growth of the loss increase from the first to the last checkpoint, "
        f"{condition.unit}{condition.text_note}",
        interval=None if replaced else (low, high),
        p_value=p_falling if answer == "no" and falls else p_rising,
        test=f"largest p-value of Page's trend test ({condition.draw_name} as blocks), a t-test on "
        "their rank correlations and a t-test on their slopes (one-sided, Holm-corrected over "
        f"{counted(num_conditions, 'setting')}, {condition.threshold_text})",
        evidence={
            "damage": finite_values(condition.loss_increase.mean(axis=1)),
            "rank_correlation": trend.correlation,
        },
    )


def catastrophic_overtraining(conditions: Sequence[Condition]) -> list[Verdict]:
    """Test whether the loss after the modification rises by more than the base explains.

    Returns one verdict per condition.
    """
    family = [condition.complete() for condition in conditions]
    rises = [
        _on_new_text(
            condition, contrasts.rise_after_minimum(broken_losses.rankable(condition.losses))
        )
        if is_sufficient(condition, 2)
        else None
        for condition in family
    ]
    adjusted = statistics.holm([rise.p_value if rise else 1.0 for rise in rises])
    verdicts = []
    for planned, used, rise, p in zip(conditions, family, rises, adjusted, strict=True):
        builder = VerdictBuilder(planned, used, "catastrophic overtraining")
        verdicts.append(
            _overtraining(builder, rise, p, len(family)) if rise else builder.too_few(2)
        )
    return verdicts


def _on_new_text(condition: Condition, rise: contrasts.Rise) -> contrasts.Rise:
    """Return the rise with an interval that has the text's error too, where it is known."""
    half = condition.text_half(rise.minimum)
    return replace(rise, interval=text_error.widened(rise.interval, rise.rise, half))


def _overtraining(
    builder: VerdictBuilder, rise: contrasts.Rise, p: float, num_conditions: int
) -> Verdict:
    """Return the verdict of one condition; p is corrected over num_conditions."""
    condition = builder.used
    change = condition.base[-1] - condition.base[rise.minimum]
    base, base_low, base_high = (
        statistics.mean_interval(change) if len(change) > 1 else (float(change[0]),) * 3
    )
    answer, reason = _overtrained(
        condition, rise, p, (base, base_low, base_high), builder.broken_at_last
    )
    replaced = builder.broken_at_last or builder.is_broken_at(rise.minimum)
    more = None
    if p >= condition.alpha:
        more = builder.more_draws(rise.rise, rise.std, len(condition.x) - 1, num_conditions)
    return builder(
        answer,
        reason,
        more_draws=more,
        effect=None if replaced else rise.rise,
        effect_name=f"rise of the loss after its minimum, {condition.unit}{condition.text_note}",
        interval=None if replaced else rise.interval,
        p_value=p,
        test=f"{contrasts.TEST}, which accounts for selecting the minimum (one-sided, "
        "Holm-corrected over "
        f"{counted(num_conditions, 'setting')}, {condition.threshold_text})",
        evidence={
            "lowest_at": float(condition.x[rise.minimum]),
            "loss": finite_values(condition.losses.mean(axis=1)),
            "base": finite_values(condition.base_mean),
            "base_change_since_lowest": base,
            "base_interval": [base_low, base_high],
            "base_share": None if replaced or rise.rise <= 0 else base / rise.rise,
        },
    )


def _overtrained(
    condition: Condition,
    rise: contrasts.Rise,
    p: float,
    base: tuple[float, float, float],
    broken: bool,
) -> tuple[Answer, str]:
    """Return answer and reason: a rise is overtraining only if the base does not explain it."""
    place, smallest = condition.at(rise.minimum), condition.smallest_effect
    amount = "to values that are not finite" if broken else f"by {condition.amount(rise.rise)}"
    risen = f"The loss after the modification rises {amount} from its minimum at {place}"
    since = f"the unperturbed loss changes by {condition.amount(base[0])} over the same range"
    if p >= condition.alpha:
        if rise.interval[1] < smallest and not broken:
            return (
                "no",
                f"A rise of {smallest:g} {condition.unit} or more after the minimum is ruled out"
                f": it is at most {condition.amount(rise.interval[1])}.",
            )
        if rise.rise <= 0:
            return (
                "undetermined",
                f"The loss after the modification is lowest at the last checkpoint ({place}), but "
                f"a rise of {smallest:g} {condition.unit} or more is not ruled out.",
            )
        return "undetermined", f"{risen}, which is not significant."
    half = max(rise.rise, 0.0) / 2
    if condition.base.shape[1] == 1 and condition.unit == "nats":  # its error is unknown
        base = (base[0], -np.inf, np.inf)
    if not broken and base[0] > 0:
        since += f", which explains {_share(base, rise.rise)}"
    if not broken and (base[1] > half or base[1] == base[2] == half):
        return "no", f"{risen}, but {since}: the unperturbed loss rises, too."
    if base[2] > half:
        return (
            "undetermined",
            f"{risen}, but whether the unperturbed loss explains less than half of the rise is "
            f"undetermined ({since}): use more evaluation text.",
        )
    return "yes", f"{risen}; {since}."


def _share(base: tuple[float, float, float], rise: float) -> str:
    """Return for people how much of a rise a change of the base with its interval explains."""
    share, low, high = (f"{change / rise:.1%}" for change in base)
    if not np.isfinite(base).all() or base[1] == base[2]:
        return f"{share} of the rise"
    return f"{share} of the rise (95% CI: {low} to {high})"


def inflection_point(
    conditions: Sequence[Condition], overtraining: Sequence[Verdict], seed: int = 0
) -> list[Verdict]:
    """Locate the minimum of the loss after the modification; one verdict per condition.

    overtraining: `catastrophic_overtraining` of the same conditions. No U-curve, no inflection.
    """
    verdicts = []
    for planned, verdict in zip(conditions, overtraining, strict=True):
        builder = VerdictBuilder(planned, planned.complete(), "inflection point")
        verdicts.append(
            _inflection(builder, verdict, seed)
            if is_sufficient(builder.used, 2)
            else builder.too_few(2)
        )
    return verdicts


def _inflection(builder: VerdictBuilder, overtraining: Verdict, seed: int) -> Verdict:
    condition = builder.used
    minimum, low, high = statistics.minimum_interval(
        broken_losses.rankable(condition.losses), np.random.default_rng(seed)
    )
    last = len(condition.x) - 1
    answer = overtraining.answer
    if answer == "yes" and high == last:
        answer = "undetermined"
    place, interval = condition.at(minimum), condition.between(low, high)
    before = "; it may lie before the first checkpoint" if low == 0 else ""
    reasons = {
        "yes": f"The loss after the modification is lowest at {place} ({interval}){before}.",
        "no": f"No catastrophic overtraining; the loss is lowest at {place}.",
        "undetermined": f"The loss is lowest at {place} ({interval}), but whether it rises "
        "afterwards is undetermined.",
    }
    loss = float(condition.losses[minimum].mean())
    return builder(
        answer,
        reasons[answer],
        effect=float(condition.x[minimum]),
        effect_name=f"minimum of the loss after the modification, {condition.x_name}",
        interval=(float(condition.x[low]), float(condition.x[high])),
        test=f"bootstrap over {condition.draw_name}, paired over checkpoints; the interval is "
        "restricted to these checkpoints",
        minimum=Minimum(
            x=float(condition.x[minimum]),
            low=float(condition.x[low]),
            high=float(condition.x[high]),
            loss=loss if np.isfinite(loss) else None,
            at_first_checkpoint=low == 0,
            at_last_checkpoint=high == last,
        ),
        evidence={},
    )


def growth_of_sensitivity(conditions: Sequence[Condition], seed: int = 0) -> list[Verdict]:
    """Estimate the loss increase at the last checkpoint over the first, and its power law."""
    verdicts = []
    for planned in conditions:
        builder = VerdictBuilder(planned, planned.complete(), "growth of sensitivity")
        verdicts.append(
            _growth(builder, seed) if is_sufficient(builder.used, 2) else builder.too_few(2)
        )
    return verdicts


def _ratio_interval(condition: Condition, increase: Array, seed: int) -> tuple[float, float, float]:
    """Return the ratio of the last to the first loss increase with its interval."""
    ratio, low, high = statistics.ratio_interval(
        increase[0], increase[-1], np.random.default_rng(seed)
    )
    half = _log_ratio_half(condition)
    if half and np.isfinite([low, high]).all() and min(ratio, low, high) > 0:
        logs = np.log([low, high]).tolist()
        low, high = np.exp(text_error.widened((logs[0], logs[1]), np.log(ratio), half)).tolist()
    return ratio, low, high


def _log_ratio_half(condition: Condition) -> float:
    """Return half of the text's 95% interval of the log ratio of last to first loss increase.

    Linear in the blocks (delta method): ratios of single blocks would be biased.
    """
    if condition.same_blocks or condition.blocks is None or not condition.knows_text:
        return 0.0
    first, last = (condition.blocks[index] - condition.base[index] for index in (0, -1))
    return text_error.half_width(last / last.mean() - first / first.mean())


def _growth(builder: VerdictBuilder, seed: int) -> Verdict:
    condition = builder.used
    increase: Array = statistics.capped(condition.loss_increase)
    ratio, low, high = _ratio_interval(condition, increase, seed)
    law = statistics.power_law(condition.x, increase, np.random.default_rng(seed))
    answer: Answer = "yes" if low > 1 else "no" if high < 1 else "undetermined"
    bounded = bool(np.isfinite([low, high]).all())
    reason = (
        "The loss increase at the first checkpoint is not significantly above zero, so no ratio "
        "can be given."
    )
    if builder.broken_at_last:  # the largest finite loss stands for it: no ratio of that
        answer, bounded = "undetermined", False
        reason = (
            f"{broken_losses.said(condition, [-1])}, so no ratio can be given. "
            f"{broken_losses.remedy(condition.labels)}"
        )
    if not np.isfinite(condition.losses).all():
        law = None
    if bounded:
        reason = (
            f"The loss increase at the last checkpoint is {ratio:.3g} times that at the first "
            f"(95% CI: {low:.3g} to {high:.3g})"
        )
        if law:
            reason += (
                f"; as a power law of {condition.x_name} its exponent is {law.exponent:.2f} "
                f"({law.interval[0]:.2f} to {law.interval[1]:.2f})"
            )
        reason += "."
    error = "includes" if condition.same_blocks else "excludes"
    return builder(
        answer,
        reason,
        effect=ratio if bounded else None,
        effect_name="loss increase at the last checkpoint over that at the first"
        + condition.text_note,
        interval=(low, high) if bounded else None,
        test=f"bootstrap over {condition.draw_name}, paired over checkpoints; {error} the "
        f"sampling error of the unperturbed loss{condition.ratio_note}; not corrected for multiple "
        "conditions",
        evidence={"exponent": law.exponent, "exponent_interval": list(law.interval)} if law else {},
    )
