"""The provenance of one number: what determined it, every attempt at it, and how to repeat it on another machine."""

from __future__ import annotations

from functools import partial

import streamlit as st

from dashboard.components.downloads import offer
from dashboard.components.theme import ago, badge, caption, counted, duration, number, plain
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.client import Client, ClientError, RequestRejectedError
from ucurve.schemas.measurements import Attempt, MeasurementRow, decode_metrics


def label(row: MeasurementRow) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.labels.items() if value is not None)


def provenance(now: ExperimentSnapshot, measurement: int, closable: bool = True) -> None:
    """Everything that determined a number, and every attempt at it."""
    row = now.rows.get(measurement)
    try:
        found = pages.cached(
            f"provenance {measurement} {row and row.attempt}",
            lambda: pages.client().provenance(measurement),
        )
    except (RequestRejectedError, ClientError) as error:
        st.warning(plain(str(error)))
        return
    if found is None:
        return
    with st.container(border=True):
        title, close = st.columns([8, 1], vertical_alignment="center")
        title.markdown(
            f"**Where this number comes from** {badge(found.state)}  \n:small[:gray[{plain(label(row) if row else '')}]]"
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
            st.markdown(
                "   ".join(
                    f"{plain(name)} **{number(value)}**"
                    for name, value in decode_metrics(row.metrics, row.nonfinite).items()
                )
            )
        for position, attempt in enumerate(found.attempts, start=1):
            current, again = (
                row is not None and row.attempt == attempt.id,
                attempt.measurement != measurement,
            )
            one_attempt(position, attempt, current, again)
        others = [id for id in found.experiments if id != now.id]
        if others:
            st.markdown(
                f":small[Shared with {plain(', '.join(f'experiment {id}' for id in others))}.]"
            )
        with st.expander("Repeat it on another machine"):
            st.code(
                f"ucurve --url {pages.client().url} measure {measurement}",
                language=None,
                wrap_lines=True,
            )
            caption(
                "Measures it there, without any worker or database, and says how far the two numbers agree."
            )
            caption(
                "If this address cannot be reached from there, take the file along and type: ucurve measure point.json"
            )
            point_file = partial(_point_file, pages.client(), measurement)
            name = f"ucurve-point-{measurement}.json"
            offer(
                "point.json",
                point_file,
                name,
                "application/json",
                f"point:{measurement}",
                framed=True,
            )
        with st.expander("All that determined it"):
            st.json(found.inputs)
            st.caption(f"SHA-256 of this is its identity: `{found.identity}`")
        with st.expander("Where that was found"):
            st.json(found.source)


def _point_file(client: Client, measurement: int) -> str:
    return client.point(measurement).model_dump_json(indent=1)


def one_attempt(number: int, attempt: Attempt, current: bool, again: bool = False) -> None:
    """number: of this point's attempts; again: at another repeat of the same point, not at this one."""
    took = (
        ""
        if attempt.finished_at is None
        else f", {duration((attempt.finished_at - attempt.started_at).total_seconds())}"
    )
    versions = ", ".join(f"{name} {version}" for name, version in sorted(attempt.versions.items()))
    mark = " · its number is shown" if current else ""
    repeat = (
        f", repeat {attempt.repeat}" if attempt.repeat else ", the first number" if again else ""
    )
    st.markdown(
        f"Attempt {number}{repeat}: **{attempt.outcome}** on {plain(attempt.worker)} ({plain(attempt.device)}), "
        f"{ago(attempt.started_at)} ({attempt.started_at:%Y-%m-%d %H:%M:%S %Z}){took}{mark}  \n:small[:gray[{plain(versions)}]]"
    )
    if attempt.traceback:
        with st.expander("Traceback"):
            st.code(attempt.traceback, language=None)
    if attempt.log:
        with st.expander(
            f"What it logged (the last {counted(len(attempt.log.splitlines()), 'line')}, times in UTC)"
        ):
            st.code(attempt.log, language=None, wrap_lines=True)
