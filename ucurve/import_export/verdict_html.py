"""Verdicts as HTML: claim by claim, the overall answers first, those of single conditions folded away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from ucurve.analysis.verdict_order import ClaimGroup, by_claim
from ucurve.spec import Verdict


def claims_html(verdicts: Iterable[Verdict]) -> str:
    """Claim by claim; answers about single conditions are folded away where there are many."""
    return "".join(map(_claim, by_claim(verdicts)))


def _claim(claim: ClaimGroup) -> str:
    folded = (
        f"<details><summary>{claim.details_title}</summary>{_listed(claim.details)}</details>"
        if claim.details
        else ""
    )
    test = f"<p class='test'>Test: {escape('; '.join(claim.tests))}</p>" if claim.tests else ""
    return f"<article class='claim'><h4>{escape(sentence_case(claim.name))}</h4>{_listed(claim.summaries)}{folded}{test}</article>"


def _listed(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for (answer, sentence, basis), group in groupby(
        verdicts, key=lambda v: (v.answer, v.sentence, v.basis)
    ):
        scopes = "; ".join(verdict.scope for verdict in group if verdict.scope)
        rows.append(
            f"<div class='verdict'><div>{badge(answer)}</div><div>"
            + (f"<p class='scope'>{escape(scopes)}</p>" if scopes else "")
            + f"<p>{escape(sentence)}</p>"
            + (f"<p class='basis'>{escape(basis)}</p>" if basis else "")
            + "</div></div>"
        )
    return "".join(rows)


def badge(answer: str) -> str:
    return f"<span class='badge {answer}'>{answer}</span>"


def sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]
