"""Fresh numbers beside the first ones: how many agree bit for bit, on which machines, and the worst of the rest."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.components.theme import caption, counted, plain
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.analysis.reproducibility import summary
from ucurve.formatting import STATE_LABELS
from ucurve.schemas.reproducibility import Agreement, DevicePair, Difference


def section(now: ExperimentSnapshot) -> None:
    """Of an experiment that was asked for afresh; nothing for the others."""
    if not now.experiment.fresh:
        return
    asked: dict[int, tuple[int, Agreement]] = st.session_state.setdefault("agreements", {})
    if asked.get(now.id, (-1,))[0] != now.cursor:  # new numbers
        found = pages.cached(f"agreement {now.id}", lambda: pages.client().agreement(now.id))
        if found is None:
            return
        asked[now.id] = now.cursor, found
    report = asked[now.id][1]
    st.markdown("## Agreement with the first numbers", anchors=False)
    st.markdown(f"**{plain(summary(report))}.**")
    for one in report.machines:
        machines(one)
    if report.metrics:
        st.dataframe(
            [_metric(name, report) for name in report.metrics],
            hide_index=True,
            key=f"agreement:{now.id}",
        )
        caption(
            "Relative differences are to the first number. Times and rates are left out: they need not agree."
        )
    if report.points:
        shown = (
            f", the worst {len(report.points)}"
            if report.num_differing > len(report.points)
            else ", the worst first"
        )
        with st.expander(
            f"{counted(report.num_differing, 'point')} that differ{'s' * (report.num_differing == 1)}{shown}"
        ):
            rows = [
                row
                for point in report.points
                for row in _point(point.labels, point.metrics, point.workers)
            ]
            st.dataframe(rows, hide_index=True, key=f"differences:{now.id}")


def machines(one: DevicePair) -> None:
    """First here, again there, and what is not the same about the two."""
    with st.container(border=True, gap="xsmall"):
        first, again = (
            plain(", ".join(workers)) for workers in (one.first_workers, one.again_workers)
        )
        st.markdown(
            f"First on **{first}** ({plain(_device(one.first_device, one.first_versions))}), "
            f"again on **{again}** ({plain(_device(one.again_device, one.again_versions))}): "
            f"{one.num_identical:,} of {counted(one.num_compared, 'point')} identical"
        )
        differing = [f"{name} {a} → {b}" for name, (a, b) in one.differing.items()]
        same = ", ".join(
            f"{name} {version}"
            for name, version in sorted(one.again_versions.items())
            if name not in one.differing
        )
        told = (
            [f"Not the same: {', '.join(differing)}."]
            if differing
            else ["The same device, libraries and code."]
        )
        caption(" ".join([*told, f"The same: {same}." if differing else f"{same}."]))


def _device(device: str, versions: dict[str, str]) -> str:
    return f"{device}, {versions['hardware']}" if versions.get("hardware") else device


def _metric(name: str, report: Agreement) -> dict[str, Any]:
    one = report.metrics[name]
    return {
        "metric": name,
        "compared": one.num_compared,
        "identical": one.num_identical,
        "largest difference": f"{one.largest_absolute:.3g}",
        "relative": f"{one.largest_relative:.3g}",
        "finite on one side only": one.num_states_differ,
    }


def _point(
    labels: dict[str, Any], metrics: dict[str, Difference], workers: tuple[str, str]
) -> list[dict[str, Any]]:
    named = ", ".join(f"{name} {value}" for name, value in labels.items() if value is not None)
    who = f"{workers[0]} → {workers[1]}"
    if not metrics:
        return [
            {
                "point": named,
                "metric": "curves only",
                "first": "",
                "again": "",
                "relative": "",
                "workers": who,
            }
        ]
    return [
        {
            "point": named,
            "metric": name,
            "first": _value(one.first, one.states and one.states[0]),
            "again": _value(one.again, one.states and one.states[1]),
            "relative": "" if one.relative is None else f"{one.relative:.3g}",
            "workers": who,
        }
        for name, one in metrics.items()
    ]


def _value(value: float | None, state: str | None) -> str:
    return STATE_LABELS.get(state or "", state or "") if value is None else repr(value)
