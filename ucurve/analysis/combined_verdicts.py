"""Verdicts on one claim, summarized over conditions, pre-training seeds and noise conventions.

under_current = over_conditions(verdicts, "under current_std")
over_conventions({"current_std": under_current, "init_std": under_init})
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ucurve.analysis import effect_sizes
from ucurve.analysis.effect_sizes import is_negligible
from ucurve.schemas.results import Answer, Verdict, VerdictRef

CONVENTIONS = {  # a claim needs both
    "current_std": "with noise relative to current weights",
    "init_std": "with noise relative to initialisation",
}
BESIDE = {"matched_displacement": "with noise at matched displacement"}


def over_conditions(verdicts: Sequence[Verdict], scope: str) -> Verdict:
    """Return whether the claim holds for any condition.

    p-values are already corrected over conditions, so one is enough: yes when any is yes, no when
    all are no. Raises ValueError when there are no verdicts.
    """
    answers = [verdict.answer for verdict in verdicts]
    answer: Answer = (
        "yes" if "yes" in answers else "no" if set(answers) == {"no"} else "undetermined"
    )
    holds_for = [
        re.split(" under |, ", verdict.scope)[0] for verdict in verdicts if verdict.answer == "yes"
    ]
    return summary(verdicts, scope, answer, _by_answer(verdicts), holds_for, any_is_enough=True)


def over_replicates(verdicts: Sequence[Verdict], scope: str) -> Verdict:
    """Return whether the claim holds for every pre-training seed: yes or no when all agree.

    Draws describe one pre-training run; whether another run would behave the same is for
    `ucurve.analysis.next_run`. Raises ValueError when there are no verdicts.
    """
    answers = {verdict.answer for verdict in verdicts}
    answer = verdicts[0].answer if len(answers) == 1 else "undetermined"
    sentence = _by_answer(verdicts)
    if {"yes", "no"} <= answers:
        sentence += " The pre-training seeds disagree."
    if len(verdicts) == 1:
        sentence = (
            f"{answer.capitalize()}{where(verdicts[0])} for the only pre-training seed measured; "
            f"{verdicts[0].draw_name} describe that run only."
        )
        if verdicts[0].claim in effect_sizes.CLAIMS:
            sentence += " What the next run does takes at least 2 more."
    places = [verdict.holds_for for verdict in verdicts]
    everywhere = [place for place in places[0] if all(place in others for others in places)]
    return summary(verdicts, scope, answer, sentence, everywhere if answer == "yes" else [])


def over_conventions(verdicts: Mapping[str, Verdict], scope: str = "") -> Verdict:
    """Return whether the claim holds regardless of the noise convention, current_std or init_std.

    Noise under current_std grows with the weights, so a yes under it alone may be weight growth.
    So does noise at matched displacement, with their length: it is said beside the answer, and
    changes none.
    """
    beside = {name: verdict for name, verdict in verdicts.items() if name in BESIDE}
    verdicts = {name: verdict for name, verdict in verdicts.items() if name not in BESIDE}
    if not verdicts:
        return _beside_alone(beside, scope)
    answers = {name: verdict.answer for name, verdict in verdicts.items()}
    listed = _sentence_start(
        f"{verdict.answer} {CONVENTIONS.get(name, f'under {name}')}{where(verdict)}"
        for name, verdict in verdicts.items()
    )
    missing = [words for name, words in CONVENTIONS.items() if name not in answers]
    answer: Answer = "undetermined"
    if missing:
        sentence = f"{listed}; not measured {' or '.join(missing)}, and this claim needs both."
    elif len(set(answers.values())) == 1:
        answer = next(iter(answers.values()))
        sentence = f"{listed}."
    elif answers["current_std"] == "yes":
        sentence = f"{listed}: growth of the weights may explain the effect."
    else:
        sentence = f"{listed}: the noise conventions disagree."
    for name, verdict in beside.items():
        sentence += f" Beside them, {verdict.answer} {BESIDE[name]}{where(verdict)}."
    found = summary(list(verdicts.values()), scope, answer, sentence)
    return found.model_copy(
        update={"summarizes": [*found.summarizes, *map(_reference, beside.values())]}
    )


def _beside_alone(verdicts: Mapping[str, Verdict], scope: str) -> Verdict:
    """Return what conventions say of a claim that are no part of its answer."""
    listed = _sentence_start(
        f"{verdict.answer} {BESIDE[name]}{where(verdict)}" for name, verdict in verdicts.items()
    )
    sentence = f"{listed}; this claim needs noise of the two other conventions, not measured."
    return summary(list(verdicts.values()), scope, "undetermined", sentence)


def _sentence_start(parts: Iterable[str]) -> str:
    """Return the parts with commas and a capital letter."""
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def _by_answer(verdicts: Sequence[Verdict]) -> str:
    """Return the scopes by answer: "Yes for gamma 0.2, gamma 0.3; no for gamma 0.05."."""
    scopes = {
        answer: [
            verdict.scope + where(verdict) + (" (negligible)" if is_negligible(verdict) else "")
            for verdict in verdicts
            if verdict.answer == answer
        ]
        for answer in ("yes", "no", "undetermined")
    }
    text = "; ".join(
        f"{answer} for {', '.join(names)}" for answer, names in scopes.items() if names
    )
    return f"{text[:1].upper()}{text[1:]}."


def where(verdict: Verdict) -> str:
    """Return the conditions for which a summarized claim holds: " (gamma 0.2, 0.3)"."""
    places = verdict.holds_for
    if not places:
        return ""
    prefix = places[0].rpartition(" ")[0] + " "
    if all(place.startswith(prefix) for place in places):
        places = [places[0], *(place.removeprefix(prefix) for place in places[1:])]
    return f" ({', '.join(places)})"


def summary(
    verdicts: Sequence[Verdict],
    scope: str,
    answer: Answer,
    sentence: str,
    holds_for: Sequence[str] = (),
    any_is_enough: bool = False,
) -> Verdict:
    """Return a verdict that summarizes others on the same claim.

    A yes has the p-value of the combined claim in its evidence: the largest one where all must be a
    yes (intersection-union test), the smallest where any is enough, as those are corrected already.
    """
    if len({verdict.claim for verdict in verdicts}) != 1:
        raise ValueError("verdicts to summarize must be about one claim, and at least one")
    nums = [verdict.num_draws for verdict in verdicts if verdict.num_draws is not None]
    return Verdict(
        claim=verdicts[0].claim,
        scope=scope,
        answer=answer,
        sentence=sentence,
        test="; ".join(dict.fromkeys(verdict.test for verdict in verdicts if verdict.test)),
        method=max(verdict.method for verdict in verdicts),
        num_draws=min(nums, default=None),
        draw_name=verdicts[0].draw_name,
        summarizes=[_reference(verdict) for verdict in verdicts],
        holds_for=list(holds_for),
        evidence=_tested(verdicts, any_is_enough) if answer == "yes" else {},
    )


def _reference(verdict: Verdict) -> VerdictRef:
    """Return what a summary keeps of a verdict."""
    return VerdictRef(scope=verdict.scope, answer=verdict.answer, p_value=verdict.p_value)


def _tested(verdicts: Sequence[Verdict], any_is_enough: bool) -> dict[str, float]:
    """Return p-value and level of a combined yes; empty where a yes has no p-value."""
    affirmed = [verdict for verdict in verdicts if verdict.answer == "yes"]
    p_values = [verdict.evidence.get("p_value", verdict.p_value) for verdict in affirmed]
    levels = [verdict.evidence.get("alpha", verdict.alpha) for verdict in affirmed]
    known = [p for p in p_values if p is not None]
    alphas = [level for level in levels if level is not None]
    if not known or len(known) < len(affirmed) or len(alphas) < len(affirmed):
        return {}
    return {"p_value": min(known) if any_is_enough else max(known), "alpha": min(alphas)}
