"""Verdicts at the best learning rate of each checkpoint: the question of the paper.

    verdicts(prepared(table), design, "full")      # summaries first; none with a single rate

Does a model that was pre-trained longer forget more, or learn the new task worse, when every
checkpoint is fine-tuned at its own best rate? Rates are chosen on other seeds than they are judged
on (`ucurve.analysis.tuned_rates`). Where several rates may be the best, the answer must hold at
those that speak most against it, and the interval holds all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import condition_verdicts, contrasts, evaluation_sets, text_error
from ucurve.analysis import tuned_rate_sweeps as sweeps_of
from ucurve.analysis.conditions import Condition, VerdictBuilder
from ucurve.analysis.fine_tuning import Design
from ucurve.analysis.statistics import Array
from ucurve.analysis.tuned_rate_sweeps import Sweep
from ucurve.analysis.tuned_rates import MIN_SEEDS, extreme
from ucurve.formatting import counted
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

SENSITIVITY = "progressive sensitivity at the best learning rate"
OVERTRAINING = "catastrophic overtraining at the best learning rate"
LEARNED = "the new task is learned worse after more pre-training"
METHOD = (
    "learning rate chosen on half of the seeds and judged on the other half, both ways round, mean "
    "over all splits (a random selection above 10 seeds); error by leaving out one seed at a time"
)
Judge = Callable[[Sequence[Condition]], list[Verdict]]


def verdicts(table: pd.DataFrame, design: Design, method: str) -> list[Verdict]:
    """Return the verdicts of one method per claim, summaries over pre-training seeds first."""
    if len(design.rates) < 2:
        return []
    sweeps = sweeps_of.sweeps(table, design, method)
    first = sweeps[0].panel["evaluation"] if sweeps else ""
    named = [(str(sweep.panel["evaluation"]), sweep) for sweep in sweeps]
    groups = [
        [(name, sensitivity(sweep, design, method)) for name, sweep in named],
        [(name, overtraining(sweep, design, method)) for name, sweep in named],
        # The new task is the same for all sets.
        [(name, learned(sweep, design, method)) for name, sweep in named if name == first],
    ]
    summaries = [
        summary
        for group in groups
        for summary in evaluation_sets.over_replicates_and_sets(group, method, least=2)
    ]
    return [*summaries, *(verdict for group in groups for _, verdict in group)]


def _condition(sweep: Sweep, design: Design, method: str, values: Array) -> Condition:
    """Return the losses after fine-tuning [num_checkpoints, num_seeds] as a condition."""
    evaluation = f", {sweep.panel['evaluation']}" if design.num_evaluations > 1 else ""
    return Condition(
        f"{method}, pre-training seed {sweep.panel['replicate']}{evaluation}",
        sweep.x,
        values,
        sweep.base,
        draw_name="seeds",
        look=design.look,
        labels={**sweep.panel, "method": method},
    )


def sensitivity(sweep: Sweep, design: Design, method: str) -> Verdict:
    """Judge whether the loss increase at the best rate grows."""
    middle = (len(sweep.x) - 1) / 2
    flat = [i < middle for i in range(len(sweep.x))]
    judge = condition_verdicts.progressive_sensitivity
    return _judged(judge, SENSITIVITY, sweep, design, method, flat)


def overtraining(sweep: Sweep, design: Design, method: str) -> Verdict:
    """Judge whether the loss at the best rate rises after its minimum."""
    flat = [i < len(sweep.x) - 1 for i in range(len(sweep.x))]
    judge = condition_verdicts.catastrophic_overtraining
    return _judged(judge, OVERTRAINING, sweep, design, method, flat)


def _judged(
    judge: Judge, claim: str, sweep: Sweep, design: Design, method: str, flat: Sequence[bool]
) -> Verdict:
    """Return a verdict on retention at the best rate.

    flat: where the highest loss speaks against a rise; elsewhere it is the lowest.
    """
    condition = _condition(sweep, design, method, sweep.retention)
    if not sweep.is_judged:
        return _not_judged(claim, condition, sweep)
    of_draws = sweep.at_best_rate(sweep.retention)
    of_blocks = None if sweep.blocks is None else sweep.at_best_rate(sweep.blocks)
    [main] = judge([_with_broken(replace(condition, losses=of_draws, blocks=of_blocks), sweep)])
    ends = []
    for highest in (flat, [not is_high for is_high in flat]):
        rates = extreme(sweep.retention, sweep.candidates, highest)
        blocks = None if sweep.blocks is None else sweep.at_rates(sweep.blocks, rates)
        losses = sweep.at_rates(sweep.retention, rates)
        ends += judge([_with_broken(replace(condition, losses=losses, blocks=blocks), sweep)])
    return _combined(claim, sweep, design, main, *ends)


def _with_broken(condition: Condition, sweep: Sweep) -> Condition:
    """Return the condition with the checkpoints whose unperturbed loss is not finite, as gaps."""
    num = len(sweep.broken)
    if not num:
        return condition
    x = np.concatenate([condition.x, sweep.broken])
    order = np.argsort(x)

    def padded(values: Array) -> Array:
        gaps = np.full((num, *values.shape[1:]), np.nan)
        return np.asarray(np.concatenate([values, gaps])[order], dtype=np.float64)

    is_broken = np.isin(x[order], sweep.broken)
    return replace(
        condition,
        x=x[order],
        losses=padded(condition.losses),
        base=padded(condition.base),
        blocks=None if condition.blocks is None else padded(condition.blocks),
        measured=np.repeat(~is_broken[:, None], condition.losses.shape[1], axis=1),
        broken_base=is_broken,
    )


def _combined(
    claim: str, sweep: Sweep, design: Design, main: Verdict, against: Verdict, towards: Verdict
) -> Verdict:
    """Return the verdict that holds at every rate that may be the best.

    against, towards: at the rates of the confidence sets that speak most against a rise, or for
    one.
    """
    answer: Answer = main.answer
    sentence = main.sentence
    confirmed = {"yes": against.answer == "yes", "no": towards.answer == "no"}.get(answer, True)
    if not confirmed:
        answer = "undetermined"
        sentence += (
            " At other learning rates that may be the best the answer is "
            f"{(against if main.answer == 'yes' else towards).answer}: more seeds could tell the "
            "rates apart."
        )
    tests = [main, towards if main.answer == "no" else against]
    p_values = [
        1.0 if v.answer == "no" and main.answer != "no" else v.p_value
        for v in tests
        if v.p_value is not None
    ]
    intervals = [v.interval for v in (main, against, towards) if v.interval]
    return main.model_copy(
        update={
            "claim": claim,
            "answer": answer,
            "sentence": f"{sentence} {_rates_text(sweep, design)}",
            "p_value": max(p_values, default=None),
            "interval": (
                (min(low for low, _ in intervals), max(high for _, high in intervals))
                if main.interval
                else None
            ),
            "test": f"{METHOD}; yes and no also at the rates of the 95% confidence sets that speak "
            f"most against it; {main.test}",
            "more_draws": main.more_draws if confirmed else None,
            "num_unused": sweep.num_unused,
            "evidence": {**main.evidence, **_evidence(sweep, design)},
        }
    )


def learned(sweep: Sweep, design: Design, method: str) -> Verdict:
    """Judge whether the loss (or error rate) on the new task rises after its minimum."""
    unit = "nats" if design.metric == "id_loss" else "of the error rate"
    name = "loss" if design.metric == "id_loss" else "error rate"
    condition = replace(_condition(sweep, design, method, sweep.task), unit=unit)
    condition = replace(condition, scope=condition.scope.split(f", {sweep.panel['evaluation']}")[0])
    if not sweep.is_judged:
        return _not_judged(LEARNED, condition, sweep)
    losses, half, note = sweep.at_best_rate(sweep.task), 0.0, " (on this validation data)"
    rise = contrasts.rise_after_minimum(losses)
    if sweep.task_blocks is not None:
        blocks, note = sweep.at_best_rate(sweep.task_blocks), ""
        half = text_error.half_width(blocks[-1] - blocks[rise.minimum])
    interval = text_error.widened(rise.interval, rise.rise, half)
    condition = replace(condition, losses=losses)
    builder = VerdictBuilder(condition, condition, LEARNED)
    place = condition.at(rise.minimum)
    amount = f"{rise.rise:+.3g} {unit} from {place} to the last checkpoint"
    answer: Answer = "undetermined"
    reason = f"The {name} on the new task at the best learning rate changes by {amount}"
    reason += ", which is not significant, and a relevant rise is not ruled out."
    if rise.p_value < condition.alpha:
        answer = "yes"
        reason = f"The {name} on the new task at the best learning rate rises: {amount}."
    elif interval[1] < condition.smallest_effect:
        answer = "no"
        reason = (
            f"The {name} on the new task at the best learning rate does not rise by "
            f"{condition.smallest_effect:g} {unit} or more after its minimum: {amount}."
        )
    verdict = builder(
        answer,
        reason,
        more_draws=builder.more_draws(rise.rise, rise.std, len(condition.x) - 1, 1),
        effect=rise.rise,
        effect_name=f"rise of the {name} on the new task after its minimum, {unit}{note}",
        interval=interval,
        p_value=rise.p_value,
        test=f"{METHOD}; {contrasts.TEST} (one-sided, {condition.threshold_text})",
        evidence={"lowest_at": float(condition.x[rise.minimum]), **_evidence(sweep, design)},
    )
    sentence = f"{verdict.sentence} {_rates_text(sweep, design)}"
    return verdict.model_copy(update={"sentence": sentence, "num_unused": sweep.num_unused})


def _not_judged(claim: str, condition: Condition, sweep: Sweep) -> Verdict:
    """Return the verdict of a sweep without enough seeds, checkpoints or finite rates."""
    missing = MIN_SEEDS - sweep.num_seeds
    if len(sweep.x) < 2:
        reason = "Fewer than two checkpoints are measured."
    elif missing > 0:
        reason = (
            f"At least {MIN_SEEDS} seeds are needed to choose a learning rate on some and judge it "
            f"on others, and 5 or more to tell neighbouring rates apart; "
            f"{counted(sweep.num_seeds, 'seed')} measured at every rate."
        )
    else:
        places = ", ".join(condition.at(index) for index in sweep.without_a_rate)
        reason = f"At {places} every learning rate has a seed that diverged: measure smaller rates."
    return Verdict(
        claim=claim,
        scope=condition.scope,
        answer="undetermined",
        sentence=reason,
        num_draws=sweep.num_seeds,
        draw_name="seeds",
        more_draws=missing if missing > 0 and sweep.num_seeds else None,
        labels=dict(condition.labels),
    )


def _rates_text(sweep: Sweep, design: Design) -> str:
    """Return sentences about the best rates: how they change, how certain, whether at the edge."""
    choices = [best for best in sweep.best if best]
    rates = [design.rates[best.index] for best in choices]
    text = f"The best learning rate is {rates[0]:g} at every checkpoint"
    if len(set(rates)) > 1:
        changes = [(i, rate) for i, rate in enumerate(rates) if i == 0 or rate != rates[i - 1]]
        at = _condition(sweep, design, "", sweep.task).at
        text = "The best learning rate is " + ", then ".join(
            f"{rate:g}" + (f" from {at(i)} on" if i else "") for i, rate in changes
        )
    most = max(len(best.candidates) for best in choices)
    text += "." if most == 1 else f"; up to {most} rates of a checkpoint may be the best (95% set)."
    if sweep.num_unused:
        text += (
            f" Preliminary: {counted(sweep.num_unused, 'fine-tuning')} not used yet (not measured, "
            "or of a seed without all rates)."
        )
    if num := sum(best.at_edge for best in choices):
        text += (
            f" At {num} of {len(choices)} checkpoints it is at the edge of the grid, so the best "
            "of all rates may lie beyond: widen the grid."
        )
    return text


def _evidence(sweep: Sweep, design: Design) -> dict[str, Any]:
    """Return rates, confidence sets, and both losses at the best rate."""
    return {
        "best_rates": [design.rates[best.index] for best in sweep.best if best],
        "rates_that_may_be_best": [[design.rates[i] for i in rates] for rates in sweep.candidates],
        "at_edge": [best.at_edge for best in sweep.best if best],
        "forgetting_at_best_rate": (
            sweep.at_best_rate(sweep.retention).mean(axis=1) - sweep.base.mean(axis=1)
        ).tolist(),
        "new_task_at_best_rate": sweep.at_best_rate(sweep.task).mean(axis=1).tolist(),
    }
