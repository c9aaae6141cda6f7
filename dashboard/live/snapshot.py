"""An experiment as of an earlier moment: the rows finished by then, their figures and verdicts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import streamlit as st

from dashboard.components import toolbar
from dashboard.components.theme import plain
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot, draw_figures
from ucurve.schemas.experiments import Progress

CACHE_SIZE = 4  # snapshots per session


def load_snapshot(id: int, as_of: str) -> ExperimentSnapshot | None:
    """Return the experiment as of a moment; fetched once, since the past does not change.

    Raises RequestRejectedError where there is no such experiment or moment.
    """
    cache: dict[tuple[int, str], ExperimentSnapshot] = st.session_state.setdefault("past", {})
    if (id, as_of) not in cache:
        snapshot = pages.cached(f"past {id} {as_of}", lambda: _fetch(id, as_of))
        if snapshot is None:
            return None
        while len(cache) >= CACHE_SIZE:
            del cache[next(iter(cache))]
        cache[id, as_of] = snapshot
    return cache[id, as_of]


def _fetch(id: int, as_of: str) -> ExperimentSnapshot:
    client = pages.client()
    experiment = client.experiment(id)
    rows = client.rows(id, at=as_of)
    states = [row.state for row in rows]
    progress = Progress(
        total=len(rows),
        done=states.count("done"),
        failed=states.count("failed"),
        running=0,
        reused=sum(row.reused and row.state == "done" for row in rows),
    )
    then = {"progress": progress, "eta_seconds": None, "waits_for": None, "finished_at": None}
    snapshot = ExperimentSnapshot(
        id,
        experiment.model_copy(update=then),
        {row.id: row for row in rows},
        cursor=1,
        figures_cursor=1,
        verdicts_cursor=1,
        as_of=as_of,
    )
    verdicts = client.verdicts(id, as_of)
    snapshot = replace(
        snapshot, verdicts=verdicts, drawn_verdicts=verdicts, num_judged=progress.done
    )
    figures, problem = draw_figures(snapshot)
    return replace(snapshot, figures=figures, figure_problem=problem)


def banner(as_of: str) -> None:
    """Say that the page shows the past, with a button back to the present."""
    with st.container(border=True, key="past"):
        message, back = st.columns([4, 1], vertical_alignment="center")
        message.markdown(
            f":material/history: **Snapshot of {plain(_formatted(as_of))}.** "
            "Later results are hidden."
        )
        with back.container(horizontal_alignment="right"):
            st.button(
                "Show latest", on_click=toolbar.leave_snapshot, icon=":material/arrow_forward:"
            )


def _formatted(as_of: str) -> str:
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError:
        return as_of
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or 'UTC'}"
