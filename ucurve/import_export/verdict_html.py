"""Verdicts as HTML: claim by claim, overall verdicts first, per-setting ones folded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from ucurve.analysis.verdict_order import ClaimGroup, by_claim, caveats_of, standing
from ucurve.formatting import scope_title
from ucurve.spec import Verdict


def claims_html(verdicts: Iterable[Verdict]) -> str:
    """Return the verdicts claim by claim, after their caveats; many per-setting ones are folded."""
    verdicts = list(verdicts)
    caveats = "".join(f"<p class='warning'>{escape(text)}</p>" for text in caveats_of(verdicts))
    return caveats + "".join(map(_claim_html, by_claim(verdicts)))


def _claim_html(claim: ClaimGroup) -> str:
    folded = ""
    if claim.details:
        details = _verdicts_html(claim.details)
        folded = f"<details><summary>{claim.details_title}</summary>{details}</details>"
    discoveries = f"<p class='test'>{escape(claim.discoveries)}</p>" if claim.discoveries else ""
    tests = escape("; ".join(claim.tests))
    test = f"<p class='test'>Test: {tests}</p>" if tests else ""
    return (
        f"<article class='claim'><h4>{escape(sentence_case(claim.name))}</h4>"
        f"{_verdicts_html(claim.summaries)}{folded}{discoveries}{test}</article>"
    )


def _verdicts_html(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts in order; neighbours that differ in scope only are shown once."""
    rows = []
    for (answer, word, sentence, basis), group in groupby(
        verdicts,
        key=lambda verdict: (verdict.answer, standing(verdict), verdict.sentence, verdict.basis),
    ):
        scopes = "; ".join(scope_title(verdict.scope) for verdict in group if verdict.scope)
        rows.append(
            f"<div class='verdict'><div>{badge(answer, word)}</div><div>"
            + (f"<p class='scope'>{escape(scopes)}</p>" if scopes else "")
            + f"<p>{escape(sentence)}</p>"
            + (f"<p class='basis'>{escape(basis)}</p>" if basis else "")
            + "</div></div>"
        )
    return "".join(rows)


def badge(answer: str, word: str) -> str:
    """Return a verdict's badge: coloured by its answer, with what an undetermined one lacks."""
    return f"<span class='badge {answer}'>{escape(word)}</span>"


def sentence_case(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
