"""Comparison of experiments: curves, differences, and what is missing; the address holds it all."""

from dataclasses import asdict

import streamlit as st

from dashboard.components import missing_evaluations, permalinks
from dashboard.components.chart import live_chart
from dashboard.components.compared_experiments import compared, selected_ids, selector
from dashboard.components.plot_options import controls, requested_options
from dashboard.components.provenance import provenance
from dashboard.components.theme import caption, empty_state, message, plain
from dashboard.live import pages, refresh
from ucurve.client import RequestRejectedError
from ucurve.client.comparisons import Comparison
from ucurve.spec import Figure


def draw_figure(comparison: Comparison, name: str, figure: Figure) -> None:
    url = figure_url(comparison, name)
    title, corner = st.columns([8, 1], vertical_alignment="center")
    title.markdown(f"### {plain(figure.title)}", anchors=False)
    with corner:
        ids = "-".join(side.key for side in comparison.sides)
        origin = comparison.origin(name, pages.client().url, url)
        permalinks.share_menu(
            figure, f"compare:{name}", f"ucurve-compare-{ids}-{name}", origin, url
        )
    clicked = live_chart(figure, key=f"compare:{name}")
    st.markdown(f":small[:gray[{plain(figure.caption)}]]")
    if clicked is not None:
        st.session_state["picked"], st.session_state["picked_in"] = clicked, ("compare", name)
    with st.container():
        if st.session_state.get("picked_in") == ("compare", name):
            selected_evaluation(comparison, st.session_state["picked"])


def figure_url(comparison: Comparison, name: str) -> str:
    options = asdict(comparison.options)
    return permalinks.page_url(
        "compare",
        ids=",".join(side.key for side in comparison.sides),
        x=options["x"],
        y=options["y"],
        by=options["by"],
        change=list(options["changes"]),
        beside=list(options["beside"]),
        **dict(zip("ab", options["minus"], strict=False)),
        figure=name,
    )


def selected_evaluation(comparison: Comparison, point: int) -> None:
    """Draw the provenance of the evaluation whose mark was clicked."""
    owners = (side.id for side in comparison.sides if any(row.id == point for row in side.rows))
    id = next(owners, None)
    snapshot = None if id is None else pages.current_snapshot(id)
    if snapshot is not None:
        provenance(snapshot, point)


def body() -> None:
    ids = selected_ids()
    with st.container():
        selector(ids)
    if not ids:
        empty_state(
            "Nothing to compare yet",
            "Select two or more experiments above. Their suites and types may differ.",
        )
        return
    try:
        loaded = compared(ids, requested_options())
    except RequestRejectedError as error:
        empty_state("One of these experiments is not available", message(str(error)))
        refresh.stop()
        return
    if loaded is not None:
        draw(*loaded)


def draw(comparison: Comparison, figures: dict[str, Figure]) -> None:
    with st.container():
        for warning in comparison.warnings:
            st.warning(message(warning), icon=":material/warning:")
    with st.container():
        controls(comparison)
    with st.container():
        if not comparison.options.y:
            caption("These experiments have no common metric yet.")
    for name in ("curves", "difference"):
        figure = figures.get(name)
        with st.container():
            if figure and (name == "curves" or any(figure.datasets.values())):
                draw_figure(comparison, name, figure)
    with st.container():
        if len(comparison.sides) > 1:
            missing_evaluations.section(comparison)


st.title("Compare", anchor=False)
pages.run(body, interval=1)
