"""The provenance of one evaluation: its inputs, every attempt, and how to reproduce it."""

from __future__ import annotations

from functools import partial

import streamlit as st

from dashboard.components.downloads import download_link
from dashboard.components.theme import (
    ago,
    badge,
    caption,
    counted,
    duration,
    message,
    number,
    plain,
    small,
)
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.client import Client, ClientError
from ucurve.schemas.measurements import Attempt, MeasurementRow, Provenance, decode_metrics

OUTCOMES = {"stopped": "interrupted", "lost": "worker died"}  # other outcomes are shown as they are


def label(row: MeasurementRow) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.labels.items() if value is not None)


def provenance(snapshot: ExperimentSnapshot, measurement: int, closable: bool = True) -> None:
    """Draw an evaluation's metrics, attempts, inputs and the command that reproduces it."""
    row = snapshot.rows.get(measurement)
    try:
        record = pages.cached(
            f"provenance {measurement} {row and row.attempt}",
            lambda: pages.client().provenance(measurement),
        )
    except ClientError as error:
        st.warning(message(str(error)))
        return
    if record is None:
        return
    with st.container(border=True):
        _header(record, row, measurement, closable)
        for position, attempt in enumerate(record.attempts, start=1):
            shown_here = row is not None and row.attempt == attempt.id
            _attempt(position, attempt, shown_here, attempt.measurement != measurement)
        others = [f"experiment {id}" for id in record.experiments if id != snapshot.id]
        if others:
            st.markdown(f":small[Shared with {plain(', '.join(others))}.]")
        with st.expander("Reproduce on another machine"):
            _reproduction(measurement)
        with st.expander("Inputs"):
            st.json(record.inputs)
            st.caption(f"SHA-256 of the inputs, the evaluation’s identity: `{record.identity}`")
        with st.expander("Location of weights and data"):
            st.json(record.source)


def _header(
    record: Provenance, row: MeasurementRow | None, measurement: int, closable: bool
) -> None:
    title, close = st.columns([8, 1], vertical_alignment="center")
    title.markdown(
        f"**Provenance of this evaluation** {badge(record.state)}  \n"
        + small(label(row) if row else "")
    )
    if closable:
        with close.container(horizontal_alignment="right"):
            st.button(
                "Close",
                f"close:{measurement}",
                on_click=lambda: st.session_state.pop("picked_in", None),
                type="tertiary",
            )
    if row and row.metrics:
        metrics = decode_metrics(row.metrics, row.nonfinite)
        st.markdown(
            "   ".join(f"{plain(name)} **{number(value)}**" for name, value in metrics.items())
        )


def _attempt(position: int, attempt: Attempt, shown_here: bool, of_repeat: bool) -> None:
    """Draw one attempt; of_repeat: it measured another repetition of the same evaluation."""
    seconds = (
        (attempt.finished_at - attempt.started_at).total_seconds() if attempt.finished_at else None
    )
    repeat = ""
    if attempt.repeat:
        repeat = f", repetition {attempt.repeat}"
    elif of_repeat:
        repeat = ", original"
    st.markdown(
        f"Attempt {position}{repeat}: **{OUTCOMES.get(attempt.outcome, attempt.outcome)}** "
        f"on {plain(attempt.worker)} ({plain(attempt.device)}), "
        f"{ago(attempt.started_at)} ({attempt.started_at:%Y-%m-%d %H:%M:%S %Z})"
        + ("" if seconds is None else f", took {duration(seconds)}")
        + (" · shown here" if shown_here else "")
        + "  \n"
        + small(
            ", ".join(f"{name} {version}" for name, version in sorted(attempt.versions.items()))
        )
    )
    if attempt.traceback:
        with st.expander("Traceback"):
            st.code(attempt.traceback, language=None)
    if attempt.log:
        lines = counted(len(attempt.log.splitlines()), "line")
        with st.expander(f"Log (last {lines}, UTC)"):
            st.code(attempt.log, language=None, wrap_lines=True)


def _reproduction(measurement: int) -> None:
    st.code(
        f"ucurve --url {pages.client().url} measure {measurement}",
        language=None,
        wrap_lines=True,
    )
    caption("Runs this evaluation locally, without a lab, and compares the results.")
    caption(
        "If the other machine cannot reach this address, download the file and run: "
        "ucurve measure point.json"
    )
    download_link(
        "point.json",
        partial(_point_file, pages.client(), measurement),
        f"ucurve-point-{measurement}.json",
        "application/json",
        f"point:{measurement}",
        framed=True,
    )


def _point_file(client: Client, measurement: int) -> str:
    return client.point(measurement).model_dump_json(indent=1)
