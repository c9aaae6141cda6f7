"""What is understood of a suite's revisions, shown before it is registered, and its correction."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.components.downloads import download_link
from dashboard.components.refusals import SUITE, refusal
from dashboard.components.theme import caption, counted, message, tokens
from dashboard.live import pages
from ucurve.client import ApiUnavailableError, RequestRejectedError
from ucurve.registry.suites import Checkpoint
from ucurve.schemas.catalogue import SuitePreview

NUM_REGISTERED = "suite:registered"
DEFAULTS = {  # of columns of the preview
    "training phase": "pre-training",
    "learning-rate phase": "unknown",
    "pre-training seed": "0",
}
SHOWN = "suite:preview"  # in the session: what was asked for, and the answer


def corrections() -> str | None:
    """Draw the field for a corrected table; return its text."""
    file = st.file_uploader(
        "Corrected positions (optional)",
        type=["csv"],
        key=f"suite:positions:{st.session_state.get(NUM_REGISTERED, 0)}",
        help="The table of the preview, edited: step, tokens, training phase or pre-training seed "
        "of each revision. Lines that are not there stay as understood.",
    )
    if file is None:
        return None
    try:
        return str(file.getvalue().decode("utf-8-sig"))
    except UnicodeDecodeError:
        st.error("The table is not UTF-8 text.")
        return None


def ask(name: str, details: dict[str, Any], source: str) -> None:
    """Read the source and keep what is understood; a refusal is shown here.

    source: the field of `details` that names it.
    """
    st.session_state.pop(SHOWN, None)
    try:
        with st.spinner("Reading the names of the revisions…"):
            preview = pages.client().preview_suite(name, **details)
    except (RequestRejectedError, ApiUnavailableError, ValueError) as error:
        st.error(message(refusal(error, SUITE, source)))
    else:
        st.session_state[SHOWN] = ((name, details), preview)


def draw_current(name: str, details: dict[str, Any]) -> bool:
    """Draw the preview of exactly this suite; return whether there is one."""
    request, preview = st.session_state.get(SHOWN, (None, None))
    if request != (name, details):
        return False
    draw(preview)
    return True


def forget() -> None:
    """Drop the preview: the suite is registered."""
    st.session_state.pop(SHOWN, None)
    number = st.session_state.get(NUM_REGISTERED, 0)
    st.session_state[NUM_REGISTERED] = number + 1  # the next suite has no table yet


def draw(preview: SuitePreview) -> None:
    """Draw the positions, what is not certain, and the table to correct."""
    count = counted(len(preview.checkpoints), "checkpoint")
    st.markdown(f"**{count} will be registered.** Check what their names say:")
    st.dataframe(position_rows(preview.checkpoints), hide_index=True)
    if preview.left_out:
        names = list(preview.left_out)
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        caption(f"Left out, because the name gives no position: {', '.join(names[:8])}{more}.")
    for question in preview.questions:
        st.info(message(question), icon=":material/help:")
    for warning in preview.warnings:
        st.warning(message(warning), icon=":material/warning:")
    table, name = preview.table, preview.name
    download_link(
        "Positions as CSV, to correct them",
        lambda: table,
        f"{name}-positions.csv",
        "text/csv",
        "suite:positions",
        framed=True,
    )


def position_rows(checkpoints: list[Checkpoint]) -> list[dict[str, Any]]:
    """Return the positions as rows, without columns that say the default everywhere.

    They would push the last column, which says where a position comes from, out of sight.
    """
    rows = [position_row(checkpoint) for checkpoint in checkpoints]
    silent = {
        column
        for column, default in DEFAULTS.items()
        if all(row[column] == default for row in rows)
    }
    return [{name: row[name] for name in row if name not in silent} for row in rows]


def position_row(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the position of a checkpoint as a row of a table."""
    words = f"{tokens(checkpoint.words)} words" if checkpoint.words is not None else "unknown"
    return {
        "revision": checkpoint.revision,
        "tokens": words if checkpoint.tokens is None else tokens(checkpoint.tokens),
        "step": checkpoint.step,
        "training phase": checkpoint.training_phase or "pre-training",
        "learning-rate phase": checkpoint.phase or "unknown",
        "pre-training seed": seed(checkpoint),
        "from": checkpoint.position_source or "",
    }


def seed(checkpoint: Checkpoint) -> str:
    """Return "1", or "1 (small-aux-2)" where the seed has a name."""
    name = checkpoint.replicate_name
    return f"{checkpoint.replicate} ({name})" if name else str(checkpoint.replicate)
