"""An experiment as it stood at an earlier moment: what had been measured by then, with the figures and verdicts of that table."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboard.components import toolbar
from dashboard.components.theme import plain
from dashboard.live import pages
from dashboard.live.poller import Watched, made
from ucurve.schemas.experiments import Progress

KEPT = 4  # tables of the past that a session keeps


def stood(id: int, at: str) -> Watched | None:
    """Asked for once, since it does not change any more. Raises RequestRejectedError where there is none, or no such moment."""
    kept: dict[tuple[int, str], Watched] = st.session_state.setdefault("past", {})
    if (id, at) not in kept:
        found = pages.latest(f"past {id} {at}", lambda: _asked(id, at))
        if found is None:
            return None
        while len(kept) >= KEPT:
            del kept[next(iter(kept))]
        kept[id, at] = found
    return kept[id, at]


def _asked(id: int, at: str) -> Watched:
    client = pages.client()
    experiment = client.experiment(id)
    rows = client.rows(id, at=at)
    states = [row.state for row in rows]
    reused = sum(row.reused and row.state == "done" for row in rows)
    progress = Progress(
        total=len(rows),
        done=states.count("done"),
        failed=states.count("failed"),
        running=0,
        reused=reused,
    )
    then = {"progress": progress, "eta_seconds": None, "waits_for": None, "finished_at": None}
    now = Watched(
        id,
        experiment.model_copy(update=then),
        {row.id: row for row in rows},
        cursor=1,
        drawn=1,
        asked=1,
        at=at,
    )
    figures, problem = made(now)
    said = client.verdicts(id, at)
    return Watched(
        **{
            **vars(now),
            "figures": figures,
            "figure_problem": problem,
            "verdicts": said,
            "verdicts_of": progress.done,
        }
    )


def banner(at: str) -> None:
    """That this is the past, and the way back."""
    with st.container(border=True, key="past"):
        words, back = st.columns([4, 1], vertical_alignment="center")
        words.markdown(
            f":material/history: **As it stood at {plain(_said(at))}.** What was measured later is not shown."
        )
        with back.container(horizontal_alignment="right"):
            st.button("Back to now", on_click=toolbar.come_back, icon=":material/arrow_forward:")


def _said(at: str) -> str:
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return at
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or 'UTC'}"
