"""Verdicts of one claim summed up: over conditions, over pre-training runs, and over noise conventions.

over_conventions({"current_std": over_conditions(a, "under current_std"), "init_std": over_conditions(b, "...")})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ucurve.conditions import Answer
from ucurve.spec import Verdict


def over_conditions(verdicts: Sequence[Verdict], scope: str) -> Verdict:
    """Is the claim true for some condition? The verdicts' p values are corrected over them already, so one is enough.

    yes when any says yes, no when all say no. Raises ValueError when there are none.
    """
    answers = [verdict.answer for verdict in verdicts]
    answer: Answer = "yes" if "yes" in answers else "no" if set(answers) == {"no"} else "undetermined"
    return _summed(verdicts, scope, answer, _listed(verdicts))


def over_replicates(verdicts: Sequence[Verdict], scope: str) -> Verdict:
    """Does the claim hold in every pre-training run? yes or no when all say so, else undetermined.

    Draws describe one pre-training run; only replicates say whether the next run would behave the same.
    """
    answers = {verdict.answer for verdict in verdicts}
    answer = verdicts[0].answer if len(answers) == 1 else "undetermined"
    if len(verdicts) == 1:
        return _summed(verdicts, scope, answer, f"{answer} in the one pre-training run measured; draws describe that run.")
    differ = " The pre-training runs differ." if {"yes", "no"} <= answers else ""
    return _summed(verdicts, scope, answer, _listed(verdicts) + differ)


def over_conventions(verdicts: Mapping[str, Verdict], scope: str = "") -> Verdict:
    """The claim without naming a noise convention: yes only if it holds under current_std and under init_std.

    Under current_std the noise grows with the weights, so a yes there alone may be weight growth.
    """
    answers = {name: verdict.answer for name, verdict in verdicts.items()}
    told = ", ".join(f"{answer} under {name}" for name, answer in answers.items())
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
        answer: [verdict.scope for verdict in verdicts if verdict.answer == answer] for answer in ("yes", "no", "undetermined")
    }
    return "; ".join(f"{answer} for {', '.join(names)}" for answer, names in scopes.items() if names) + "."


def _summed(verdicts: Sequence[Verdict], scope: str, answer: Answer, sentence: str) -> Verdict:
    if len({verdict.claim for verdict in verdicts}) != 1:
        raise ValueError("verdicts to sum up must be of one claim, and at least one")
    return Verdict(
        claim=verdicts[0].claim,
        scope=scope,
        answer=answer,
        sentence=sentence,
        test="; ".join(dict.fromkeys(verdict.test for verdict in verdicts if verdict.test)),
        num_draws=min((verdict.num_draws for verdict in verdicts if verdict.num_draws is not None), default=None),
        evidence={"parts": [{"scope": v.scope, "answer": v.answer, "p_value": v.p_value} for v in verdicts]},
    )
