"""The experiments of a comparison: selected in the address, loaded, and aligned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard.components.theme import caption, counted, kind_title, plain, small
from dashboard.forms.parsing import parse_id
from dashboard.live import pages, refresh
from ucurve.analysis.comparison import ComparedExperiment
from ucurve.client.comparisons import Comparison
from ucurve.experiments import parse
from ucurve.figures.comparison import PlotOptions
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.references import ReferenceCurve
from ucurve.spec import Figure

LIST_SIZE = 8  # experiments in the list to select from
MAX_COMPARED = 12
SUITES_MAX_AGE = 30.0  # seconds; suites change rarely, and this page polls every second


def selected_ids() -> list[int]:
    """Return the experiments in the address, without duplicates."""
    numbers = map(parse_id, st.query_params.get("ids", "").split(","))
    return list(dict.fromkeys(number for number in numbers if number is not None))[:MAX_COMPARED]


def toggle(id: int) -> None:
    ids = selected_ids()
    ids = [other for other in ids if other != id] if id in ids else [*ids, id]
    st.query_params["ids"] = ",".join(map(str, ids))


def selector(ids: Sequence[int]) -> None:
    """Draw a searchable list of experiments to select from."""
    with st.expander("Select experiments", expanded=len(ids) < 2, icon=":material/checklist:"):
        st.text_input(
            "Search",
            key="q",
            placeholder="name, notes or tags",
            live="300ms",
            icon=":material/search:",
            bind="query-params",
        )
        text = st.session_state.get("q") or ""
        params = {"text": text} if text else {}
        page = pages.cached(
            f"compare {text}", lambda: pages.client().experiments(limit=LIST_SIZE, **params)
        )
        if page is None:
            return
        for experiment in page.experiments:
            _checkbox(experiment, experiment.id in ids)
        if (more := page.total - LIST_SIZE) > 0:
            caption(f"{more:,} more. Search to narrow the list.")
        if not page.experiments:
            caption("No experiments match." if text else "No experiments yet.")


def _checkbox(experiment: Experiment, selected: bool) -> None:
    key = f"choose:{experiment.id}"
    if st.session_state.get(key) != selected:
        st.session_state[key] = selected
    progress = experiment.progress
    evaluations = counted(progress.total, "evaluation")
    details = [
        kind_title(experiment.kind),
        experiment.owner,
        f"{progress.done:,} of {evaluations}",
    ]
    st.checkbox(
        f"**#{experiment.id}** {plain(experiment.name)} {small(' · '.join(details))}",
        key=key,
        on_change=toggle,
        args=(experiment.id,),
    )


def compared(
    ids: Sequence[int], options: PlotOptions
) -> tuple[Comparison, dict[str, Figure]] | None:
    """Return the comparison with its figures; None while an experiment is not loaded yet.

    Computed again when the options or the rows change; for rows at most half of the time.
    """
    sides, cursors = _sides(ids)
    if len(sides) < len(ids):
        return None
    cache = st.session_state.get("comparison", {})
    selection = (tuple(ids), options)
    outdated = cache.get("cursors") != cursors
    if cache.get("selection") != selection or (outdated and time.monotonic() > cache["due"]):
        started, settings = time.monotonic(), cache.get("settings", {})
        for side in sides:
            if side.rows and side.id not in settings:
                settings[side.id] = pages.client().measurement_settings(side)
        comparison = Comparison(
            sides, options, [settings.get(side.id, {}) for side in sides], _references()
        )
        cache = {
            "selection": selection,
            "cursors": cursors,
            "settings": settings,
            "comparison": (comparison, comparison.figures()),
        }
        cache["due"] = 2 * time.monotonic() - started
        st.session_state["comparison"] = cache
    elif outdated:
        due = cache["due"]
        refresh.track("comparison", lambda: time.monotonic() > due)
    comparison_with_figures: tuple[Comparison, dict[str, Figure]] = cache["comparison"]
    return comparison_with_figures


def _sides(ids: Sequence[int]) -> tuple[list[ComparedExperiment], tuple[int, ...]]:
    """Return the experiments with their rows, and the cursors of these rows."""
    sides, cursors, suites = [], [], _suites()
    for id in ids:
        snapshot = pages.current_snapshot(id)
        if snapshot is None:
            continue
        rows = sorted(snapshot.rows.values(), key=lambda row: row.position)
        suite = next((str(row.labels["suite"]) for row in rows if row.labels.get("suite")), "")
        experiment = snapshot.experiment
        sides.append(
            ComparedExperiment(id, experiment.name, parse(experiment.spec), rows, suites.get(suite))
        )
        cursors.append(snapshot.cursor)
    return sides, tuple(cursors)


@st.cache_data(ttl=10, show_spinner=False)
def _all_references() -> list[ReferenceCurve]:
    """Return all curves; the answer is the same for every user."""
    return pages.client().references()


def _references() -> list[ReferenceCurve]:
    return pages.cached("references", _all_references) or []


def _suites() -> dict[str, Any]:
    """Return the suites by name."""
    cache: tuple[float, dict[str, Any]] | None = st.session_state.get("suites of compare")
    if cache is None or time.monotonic() > cache[0] + SUITES_MAX_AGE:
        suites = pages.cached("suites", pages.client().suites) or []
        cache = (time.monotonic(), {suite.name: suite for suite in suites})
        st.session_state["suites of compare"] = cache
    return cache[1]
