"""Verdicts as HTML: claim by claim, the overall answers first, those of single conditions folded away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from ucurve.spec import Verdict


def claims_html(verdicts: Iterable[Verdict]) -> str:
    """Claim by claim; answers about single conditions are folded away where there is an overall one."""
    claims: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        claims.setdefault(verdict.claim, []).append(verdict)
    return "".join(_claim(claim, found) for claim, found in claims.items())


def _claim(claim: str, found: list[Verdict]) -> str:
    overall = [verdict for verdict in found if "parts" in verdict.evidence]
    single = [verdict for verdict in found if "parts" not in verdict.evidence]
    if not overall or len(single) <= 2:
        overall, single = (found, []) if len(found) <= 4 else (overall, single)
    tests = list(dict.fromkeys(verdict.test for verdict in found if verdict.test))
    folded = ""
    if single:
        counts = ", ".join(f"{n} {a}" for a in ("yes", "no", "undetermined") if (n := sum(v.answer == a for v in single)))
        folded = f"<details><summary>{len(single)} conditions one by one: {counts}</summary>{_listed(single)}</details>"
    test = f"<p class='test'>Test: {escape('; '.join(tests))}</p>" if tests else ""
    return f"<article class='claim'><h4>{escape(sentence_case(claim))}</h4>{_listed(overall)}{folded}{test}</article>"


def _listed(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for (answer, sentence, basis), group in groupby(verdicts, key=lambda v: (v.answer, v.sentence, v.basis)):
        scopes = "; ".join(verdict.scope for verdict in group if verdict.scope)
        words = sentence_case(sentence.removeprefix(f"{answer}: "))
        rows.append(
            f"<div class='verdict'><div>{badge(answer)}</div><div>"
            + (f"<p class='scope'>{escape(scopes)}</p>" if scopes else "")
            + f"<p>{escape(words)}</p>"
            + (f"<p class='basis'>{escape(basis)}</p>" if basis else "")
            + "</div></div>"
        )
    return "".join(rows)


def badge(answer: str) -> str:
    return f"<span class='badge {answer}'>{answer}</span>"


def sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]
