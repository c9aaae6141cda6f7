"""More draws where they would settle an open verdict: what each number of them would settle, and the buttons that ask for them."""

from __future__ import annotations

import streamlit as st

from dashboard.auth import session
from dashboard.components.theme import caption, counted, plain
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.analysis.verdict_order import more_draws
from ucurve.client import ClientError
from ucurve.experiments import kinds
from ucurve.spec import Verdict


def offers(verdicts: list[Verdict]) -> list[tuple[int, int]]:
    """(more draws, open verdicts that they would settle): the fewest, those that settle half, those that settle all."""
    needed = sorted(num for verdict in verdicts if (num := more_draws(verdict)))
    chosen = sorted({needed[0], needed[(len(needed) - 1) // 2], needed[-1]}) if needed else []
    return [(draws, sum(num <= draws for num in needed)) for draws in chosen]


def buttons(now: ExperimentSnapshot) -> None:
    """One per offer, once the experiment is at rest; the new experiment reuses what this one measured."""
    kind, found = kinds().get(now.experiment.kind), offers(now.verdicts)
    if not now.ended or not kind or not kind.repeats or not found:
        return
    barred = session.cannot_submit()
    word = "seed" if "seeds" in kind.repeats else "draw"
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**More {word}s would settle what is open**")
        caption(
            "As many as an effect of the size seen needs. What is measured already is not measured again."
        )
        with st.container(horizontal=True):
            for draws, settled in found:
                st.button(
                    f"{counted(draws, f'more {word}')}: {counted(settled, 'open verdict')}",
                    key=f"extend:{now.id}:{draws}",
                    on_click=extend,
                    args=(now, draws),
                    icon=":material/add:",
                    disabled=barred is not None,
                    help=barred,
                )
    made = st.session_state.pop("extended", None)
    if made == "refused":
        st.warning(plain(pages.refusal(now.id) or ""), icon=":material/block:")
    elif made:
        st.switch_page("app_pages/experiment.py", query_params={"id": str(made)})


def extend(now: ExperimentSnapshot, draws: int) -> None:
    try:
        st.session_state["extended"] = pages.client().extend(now.id, draws).id
        pages.set_refusal(now.id, None)
    except ClientError as error:
        pages.set_refusal(now.id, str(error))
        st.session_state["extended"] = "refused"
