"""Re-measured evaluations beside the originals: how many are identical, and on which hardware."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.components.theme import caption, counted, plain
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.analysis.reproducibility import summary
from ucurve.formatting import STATE_LABELS
from ucurve.schemas.reproducibility import Agreement, DevicePair, Difference

MAX_REPORTS = 4  # kept per session


def section(snapshot: ExperimentSnapshot) -> None:
    """Draw the comparison of an experiment that re-measured existing evaluations."""
    if not snapshot.experiment.fresh:
        return
    reports: dict[int, tuple[int, Agreement]] = st.session_state.setdefault("agreements", {})
    if reports.get(snapshot.id, (-1,))[0] != snapshot.cursor:  # new results
        report = pages.cached(
            f"agreement {snapshot.id}", lambda: pages.client().agreement(snapshot.id)
        )
        if report is None:
            return
        while len(reports) >= MAX_REPORTS:
            del reports[next(iter(reports))]
        reports[snapshot.id] = snapshot.cursor, report
    report = reports[snapshot.id][1]
    text = summary(report)
    st.markdown(f"**{plain(text[:1].upper() + text[1:])}.**")
    for machines in report.machines:
        machines_card(machines)
    if report.metrics:
        st.dataframe(
            [_metric_row(name, report) for name in report.metrics],
            hide_index=True,
            key=f"agreement:{snapshot.id}",
        )
        caption("Relative to the original value. Times and rates are not compared.")
    if report.points:
        _differences(snapshot.id, report)


def _differences(id: int, report: Agreement) -> None:
    order = (
        f"{len(report.points)} largest differences"
        if report.num_differing > len(report.points)
        else "largest difference first"
    )
    with st.expander(f"{counted(report.num_differing, 'differing evaluation')} ({order})"):
        rows = [
            row
            for point in report.points
            for row in _point_rows(point.labels, point.metrics, point.workers)
        ]
        st.dataframe(rows, hide_index=True, key=f"differences:{id}")


def machines_card(machines: DevicePair) -> None:
    """Draw where the originals and the re-measured values come from, and what differs."""
    with st.container(border=True, gap="xsmall"):
        first, again = (
            plain(", ".join(workers))
            for workers in (machines.first_workers, machines.again_workers)
        )
        st.markdown(
            f"Original on **{first}** "
            f"({plain(_device(machines.first_device, machines.first_versions))}), "
            f"re-measured on **{again}** "
            f"({plain(_device(machines.again_device, machines.again_versions))}): "
            f"{machines.num_identical:,} of {counted(machines.num_compared, 'evaluation')} "
            "identical"
        )
        differing = [f"{name} {a} → {b}" for name, (a, b) in machines.differing.items()]
        same = ", ".join(
            f"{name} {version}"
            for name, version in sorted(machines.again_versions.items())
            if name not in machines.differing
        )
        if differing:
            caption(f"Different: {', '.join(differing)}. Same: {same}.")
        else:
            caption(f"Same device, libraries and code: {same}.")


def _device(device: str, versions: dict[str, str]) -> str:
    return f"{device}, {versions['hardware']}" if versions.get("hardware") else device


def _metric_row(name: str, report: Agreement) -> dict[str, Any]:
    metric = report.metrics[name]
    return {
        "metric": name,
        "compared": metric.num_compared,
        "identical": metric.num_identical,
        "largest difference": f"{metric.largest_absolute:.3g}",
        "relative": f"{metric.largest_relative:.3g}",
        "finite in one only": metric.num_states_differ,
    }


def _point_rows(
    labels: dict[str, Any], metrics: dict[str, Difference], workers: tuple[str, str]
) -> list[dict[str, Any]]:
    shared = {
        "evaluation": ", ".join(
            f"{name} {value}" for name, value in labels.items() if value is not None
        ),
        "workers": f"{workers[0]} → {workers[1]}",
    }
    if not metrics:
        row = {"metric": "series only", "original": "", "re-measured": "", "relative": ""}
        return [shared | row]
    return [
        shared
        | {
            "metric": name,
            "original": _value(metric.first, metric.states and metric.states[0]),
            "re-measured": _value(metric.again, metric.states and metric.states[1]),
            "relative": "" if metric.relative is None else f"{metric.relative:.3g}",
        }
        for name, metric in metrics.items()
    ]


def _value(value: float | None, state: str | None) -> str:
    return STATE_LABELS.get(state or "", state or "") if value is None else repr(value)
