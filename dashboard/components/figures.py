"""An experiment's figures; a click on a mark shows the provenance of its evaluation below."""

from __future__ import annotations

import streamlit as st

from dashboard.components import figure_tabs, permalinks
from dashboard.components.chart import live_chart
from dashboard.components.provenance import provenance
from dashboard.components.references import with_references
from dashboard.components.theme import caption, message, plain
from dashboard.forms.parsing import parse_id
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.figures.citation import FigureSource
from ucurve.spec import Figure


def section(snapshot: ExperimentSnapshot) -> None:
    """Draw the figure that is chosen, under its tabs."""
    with st.container():
        if snapshot.figure_problem:
            st.error(
                f"The figures cannot be drawn: {message(snapshot.figure_problem)}",
                icon=":material/error:",
            )
        elif snapshot.figures_cursor < 0:
            caption("Drawing figures…")
        elif not snapshot.figures:
            caption("This experiment type has no figures. See the table of evaluations below.")
        snapshot = with_references(snapshot)
    with st.container():
        if snapshot.figures:
            name = figure_tabs.draw(snapshot.figures, snapshot.id)
            draw_figure(snapshot, name, snapshot.figures[name])
    with st.container():
        if st.session_state.get("picked_in", (None,))[0] == snapshot.id:
            _selected_evaluation(snapshot)


def draw_figure(snapshot: ExperimentSnapshot, name: str, figure: Figure) -> None:
    title, corner = st.columns([6, 1], vertical_alignment="center")
    title.markdown(f"### {plain(figure.title)}", anchors=False)
    url = permalinks.page_url("experiment", id=snapshot.id, at=snapshot.as_of, figure=name)
    experiment = snapshot.experiment
    origin = FigureSource(
        name,
        (snapshot.id,),
        (experiment.name,),
        (experiment.spec,),
        pages.client().url,
        url,
        {"at": snapshot.as_of} if snapshot.as_of else {},
    )
    key = f"{snapshot.id}:{name}"
    with corner:
        permalinks.share_menu(figure, key, f"ucurve-{snapshot.id}-{name}", origin, url)
    clicked = live_chart(
        figure,
        key=f"figure:{key}",
        focus=name == st.session_state.get(f"arrived {snapshot.id}"),
    )
    if clicked is not None:
        figure_tabs.choose(snapshot.id, name)
        st.query_params["point"] = str(clicked)
        _select(snapshot, clicked, name)
    empty = "" if any(figure.datasets.values()) else "No results yet. "
    st.markdown(f":small[:gray[{empty}{plain(figure.caption)}]]")


def open_from_link(snapshot: ExperimentSnapshot) -> None:
    """Select the figure and the evaluation that the address names.

    Done once: later clicks change the address, too.
    """
    st.session_state.setdefault(f"arrived {snapshot.id}", st.query_params.get("figure"))
    point = parse_id(st.query_params.get("point"))
    loaded = snapshot.figures or snapshot.figure_problem or snapshot.ended
    if point is None or point not in snapshot.rows or not loaded:
        return
    if st.session_state.get("point shown") != (snapshot.id, point):
        marked = (name for name, figure in snapshot.figures.items() if point in _points(figure))
        named = st.query_params.get("figure", "")
        figure = named if named in snapshot.figures else next(marked, "")
        _select(snapshot, point, figure)
        if figure:
            figure_tabs.choose(snapshot.id, figure)
            st.query_params["point"] = str(point)
    elif "picked_in" not in st.session_state:
        del st.query_params["point"]  # its panel was closed


def _select(snapshot: ExperimentSnapshot, point: int, figure: str) -> None:
    st.session_state["picked"], st.session_state["picked_in"] = point, (snapshot.id, figure)
    st.session_state["point shown"] = (snapshot.id, point)


def _selected_evaluation(snapshot: ExperimentSnapshot) -> None:
    point = st.session_state["picked"]
    provenance(snapshot, point)
    figure = st.session_state["picked_in"][1]
    permalinks.copyable_link(
        permalinks.page_url(
            "experiment", id=snapshot.id, at=snapshot.as_of, figure=figure, point=point
        )
    )


def _points(figure: Figure) -> set[int]:
    """Return the measurements that the figure has marks for."""
    return {
        row["measurement"]
        for rows in figure.datasets.values()
        for row in rows
        if row.get("measurement") is not None
    }
