"""Buttons that add noise seeds where more of them could resolve undetermined verdicts."""

from __future__ import annotations

import streamlit as st

from dashboard.auth import session
from dashboard.components.theme import caption, counted, message
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.analysis.verdict_order import more_draws
from ucurve.client import ClientError
from ucurve.experiments import kinds
from ucurve.spec import Verdict


def offers(verdicts: list[Verdict]) -> list[tuple[int, int]]:
    """Return (draws to add, verdicts that they resolve), at most three.

    These are the fewest that resolve a verdict, those that resolve half, and those that
    resolve all.
    """
    needed = sorted(num for verdict in verdicts if (num := more_draws(verdict)))
    numbers = sorted({needed[0], needed[(len(needed) - 1) // 2], needed[-1]}) if needed else []
    return [(draws, sum(num <= draws for num in needed)) for draws in numbers]


def buttons(snapshot: ExperimentSnapshot) -> None:
    """Draw one button per offer once the experiment has ended.

    The new experiment reuses the evaluations of this one.
    """
    kind, choices = kinds().get(snapshot.experiment.kind), offers(snapshot.verdicts)
    if not snapshot.ended or not kind or not kind.repeat_fields or not choices:
        return
    barred = session.cannot_submit()
    noun = "seed" if "seeds" in kind.repeat_fields else "noise seed"
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**More {noun}s could resolve undetermined verdicts**")
        caption("Estimated from the observed effect size. Existing evaluations are reused.")
        with st.container(horizontal=True):
            for draws, num_resolved in choices:
                verdicts = counted(num_resolved, "undetermined verdict")
                st.button(
                    f"Add {counted(draws, noun)}: {verdicts}",
                    key=f"extend:{snapshot.id}:{draws}",
                    on_click=extend,
                    args=(snapshot, draws),
                    icon=":material/add:",
                    disabled=barred is not None,
                    help=barred,
                )
    outcome = st.session_state.pop("extended", None)
    if outcome == "refused":
        st.warning(message(pages.refusal(snapshot.id) or ""), icon=":material/block:")
    elif outcome:
        st.switch_page("app_pages/experiment.py", query_params={"id": str(outcome)})


def extend(snapshot: ExperimentSnapshot, draws: int) -> None:
    try:
        st.session_state["extended"] = pages.client().extend(snapshot.id, draws).id
        pages.set_refusal(snapshot.id, None)
    except ClientError as error:
        pages.set_refusal(snapshot.id, str(error))
        st.session_state["extended"] = "refused"
