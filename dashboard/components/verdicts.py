"""Verdicts, claim by claim: the answer, its sentence, and the statistics behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import streamlit as st

from dashboard.components import add_draws
from dashboard.components.theme import (
    ANSWERS,
    answer_badge,
    badge,
    caption,
    counted,
    message,
    plain,
    small,
)
from dashboard.live.poller import ExperimentSnapshot
from ucurve.analysis.headline import headline
from ucurve.analysis.verdict_order import ClaimGroup, by_claim, caveats_of, standing
from ucurve.formatting import scope_title
from ucurve.spec import Verdict

DEFINITIONS = {  # of the paper's terms, shown on hover
    "progressive sensitivity": "The same perturbation increases the loss more, "
    "the longer the model was pre-trained.",
    "catastrophic overtraining": "After the perturbation, a model that was pre-trained longer "
    "has the higher loss.",
    "progressive sensitivity at the best learning rate": "Fine-tuned at its own best learning "
    "rate, a model forgets more, the longer it was pre-trained.",
    "catastrophic overtraining at the best learning rate": "Fine-tuned at its own best learning "
    "rate, a model that was pre-trained longer has the higher loss on pre-training text.",
    "progressive sensitivity of the next run": "The same of a pre-training run that was not made, "
    "as far as the pre-training seeds measured tell.",
    "catastrophic overtraining of the next run": "The same of a pre-training run that was not "
    "made, as far as the pre-training seeds measured tell.",
    "inflection point": "The amount of pre-training with the minimum loss after the "
    "perturbation: beyond it, more pre-training hurts.",
}


def answer(snapshot: ExperimentSnapshot) -> None:
    """Draw the answer to the experiment's question, above all figures."""
    leading = headline(snapshot.verdicts) if snapshot.experiment.progress.done else None
    with st.container(key=f"answer-{snapshot.id}", gap="xxsmall"):
        if snapshot.verdict_problem:
            st.error(
                f"The verdicts cannot be computed: {message(snapshot.verdict_problem)}",
                icon=":material/error:",
            )
        if not leading:
            if snapshot.verdicts_pending or not snapshot.ended:
                caption("The answer appears here with the first results.")
            return
        scope = leading.verdict.scope
        about = f":gray[{plain(scope_title(scope))}:] " if scope else ""
        st.markdown(
            f"{answer_badge(leading.verdict.answer, leading.standing)} "
            f"**{plain(leading.lead)}**  \n"
            f"{about}{plain(leading.verdict.sentence)}"
        )
        if example := leading.example:
            st.markdown(
                f":gray[{plain(scope_title(example.scope))}:] {plain(example.sentence)}  \n"
                f"{small(example.basis)}"
            )
        else:
            st.markdown(small(leading.verdict.basis))
        if not snapshot.ended:
            total = counted(snapshot.experiment.progress.total, "evaluation")
            caption(f"Preliminary: {snapshot.num_judged:,} of {total}. May change.")


def section(snapshot: ExperimentSnapshot) -> None:
    """Draw an experiment's verdicts, claim by claim."""
    if not snapshot.verdicts:
        caption("Computing verdicts…" if snapshot.verdicts_pending else "No verdicts.")
    for caveat in caveats_of(snapshot.verdicts):
        st.warning(message(caveat), icon=":material/compare_arrows:")
    with st.container(gap="xxsmall"):
        for claim in by_claim(snapshot.verdicts):
            claim_row(claim, str(snapshot.id))
    add_draws.buttons(snapshot)


def claim_row(claim: ClaimGroup, key: str = "") -> None:
    """Draw a claim's answer on one line; all its verdicts, and how they were tested, open below."""
    everything = [*claim.summaries, *claim.details]
    name = claim.name[:1].upper() + claim.name[1:]
    with st.expander(_short_answer(claim), key=f"claim:{key}:{claim.name}"):
        if definition := DEFINITIONS.get(claim.name.lower()):
            st.markdown(f":gray[{plain(name)}: {plain(definition)}]")
        _answers(everything, with_test=len(claim.tests) > 1)
        if discoveries := claim.discoveries:
            st.markdown(small(discoveries))
        if len(claim.tests) == 1:
            st.markdown(small(f"Test: {claim.tests[0]}"))


def _short_answer(claim: ClaimGroup) -> str:
    """Return the claim with its one answer, or how often each was given in single settings."""
    name = f"**{plain(claim.name[:1].upper() + claim.name[1:])}**"
    first, *others = [*claim.summaries, *claim.details]
    if first.is_summary or not others:
        return f"{answer_badge(first.answer, claim.standing)} {name}: {plain(first.sentence)}"
    counts: Counter[str] = Counter(verdict.answer for verdict in (first, *others))
    badges = " ".join(
        f"{badge(answer, ANSWERS)} {counts[answer]}" if len(counts) > 1 else badge(answer, ANSWERS)
        for answer in ANSWERS
        if counts[answer]
    )
    return f"{badges} {name}: {counted(sum(counts.values()), 'setting')}"


def _answers(verdicts: Sequence[Verdict], with_test: bool) -> None:
    """Draw each answer; neighbours that differ only in their scope are merged."""
    for _, group in groupby(
        verdicts,
        key=lambda verdict: (verdict.answer, verdict.sentence, _statistics(verdict, with_test)),
    ):
        equal = list(group)
        answer, text = st.columns([1.4, 7], gap="small")
        answer.markdown(answer_badge(equal[0].answer, standing(equal[0])))
        scopes = "; ".join(scope_title(verdict.scope) for verdict in equal if verdict.scope)
        statistics = _statistics(equal[0], with_test)
        lines = [
            f":gray[{plain(scopes)}]" if scopes else "",
            plain(equal[0].sentence),
            small(statistics) if statistics else "",
        ]
        text.markdown("  \n".join(line for line in lines if line))


def _statistics(verdict: Verdict, with_test: bool) -> str:
    """Return effect with interval, p-value, number of draws, and the test."""
    return " · ".join(filter(None, [verdict.basis, verdict.test if with_test else ""]))
