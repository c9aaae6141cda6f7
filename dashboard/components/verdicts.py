"""Verdicts, claim by claim: the answer, its sentence, and the statistics behind it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import streamlit as st

from dashboard.components import add_draws
from dashboard.components.theme import ANSWERS, badge, caption, counted, message, plain, small
from dashboard.live.poller import ExperimentSnapshot
from ucurve.analysis.verdict_order import ClaimGroup, by_claim, caveats_of
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


def section(snapshot: ExperimentSnapshot) -> None:
    """Draw an experiment's verdicts."""
    if not snapshot.experiment.progress.done or not (
        snapshot.verdicts or snapshot.verdict_problem or snapshot.verdicts_pending
    ):
        return
    st.markdown("## Verdicts", anchors=False)
    if snapshot.verdict_problem:
        st.error(
            f"The verdicts cannot be computed: {message(snapshot.verdict_problem)}",
            icon=":material/error:",
        )
    if snapshot.verdicts and not snapshot.ended:
        total = counted(snapshot.experiment.progress.total, "evaluation")
        caption(f"Preliminary: {snapshot.num_judged:,} of {total}. May change.")
    elif snapshot.verdicts_pending and not snapshot.verdicts:
        caption("Computing verdicts…")
    for caveat in caveats_of(snapshot.verdicts):
        st.warning(message(caveat), icon=":material/compare_arrows:")
    for claim in by_claim(snapshot.verdicts):
        claim_card(claim)
    add_draws.buttons(snapshot)


def claim_card(claim: ClaimGroup) -> None:
    """Draw the overall answers; those of many single settings are in an expander."""
    several_tests = len(claim.tests) > 1
    with st.container(border=True, gap="xsmall"):
        title = claim.name[:1].upper() + claim.name[1:]
        st.markdown(f"**{plain(title)}**", help=DEFINITIONS.get(claim.name.lower()))
        _answers(claim.summaries, several_tests)
        if claim.details:
            with st.expander(claim.details_title):
                _answers(claim.details, several_tests)
        if discoveries := claim.discoveries:
            st.markdown(small(discoveries))
        if len(claim.tests) == 1:
            st.markdown(small(f"Test: {claim.tests[0]}"))


def _answers(verdicts: Sequence[Verdict], with_test: bool) -> None:
    """Draw each answer; neighbours that differ only in their scope are merged."""
    for _, group in groupby(
        verdicts,
        key=lambda verdict: (verdict.answer, verdict.sentence, _statistics(verdict, with_test)),
    ):
        equal = list(group)
        answer, text = st.columns([1, 7], gap="small")
        answer.markdown(badge(equal[0].answer, ANSWERS))
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
