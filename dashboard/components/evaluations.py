"""The evaluations of an experiment: failures, progress of running ones, and the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import streamlit as st

from dashboard.components.downloads import download_link
from dashboard.components.provenance import label, provenance
from dashboard.components.theme import LABELS, caption, counted, plain, roughly
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.formatting import STATE_LABELS
from ucurve.schemas.measurements import MeasurementRow, decode_metrics

MAX_REASONS = 8  # of failures, the most frequent first
MAX_RUNNING = 6  # progress bars
STATES = ("done", "running", "open", "failed")


def section(snapshot: ExperimentSnapshot) -> None:
    """Draw the table of evaluations, all or those in one state."""
    rows = sorted(snapshot.rows.values(), key=lambda row: row.position)
    retried_failures(snapshot)
    filters, files = st.columns([4, 1], vertical_alignment="bottom")
    states = {
        "all": rows,
        **{state: [row for row in rows if row.state == state] for state in STATES},
        "non-finite": [row for row in rows if row.nonfinite],
    }
    state = filters.segmented_control(
        "Show",
        [state for state, matches in states.items() if matches or state == "all"],
        default="all",
        required=True,
        key=f"rows:{snapshot.id}",
        label_visibility="collapsed",
        format_func=lambda state: f"{LABELS.get(state, state)} {len(states[state]):,}",
    )
    with files.container(horizontal_alignment="right"):
        download_link(
            "Table (CSV)",
            partial(pages.client().csv, snapshot.id, snapshot.as_of),
            f"ucurve-{snapshot.id}.csv",
            "text/csv",
            f"table:{snapshot.id}:{snapshot.as_of}",
            framed=True,
        )
    table(snapshot, states.get(state or "all", rows), state or "all")


def running(snapshot: ExperimentSnapshot) -> None:
    """Draw a progress bar for each running evaluation that reports progress."""
    rows = sorted(snapshot.rows.values(), key=lambda row: row.position)
    reporting = [row for row in rows if row.state == "running" and row.live and row.live.total]
    for row in reporting[:MAX_RUNNING]:
        assert row.live is not None
        remaining = (
            "" if row.live.seconds_left is None else f", {roughly(row.live.seconds_left)} left"
        )
        st.progress(
            min(row.live.done / row.live.total, 1.0),
            text=f":small[{plain(label(row))}{remaining}]",
        )


def failures(snapshot: ExperimentSnapshot) -> None:
    """Say why evaluations failed, the most frequent reason first."""
    reasons = Counter(
        row.error or "no reason was recorded"
        for row in snapshot.rows.values()
        if row.state == "failed"
    )
    if not reasons:
        return
    lines = [
        f"- {counted(count, 'evaluation')}: {plain(reason)}"
        for reason, count in reasons.most_common(MAX_REASONS)
    ]
    if len(reasons) > MAX_REASONS:
        lines.append(f"- {counted(len(reasons) - MAX_REASONS, 'further reason')} in the table")
    total = counted(sum(reasons.values()), "evaluation")
    remedy = "Retry measures them again." if snapshot.ended else ""
    text = "\n".join([f"{total} failed. {remedy}".strip(), *lines])
    st.warning(text, icon=":material/error:")


def retried_failures(snapshot: ExperimentSnapshot) -> None:
    """Say how many attempts failed before a retry succeeded."""
    counts: dict[int, tuple[int, int]] = st.session_state.setdefault("failed before", {})
    outdated = counts.get(snapshot.id, (-1,))[0] != snapshot.cursor
    if snapshot.as_of is None and snapshot.ended and outdated:
        record = pages.cached(
            f"origins {snapshot.id}", lambda: pages.client().experiment_provenance(snapshot.id)
        )
        counts[snapshot.id] = snapshot.cursor, record.num_failed_before if record else 0
    with st.container():
        if num := counts.get(snapshot.id, (0, 0))[1]:
            verb = "was" if num == 1 else "were"
            caption(
                f"{counted(num, 'failed attempt')} {verb} retried successfully. "
                "Click an evaluation for details."
            )


def table_row(row: MeasurementRow) -> dict[str, Any]:
    """Return a row of the table: state, settings, metrics, and what went wrong."""
    cached = row.reused and row.state == "done"
    cells: dict[str, Any] = {
        "state": "cached" if cached else LABELS.get(row.state, row.state),
        **row.labels,
        **decode_metrics(row.metrics, row.nonfinite),
    }
    if row.nonfinite:
        cells["remark"] = ", ".join(
            f"{name} is {STATE_LABELS[state]}" for name, state in row.nonfinite.items()
        )
    if row.error:
        cells["remark"] = row.error
    return cells


@st.cache_resource(show_spinner=False, max_entries=50)
def arrow_table(_rows: Sequence[MeasurementRow], *key: Any) -> tuple[Any, list[str]]:
    """Return the rows as an Arrow table and the names of numeric columns.

    Shared by all sessions, since the conversion is the slowest part. key: identifies the rows.
    """
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame([table_row(row) for row in _rows])
    if "remark" in frame:
        frame.insert(1, "remark", frame.pop("remark"))
    numeric = [str(name) for name in frame.select_dtypes("float")]
    try:
        return pa.Table.from_pandas(frame), numeric
    except (pa.ArrowException, OverflowError):  # a column mixes numbers and text
        return frame, numeric


def table(snapshot: ExperimentSnapshot, rows: list[MeasurementRow], state: str) -> None:
    """Draw the table; a click on a row shows its provenance."""
    if not rows:
        return
    data, numeric = arrow_table(rows, snapshot.id, snapshot.as_of, snapshot.cursor, state)
    event = st.dataframe(
        data,
        hide_index=True,
        height=min(38 + 35 * len(rows), 400),
        key=f"table:{snapshot.id}",
        placeholder="",
        column_config={name: st.column_config.NumberColumn(format="%.5g") for name in numeric},
        on_select="rerun",
        selection_mode="single-cell",
    )
    selected = [row for row, _ in event.selection.cells if row < len(rows)]
    if selected:
        provenance(snapshot, rows[selected[0]].id, closable=False)
    else:
        caption("Click a row, or a mark in a figure, for its provenance.")
