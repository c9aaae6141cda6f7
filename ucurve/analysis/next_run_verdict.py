"""What the verdicts on the next pre-training run have in common: their text, numbers and record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ucurve.analysis import prediction, statistics, text_error
from ucurve.analysis.conditions import METHOD, METHOD_TEXT, Condition
from ucurve.analysis.prediction import Prediction
from ucurve.analysis.runs import LEAST, Effects, Runs
from ucurve.formatting import counted
from ucurve.schemas.results import Answer, Verdict

UNIT = "pre-training seeds"
WORDS = {"seeds": "fine-tuning seeds"}


def labels_of(condition: Condition) -> dict[str, Any]:
    """Return the labels of a setting, which are those of a condition without its run."""
    return {name: value for name, value in condition.labels.items() if name != "replicate"}


def too_few(num: int) -> str:
    """Return why nothing can be said of the next run from one or two."""
    more = LEAST - num
    return (
        f"Cannot be said with {counted(num, UNIT.removesuffix('s'))}: how far runs lie apart takes "
        f"at least {LEAST}. At least {more} more {'is' if more == 1 else 'are'} needed."
    )


def obstacle(runs: Runs) -> str:
    """Return why nothing can be said of the next run in this setting; empty where it can."""
    num = len(runs.by_seed)
    return too_few(num) if num < LEAST else runs.obstacle


def with_unsaid(settings: Sequence[Runs], judged: Sequence[Verdict], claim: str) -> list[Verdict]:
    """Return the verdict of every setting in order; judged: those of settings without obstacle."""
    verdicts, rest = [], iter(judged)
    for runs in settings:
        if not runs.by_seed:
            continue
        reason = obstacle(runs)
        verdicts.append(unsaid(claim, scope_of(runs), len(runs.by_seed), reason))
        if not reason:
            verdicts[-1] = next(rest)
    return verdicts


def unsaid(claim: str, scope: str, num: int, reason: str) -> Verdict:
    """Return a verdict that gives only the reason why there is none."""
    return Verdict(
        claim=claim,
        scope=scope,
        answer="undetermined",
        sentence=reason,
        method=METHOD,
        num_draws=num,
        draw_name=UNIT,
    )


def corrected(p_values: Sequence[float], num: int) -> list[float]:
    """Return p-values corrected over all settings (Holm), those without a test included."""
    return statistics.holm([*p_values, *[1.0] * (num - len(p_values))])[: len(p_values)]


def single_interval(effects: Effects) -> tuple[float, float]:
    """Return the 95% prediction interval of the first contrast, with the text's error."""
    predicted = effects.prediction
    interval = (float(predicted.low[0]), float(predicted.high[0]))
    return text_error.widened(interval, float(predicted.mean[0]), float(effects.text[0]))


def over_runs(effects: Effects, index: int, logs: bool = False) -> str:
    """Return over how many runs a mean is, with its interval and the range of single runs."""
    predicted, single = effects.prediction, effects.of_runs[index]
    ends = np.array(
        [predicted.mean_low[index], predicted.mean_high[index], single.min(), single.max()]
    )
    low, high, least, most = (np.exp(ends) if logs else ends).tolist()
    return f"{len(single)} {UNIT} (95% CI: {span(low, high)}; single seeds: {span(least, most)})"


def span(low: float, high: float) -> str:
    """Return an interval for people: "0.0602 to 0.215"."""
    return f"{low:.3g} to {high:.3g}"


def more_runs(
    tested: Effects, upper: Prediction, condition: Condition, num_tests: int, index: int = 0
) -> int | None:
    """Return how many more runs could resolve it if these are typical: yes, or no by `upper`.

    None: unlikely with any number.
    """
    num = tested.of_runs.shape[1]
    predicted, of_one = tested.prediction, np.sqrt(1 + 1 / num)
    mean, std = float(predicted.mean[index]), float(predicted.error_new[index] / of_one)
    room = condition.smallest_effect - float(np.ravel(upper.mean)[0])
    upper_std = float(np.ravel(upper.error_new)[0] / of_one)
    needed = (
        prediction.runs_needed(mean, std, num, condition.alpha / num_tests),
        prediction.runs_needed(room, upper_std, num, 0.025),
    )
    return min((runs - num for runs in needed if runs is not None), default=None)


def unresolved(nothing: str, num_settings: int, more: int | None) -> str:
    """Return why a prediction interval decides nothing, and what could.

    nothing: what the interval includes; empty where only the correction over settings decides.
    """
    reason = (
        f" That includes {nothing}."
        if nothing
        else f" That is not significant after the correction over {num_settings} settings."
    )
    if more is None:
        return f"{reason} More {UNIT} are unlikely to resolve it: runs differ too much."
    return f"{reason} About {counted(more, 'more pre-training seed')} could resolve it."


def scope_of(runs: Runs) -> str:
    """Return the scope of a setting, which is that of a condition without its run."""
    condition = runs.first
    return condition.scope.replace(f", pre-training seed {condition.labels['replicate']}", "")


def notes(runs: Runs) -> str:
    """Return what an interval is, for the name of an effect, and whether it is on this text."""
    on_text = runs.first.unit == "nats" and not runs.knows_text
    return f" (95% prediction interval{', ' + text_error.ON_THIS_TEXT if on_text else ''})"


def evidence_of(runs: Runs, effects: Effects, index: int, more: int | None) -> dict[str, Any]:
    """Return the numbers behind an answer; effects and intervals of ratios are logarithms."""
    predicted = effects.prediction
    return {
        "pretraining_seeds": [int(seed) for seed in runs.by_seed],
        "effects": effects.of_runs[index].tolist(),
        "mean_interval": [float(predicted.mean_low[index]), float(predicted.mean_high[index])],
        "std_between_runs": float(predicted.std[index]),
        "draws_are_shared": runs.shared,
        "more_pretraining_seeds": more,
    }


def verdict(
    runs: Runs, claim: str, answer: Answer, reason: str, num_settings: int, **fields: Any
) -> Verdict:
    """Return the verdict on one setting; fields: of `Verdict`."""
    condition, test = runs.first, fields.pop("test")
    return Verdict(
        claim=claim,
        scope=scope_of(runs),
        answer=answer,
        sentence=f"{reason} {_common_error(runs)}",
        test=f"{test} ({UNIT} as the unit, with the error of a new one; one-sided, Holm-corrected "
        f"over {counted(num_settings, 'setting')}, {condition.threshold_text}){METHOD_TEXT}",
        method=METHOD,
        num_draws=len(runs.by_seed),
        draw_name=UNIT,
        labels=labels_of(condition),
        alpha=condition.alpha,
        x=condition.x.tolist(),
        smallest_effect=condition.smallest_effect,
        **fields,
    )


def _common_error(runs: Runs) -> str:
    """Return which error all runs have in common, a sentence."""
    condition = runs.first
    if condition.same_blocks:
        return "All runs are measured on one text, whose error is added."
    name = WORDS.get(condition.draw_name, condition.draw_name)
    if runs.shared:
        return f"All runs share their {name}, whose common error is added."
    return f"Every run has {name} of its own, so that their error is in the spread between runs."
