"""Verdicts of one claim summed up: over conditions, over pre-training runs, and over noise conventions.

over_conventions({"current_std": over_conditions(a, "under current_std"), "init_std": over_conditions(b, "...")})
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ucurve.analysis.conditions import Answer
from ucurve.spec import Verdict


def over_conditions(verdicts: Sequence[Verdict], scope: str) -> Verdict:
    """Is the claim true for some condition? The verdicts' p values are corrected over them already, so one is enough.

    yes when any says yes, no when all say no. Raises ValueError when there are none.
    """
    answers = [verdict.answer for verdict in verdicts]
    answer: Answer = (
        "yes" if "yes" in answers else "no" if set(answers) == {"no"} else "undetermined"
    )
    summed = _summed(verdicts, scope, answer, _listed(verdicts))
    holds = [
        re.split(" under |, ", verdict.scope)[0] for verdict in verdicts if verdict.answer == "yes"
    ]
    return summed.model_copy(update={"evidence": {**summed.evidence, "where": holds}})


def over_replicates(verdicts: Sequence[Verdict], scope: str) -> Verdict:
    """Does the claim hold in every pre-training run? yes or no when all say so, else undetermined.

    Draws describe one pre-training run; only replicates say whether the next run would behave the same.
    """
    answers = {verdict.answer for verdict in verdicts}
    answer = verdicts[0].answer if len(answers) == 1 else "undetermined"
    sentence = _listed(verdicts) + (
        " The pre-training runs differ." if {"yes", "no"} <= answers else ""
    )
    if len(verdicts) == 1:
        sentence = f"{answer}{_where(verdicts[0])} in the one pre-training run measured; {verdicts[0].draw_name} describe that run."
    summed = _summed(verdicts, scope, answer, sentence)
    found = [verdict.evidence.get("where", []) for verdict in verdicts]
    everywhere = [place for place in found[0] if all(place in places for places in found)]
    return summed.model_copy(
        update={"evidence": {**summed.evidence, "where": everywhere if answer == "yes" else []}}
    )


def over_conventions(verdicts: Mapping[str, Verdict], scope: str = "") -> Verdict:
    """The claim without naming a noise convention: yes only if it holds under current_std and under init_std.

    Under current_std the noise grows with the weights, so a yes there alone may be weight growth.
    """
    answers = {name: verdict.answer for name, verdict in verdicts.items()}
    told = ", ".join(
        f"{verdict.answer} under {name}{_where(verdict)}" for name, verdict in verdicts.items()
    )
    both = {answers.get("current_std"), answers.get("init_std")}
    answer: Answer = "undetermined"
    reason = f"{told}: the noise conventions do not agree."
    if len(both) == 1 and None not in both:
        answer = next(iter(verdicts.values())).answer
        reason = f"{told}."
    elif None in both:
        missing = " and ".join(name for name in ("current_std", "init_std") if name not in answers)
        reason = f"{told}; {missing} not measured, and an unqualified answer needs both."
    elif answers["current_std"] == "yes":
        reason = f"{told}: weight growth is not separated from fragility."
    return _summed(list(verdicts.values()), scope, answer, reason)


def _listed(verdicts: Sequence[Verdict]) -> str:
    """ "yes for gamma 0.2, gamma 0.3; no for gamma 0.05."""
    scopes = {
        answer: [
            verdict.scope + _where(verdict) for verdict in verdicts if verdict.answer == answer
        ]
        for answer in ("yes", "no", "undetermined")
    }
    return (
        "; ".join(f"{answer} for {', '.join(names)}" for answer, names in scopes.items() if names)
        + "."
    )


def _where(verdict: Verdict) -> str:
    """ " (gamma 0.2, 0.3)": the conditions under which a summed up yes holds."""
    places = verdict.evidence.get("where")
    if not places:
        return ""
    word = places[0].rpartition(" ")[0]
    same = all(place.startswith(f"{word} ") for place in places)
    return f" ({places[0]}{''.join(', ' + (p.removeprefix(f'{word} ') if same else p) for p in places[1:])})"


def _summed(verdicts: Sequence[Verdict], scope: str, answer: Answer, sentence: str) -> Verdict:
    if len({verdict.claim for verdict in verdicts}) != 1:
        raise ValueError("verdicts to sum up must be of one claim, and at least one")
    return Verdict(
        claim=verdicts[0].claim,
        scope=scope,
        answer=answer,
        sentence=sentence,
        test="; ".join(dict.fromkeys(verdict.test for verdict in verdicts if verdict.test)),
        num_draws=min(
            (verdict.num_draws for verdict in verdicts if verdict.num_draws is not None),
            default=None,
        ),
        draw_name=verdicts[0].draw_name,
        evidence={
            "parts": [
                {"scope": v.scope, "answer": v.answer, "p_value": v.p_value} for v in verdicts
            ]
        },
    )
