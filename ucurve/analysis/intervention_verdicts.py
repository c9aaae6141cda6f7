"""Verdicts on interventions in pre-training: do they keep the base, and do they bend the U?

    verdicts(table, ["none", "constant"], look=2)

The table is that of `ucurve.analysis.interventions`. Pre-training seeds are the replicates. Adding
seeds until an answer is yes is paid for by the significance level of each look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import combined_verdicts, statistics, text_error
from ucurve.analysis.conditions import alpha, threshold_text
from ucurve.analysis.interventions import (
    CONTROL,
    SCALES,
    Branches,
    Condition,
    change,
    change_of_rise,
    interval_of,
    measured_only,
    p_below,
    rises,
)
from ucurve.analysis.statistics import Array
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.01  # nats: the largest rise of the base that keeps it, and the smallest gain of interest
SEEDS = "pre-training seeds"
KEEPS = "keeps the base"
LOWERS = "lowers the loss increase"
BENDS = "bends the U"
BOTH = "keeps the base and bends the U"
TEST = (
    "paired t-tests over pre-training seeds, noise seeds averaged within each; p-values corrected "
    "over the interventions, noise scales and gammas of the claim (Holm)"
)


def verdicts(table: pd.DataFrame, branches: Sequence[str], look: int = 1) -> list[Verdict]:
    """Return the claims of every intervention: both together first, then each.

    look: number of this interim analysis, from 1; earlier ones had fewer pre-training seeds.
    """
    measured = Branches.of(table)
    names = [name for name in branches if name != CONTROL]
    if not measured.base or not names:
        return []
    keeps = _keeps(measured, names, look)
    bends = _by_condition(measured, names, BENDS, look)
    lowers = _by_condition(measured, names, LOWERS, look)
    bent = [_over(bends, name) for name in names] if bends else []
    lower = [_over(lowers, name) for name in names] if lowers else []
    both = [_both(*parts) for parts in zip(names, keeps, bent, strict=False)]
    return [*_any(both), *keeps, *_any(bent), *bends, *_any(lower), *lowers]


def _any(summaries: Sequence[Verdict]) -> list[Verdict]:
    """Return the summaries of all interventions, after that over them where there are several."""
    if len(summaries) < 2:
        return list(summaries)
    return [combined_verdicts.over_conditions(summaries, "any intervention"), *summaries]


def _title(name: str) -> str:
    text = name.replace("_", " ")
    return f"{text} (fewer tokens)" if name == "early_stop" else text


def _keeps(measured: Branches, names: Sequence[str], look: int) -> list[Verdict]:
    """Return for every intervention whether the base stays below the margin."""
    changes = [change(measured.base, name) for name in names]
    p_values = statistics.holm([p_below(values, MARGIN) for values in changes])
    single = []
    for name, values, p in zip(names, changes, p_values, strict=True):
        mean, low, high = interval_of(values)
        answer: Answer = "undetermined"
        if p < alpha(look):
            answer = "yes"
        elif low > MARGIN:
            answer = "no"
        sentence = (
            f"At the largest budget the unperturbed loss is {mean:+.4f} nats from that of the "
            f"control (95% CI: {low:+.4f} to {high:+.4f}); up to {MARGIN:+g} keeps it."
        )
        more = None
        if answer == "undetermined":
            sentence, more = _undecided(
                values, sentence, abs(mean - MARGIN), alpha(look + 1) / len(names)
            )
        single.append(
            Verdict(
                claim=KEEPS,
                scope=_title(name),
                answer=answer,
                sentence=sentence,
                p_value=p if len(values) > 1 and np.isfinite(values).all() else None,
                test=f"{TEST}; {threshold_text(look)}; yes: the change is below {MARGIN:g} nats",
                alpha=alpha(look),
                labels={"intervention": name},
                smallest_effect=MARGIN,
                more_draws=more,
                **_effect(values, "unperturbed loss minus that of the control, nats"),
            )
        )
    return single


def _by_condition(measured: Branches, names: Sequence[str], claim: str, look: int) -> list[Verdict]:
    """Return a verdict per intervention, noise scale and gamma on the change of a number."""
    cells = [(name, condition) for name in names for condition in sorted(measured.after)]
    values = []
    for name, condition in cells:
        if claim == BENDS:
            values.append(change_of_rise(measured.after[condition], name))
        else:
            values.append(change(measured.increase(condition), name))
    p_values = statistics.holm([p_below(differences, 0.0) for differences in values])
    has_u = _has_u(measured, look)
    single = []
    for (name, condition), differences, p in zip(cells, values, p_values, strict=True):
        obstacle = "" if claim == LOWERS or has_u[condition] else _no_u(measured, condition)
        single.append(_changed(claim, name, condition, differences, p, obstacle, len(cells), look))
    return single


def _changed(
    claim: str,
    name: str,
    condition: Condition,
    values: Array,
    p: float,
    obstacle: str,
    num_tests: int,
    look: int,
) -> Verdict:
    """Return whether a number is lower than the control's under one noise scale and gamma."""
    scale, gamma = condition
    mean, low, high = interval_of(values)
    number = "The rise after the minimum" if claim == BENDS else "The loss increase"
    sentence = (
        f"{number} is {mean:+.4f} nats from that of the control "
        f"(95% CI: {low:+.4f} to {high:+.4f})."
    )
    answer: Answer = "undetermined"
    more = None
    if obstacle:
        sentence = obstacle
    elif p < alpha(look):
        answer = "yes"
    elif low > -MARGIN:
        answer = "no"
    else:
        sentence, more = _undecided(values, sentence, -mean, alpha(look + 1) / num_tests)
    of = (
        "rise of the loss after noise, minimum to largest budget"
        if claim == BENDS
        else "loss increase at the largest budget"
    )
    return Verdict(
        claim=claim,
        scope=f"gamma {gamma:g} under {scale}, {_title(name)}",
        answer=answer,
        sentence=sentence,
        p_value=p if np.isfinite(mean) and len(values) > 1 and not obstacle else None,
        test=f"{TEST}; {threshold_text(look)}",
        alpha=alpha(look),
        labels={"intervention": name, "scale": scale, "gamma": gamma},
        smallest_effect=MARGIN,
        more_draws=more,
        **_effect(values, f"{of}, minus that of the control, nats"),
    )


def _has_u(measured: Branches, look: int) -> dict[Condition, bool]:
    """Return where the loss of the control after noise rises after its minimum."""
    conditions = list(measured.after)
    rising = [measured_only(rises(measured.after[condition], CONTROL)) for condition in conditions]
    p_values = statistics.holm([p_below(-values, 0.0) for values in rising])
    return {condition: p < alpha(look) for condition, p in zip(conditions, p_values, strict=True)}


def _no_u(measured: Branches, condition: Condition) -> str:
    """Return why there is no U to bend."""
    values = measured_only(rises(measured.after[condition], CONTROL))
    if len(values) < 2:
        return "The rise of the control needs two budgets and two pre-training seeds."
    mean, low, high = interval_of(values)
    return (
        f"There is no U to bend: the loss of the control rises by {mean:+.4f} nats after its "
        f"minimum (95% CI: {low:+.4f} to {high:+.4f}), which is not established."
    )


def _over(verdicts: Sequence[Verdict], name: str) -> Verdict:
    """Summarize the verdicts of an intervention over gammas, then over noise scales."""
    by_scale = {
        scale: [
            verdict
            for verdict in verdicts
            if verdict.labels["intervention"] == name and verdict.labels["scale"] == scale
        ]
        for scale in SCALES
    }
    over = {
        scale: combined_verdicts.over_conditions(group, f"{_title(name)}, {scale}")
        for scale, group in by_scale.items()
        if group
    }
    return combined_verdicts.over_conventions(over, _title(name))


def _both(name: str, base: Verdict, bent: Verdict) -> Verdict:
    """Return whether an intervention keeps the base and bends the U."""
    answers = {base.answer, bent.answer}
    answer: Answer = "undetermined"
    if answers == {"yes"}:
        answer = "yes"
    elif "no" in answers:
        answer = "no"
    summary = combined_verdicts.over_conditions(
        [base.model_copy(update={"claim": BOTH}), bent.model_copy(update={"claim": BOTH})],
        _title(name),
    )
    sentence = f"It {KEEPS}: {base.answer}. It {BENDS}: {bent.answer}. {base.sentence}"
    return summary.model_copy(
        update={"answer": answer, "sentence": sentence, "holds_for": [], "draw_name": SEEDS}
    )


def _effect(values: Array, name: str) -> dict[str, Any]:
    """Return the fields of a verdict that say how large the effect is.

    Losses under noise are stored without those of blocks of windows, so no interval has the error
    of the evaluation text.
    """
    mean, low, high = interval_of(values)
    return {
        "effect": None if np.isnan(mean) else mean,
        "effect_name": f"{name} ({text_error.ON_THIS_TEXT})",
        "interval": (low, high) if np.isfinite([low, high]).all() else None,
        "num_draws": len(values),
        "draw_name": SEEDS,
    }


def _undecided(values: Array, sentence: str, effect: float, level: float) -> tuple[str, int | None]:
    """Return why there is no answer yet, and how many further seeds would probably give one.

    level: significance level of one test at the next look.
    """
    if len(values) < 2:
        return f"Needs more seeds: {len(values)} measured, and two are the least.", None
    if broken := int((~np.isfinite(values)).sum()):
        return (
            f"Of {broken} of {len(values)} pre-training seeds a loss is not finite, and nothing is "
            "said of the others alone: measure a smaller gamma, or train more carefully.",
            None,
        )
    needed = statistics.draws_needed(effect, float(values.std(ddof=1)), level)
    more = max(1, needed - len(values)) if needed < 1000 else None
    return f"Needs more seeds. {sentence}", more
