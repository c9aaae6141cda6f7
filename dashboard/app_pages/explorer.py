"""All evaluations of the lab: filtered, pivoted, plotted and exported; the address holds it all."""

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from dashboard.components.chart import FORMS, live_chart
from dashboard.components.downloads import download_link
from dashboard.components.permalinks import FORM_LABELS
from dashboard.components.theme import LABELS, ago, caption, empty_state, message, plain
from dashboard.forms.parsing import parse_id, parse_tokens
from dashboard.live import pages
from ucurve.client import RequestRejectedError
from ucurve.experiments import kinds
from ucurve.figures import pivot as pivots
from ucurve.figures.files import figure_file
from ucurve.schemas.explorer import Facets, Pivot, PivotQuery, PointRow, condition
from ucurve.schemas.measurements import decode_metrics

if TYPE_CHECKING:
    import pandas as pd

GENERAL_LABELS = ["tokens", "suite", "kind", "evaluation"]  # of every evaluation
AGGREGATES = ["mean", "median", "min", "max", "count"]
MAX_SUGGESTED = 40  # values of a label among the suggested conditions; others are typed
PAGE_SIZE = 50
TABLE_FORMS: dict[Literal["csv", "parquet"], tuple[str, str]] = {
    "csv": ("CSV", "text/csv"),
    "parquet": ("Parquet", "application/vnd.apache.parquet"),
}
STATES = ["done", "failed", "running", "open"]
RARE_FILTERS = ("from", "to", "after", "before", "repeats", "state")


def show_newest() -> None:
    """Start at the newest evaluations when the filters change."""
    st.query_params.pop("older", None)


BOUND: dict[str, Any] = {"bind": "query-params", "on_change": show_newest}


def current_filters() -> dict[str, Any]:
    """Return the filters' values as the client takes them; bad ones are reported and ignored."""
    values = st.session_state
    names = ("suite", "kind", "evaluation", "repeats")
    params: dict[str, Any] = {name: values.get(name) for name in names}
    params["where"] = [text for text in values.get("where") or [] if is_condition(text)]
    for name, key in (("tokens_from", "from"), ("tokens_to", "to")):
        try:
            params[name] = parse_tokens(values.get(key))
        except ValueError as error:
            st.warning(str(error), icon=":material/edit:")
    if after := values.get("after"):
        params["finished_after"] = f"{after.isoformat()}T00:00:00Z"
    if before := values.get("before"):
        params["finished_before"] = f"{(before + timedelta(days=1)).isoformat()}T00:00:00Z"
    return {name: value for name, value in params.items() if value}


def is_condition(text: str) -> bool:
    try:
        condition(text)
    except ValueError as error:
        st.warning(message(str(error)), icon=":material/edit:")
        return False
    return True


def suggested_conditions(facets: Facets) -> list[str]:
    """Return a condition for each value of every label with few values."""
    labels = [
        label
        for label in facets.labels
        if label.num_values <= MAX_SUGGESTED and label.name not in ("suite", "tokens", "revision")
    ]
    return [
        f"{label.name}={'null' if value is None else pivots.name_of(value)}"
        for label in labels
        for value in label.values
    ]


def filters(facets: Facets) -> None:
    names: dict[str, Any] = {"placeholder": "any", "accept_new_options": True, **BOUND}
    suite, kind, evaluation = st.columns(3)
    suite.multiselect("Suite", facets.suites, key="suite", **names)
    kind.multiselect("Experiment type", facets.kinds, key="kind", **names)
    evaluation.multiselect("Evaluation set", facets.evaluations, key="evaluation", **names)
    st.multiselect(
        "Filters",
        suggested_conditions(facets),
        key="where",
        help="Label, comparison, value. Several values of one label are alternatives. "
        "Labels are those of the experiment that first planned the evaluation.",
        **names | {"placeholder": "gamma=0.1, scale=init_std, learning_rate>=0.001"},
    )
    rare = any(name in st.query_params for name in RARE_FILTERS)
    with st.expander("More filters", expanded=rare):
        tokens_from, tokens_to, after, before = st.columns(4)
        tokens_from.text_input("Tokens from", key="from", placeholder="3M", **BOUND)
        tokens_to.text_input("Tokens to", key="to", placeholder="2.1B", **BOUND)
        after.date_input("Finished from", None, key="after", format="YYYY-MM-DD", **BOUND)
        before.date_input("Finished to", None, key="before", format="YYYY-MM-DD", **BOUND)
        st.toggle(
            "Include re-measured evaluations",
            key="repeats",
            help="Repetitions that were run to check reproducibility.",
            **BOUND,
        )


def layout(facets: Facets) -> dict[str, Any]:
    """Draw the pivot's settings and return them: rows, columns, metric, aggregate."""
    labels = GENERAL_LABELS + [
        label.name for label in facets.labels if label.name not in GENERAL_LABELS
    ]
    rows, columns, metric, aggregate = st.columns([1, 1, 1, 2.4], vertical_alignment="bottom")
    rows.selectbox("Rows", labels, key="rows", **BOUND)
    columns.selectbox("Columns", labels, index=None, key="columns", placeholder="none", **BOUND)
    metric.selectbox("Metric", facets.metrics or ["nll_mean"], key="metric", **BOUND)
    aggregate.segmented_control(
        "Aggregate", AGGREGATES, default="mean", key="aggregate", required=True, **BOUND
    )
    names = ("rows", "columns", "metric", "aggregate")
    return {name: value for name in names if (value := st.session_state.get(name))}


def pivot_section(params: dict[str, Any], pivot_params: dict[str, Any]) -> None:
    pivot = pages.cached(
        f"pivot {params} {pivot_params}", lambda: pages.client().pivot(**params, **pivot_params)
    )
    if pivot is None:
        return
    if not pivot.cells:
        if params:
            empty_state("No evaluations match the filters", "Remove a filter to see more.")
        else:
            empty_state("No evaluations yet", "Results of all experiments appear here.")
        return
    draw_pivot(pivot, PivotQuery(**params, **pivot_params))


def draw_pivot(pivot: Pivot, query: PivotQuery) -> None:
    with st.container():
        if labels := pivots.mixed(pivot):
            st.warning(
                f"Cells average over {plain(labels)}, so their spread is not only noise. "
                "Group by these, or add a filter.",
                icon=":material/shuffle:",
            )
    figure = pivots.figure(pivot, query)
    title, files = st.columns([6, 1], vertical_alignment="center")
    title.markdown(f"### {plain(figure.title)}", anchors=False)
    with (
        files.container(horizontal_alignment="right"),
        st.popover("", icon=":material/download:", type="tertiary", help="Download"),
    ):
        for form, mime in FORMS.items():
            make = partial(figure_file, figure, form)
            label = FORM_LABELS.get(form, form.upper())
            download_link(label, make, f"ucurve-pivot.{form}", mime, f"pivot:{form}")
    live_chart(figure, key="pivot")
    st.markdown(f":small[:gray[{plain(figure.caption)}]]")
    st.dataframe(pivots.table(pivot, query), width="stretch")


def evaluations_section(params: dict[str, Any]) -> None:
    """Draw the matching evaluations, newest first, and links to export all of them."""
    title, states, *files = st.columns([3, 2.4, 1, 1], vertical_alignment="bottom")
    title.markdown("### Evaluations", anchors=False)
    states.multiselect(
        "State",
        STATES,
        default=["done"],
        key="state",
        **BOUND,
    )
    if state := st.session_state.get("state"):
        params = params | {"state": state}
    for place, (form, (label, mime)) in zip(files, TABLE_FORMS.items(), strict=True):
        export = partial(pages.client().export_points, form, **params)
        name, key = f"ucurve-evaluations.{form}", f"points:{form}"
        with place:
            download_link(label, export, name, mime, key, framed=True)
    before = parse_id(st.query_params.get("older"))
    page = pages.cached(
        f"points {params} {before}", lambda: pages.client().find(before, PAGE_SIZE, **params)
    )
    if page is None:
        return
    if page.points:
        st.dataframe(frame(page.points), hide_index=True, width="stretch")
    elif before is None:
        caption("No evaluations match the filters.")
    else:
        caption("No older evaluations.")
    newest, older, _ = st.columns([1, 1, 4])
    newest.button("Newest", disabled=before is None, width="stretch", on_click=show_newest)
    older.button(
        "Older",
        disabled=page.next is None,
        width="stretch",
        on_click=show_older,
        args=(page.next,),
    )


def show_older(before: int | None) -> None:
    st.query_params["older"] = str(before)


def frame(points: list[PointRow]) -> "pd.DataFrame":
    import pandas as pd

    rows = [
        {
            "id": point.id,
            **point.labels,
            **({} if "evaluation" in point.labels else {"evaluation": point.evaluation}),
            **decode_metrics(point.metrics, point.nonfinite),
            "state": LABELS.get(point.state, point.state),
            "error": point.error,
            "finished": point.finished_at and ago(point.finished_at),
        }
        for point in points
    ]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def body() -> None:
    pivot_section(selection, pivot_selection)
    with st.container():
        evaluations_section(selection)


def open_newest_experiment() -> None:
    """Without filters in the address, show the newest experiment: everything at once would mix.

    The columns are its perturbation sizes.
    """
    if st.query_params or st.session_state.get("explored"):
        return
    st.session_state["explored"] = True
    page = pages.cached("newest", lambda: pages.client().experiments(limit=20))
    for experiment in page.experiments if page else ():
        suite = experiment.spec.get("suite")
        if experiment.progress.done and isinstance(suite, str):
            kind = kinds().get(experiment.kind)
            treatment = kind.columns.treatment if kind else ()
            columns = {"columns": treatment[0]} if treatment else {}
            st.switch_page(
                "app_pages/explorer.py",
                query_params={"suite": suite, "kind": experiment.kind, **columns},
            )


def load_facets() -> Facets:
    """Return the options of all fields, given those already selected."""
    selected = {
        name: list(st.session_state.get(name) or st.query_params.get_all(name))
        for name in ("suite", "kind", "evaluation")
    }
    params = {name: values for name, values in selected.items() if values}
    try:
        facets = pages.cached(f"facets {params}", lambda: pages.client().facets(**params))
    except RequestRejectedError as error:
        st.warning(message(str(error)), icon=":material/block:")
        facets = None
    return facets or Facets(suites=[], kinds=[], evaluations=[], labels=[], metrics=[])


st.title("Explorer", anchor=False)
caption("Evaluations of all experiments in this lab.")
open_newest_experiment()
facets = load_facets()
filters(facets)
pivot_selection = layout(facets)
selection = current_filters()
pages.run(body, interval=None)
