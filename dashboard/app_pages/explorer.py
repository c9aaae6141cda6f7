"""Everything that anybody here has measured: filtered, laid out by two labels, drawn, and as files. All of it is in the address."""

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from dashboard.components.chart import FORMS, live_chart
from dashboard.components.downloads import offer
from dashboard.components.theme import ago, caption, empty_state, plain
from dashboard.forms.parsing import parse_id, parse_tokens
from dashboard.live import pages
from ucurve.client import RequestRejectedError
from ucurve.experiments import kinds
from ucurve.figures import pivot
from ucurve.figures.files import figure_file
from ucurve.schemas.explorer import Facets, PivotQuery, PointRow, condition
from ucurve.schemas.measurements import decode_metrics

if TYPE_CHECKING:
    import pandas as pd

ALWAYS = [
    "tokens",
    "suite",
    "kind",
    "evaluation",
]  # columns of every measurement, whatever its labels
AGGREGATES = ["mean", "median", "min", "max", "count"]
MOST_OFFERED = 40  # values of one label among the conditions; others are typed
PAGE = 50
CSV: Literal["csv"] = "csv"
PARQUET: Literal["parquet"] = "parquet"
RARE = ("from", "to", "after", "before", "repeats", "state")


def newest() -> None:
    """Another choice of points begins with its newest."""
    st.query_params.pop("older", None)


BOUND: dict[str, Any] = {"bind": "query-params", "on_change": newest}


def chosen() -> dict[str, Any]:
    """What the widgets ask for, as the client takes it."""
    given = st.session_state
    asked: dict[str, Any] = {
        name: given.get(name) for name in ("suite", "kind", "evaluation", "repeats")
    }
    asked["where"] = [one for one in given.get("where") or [] if readable(one)]
    for name, key in (("tokens_from", "from"), ("tokens_to", "to")):
        try:
            asked[name] = parse_tokens(given.get(key))
        except ValueError as error:
            st.warning(str(error), icon=":material/edit:")
    asked["finished_after"] = (
        given["after"].isoformat() + "T00:00:00Z" if given.get("after") else None
    )
    asked["finished_before"] = (
        (given["before"] + timedelta(days=1)).isoformat() + "T00:00:00Z"
        if given.get("before")
        else None
    )
    return {name: value for name, value in asked.items() if value}


def readable(typed: str) -> bool:
    try:
        condition(typed)
    except ValueError as error:
        st.warning(plain(str(error)), icon=":material/edit:")
        return False
    return True


def offered(facets: Facets) -> list[str]:
    """A condition per value of every label that has few."""
    few = (
        label
        for label in facets.labels
        if label.num_values <= MOST_OFFERED and label.name not in ("suite", "tokens", "revision")
    )
    return [
        f"{label.name}={pivot.name_of(value) if value is not None else 'null'}"
        for label in few
        for value in label.values
    ]


def filters(facets: Facets) -> None:
    names: dict[str, Any] = {"placeholder": "any", "accept_new_options": True, **BOUND}
    suite, kind, evaluation = st.columns(3)
    suite.multiselect("Suites", facets.suites, key="suite", **names)
    kind.multiselect("Kinds", facets.kinds, key="kind", **names)
    evaluation.multiselect("Evaluation sets", facets.evaluations, key="evaluation", **names)
    where = "Labels are those with which a point was first planned. Of one label, several values are alternatives."
    st.multiselect(
        "Conditions",
        offered(facets),
        key="where",
        help=where,
        **names | {"placeholder": "gamma=0.1, scale=init_std, learning_rate>=0.001"},
    )
    with st.expander("More filters", expanded=any(name in st.query_params for name in RARE)):
        one, two, three, four = st.columns(4)
        one.text_input("Tokens from", key="from", placeholder="3M", **BOUND)
        two.text_input("to", key="to", placeholder="2.1B", **BOUND)
        three.date_input("Finished from", None, key="after", format="YYYY-MM-DD", **BOUND)
        four.date_input("to", None, key="before", format="YYYY-MM-DD", **BOUND)
        repeats = "Numbers that somebody asked for once more, to compare them; each is a point of its own here."
        st.toggle("Also repeated measurements", key="repeats", help=repeats, **BOUND)


def layout(facets: Facets) -> dict[str, Any]:
    """Rows, columns, metric and aggregate."""
    labels = ALWAYS + [label.name for label in facets.labels if label.name not in ALWAYS]
    rows, columns, metric, aggregate = st.columns([1, 1, 1, 2.4], vertical_alignment="bottom")
    rows.selectbox("Rows", labels, key="rows", **BOUND)
    columns.selectbox(
        "Columns", labels, index=None, key="columns", placeholder="one column", **BOUND
    )
    metric.selectbox("Metric", facets.metrics or ["nll_mean"], key="metric", **BOUND)
    aggregate.segmented_control(
        "Of a cell's points", AGGREGATES, default="mean", key="aggregate", required=True, **BOUND
    )
    given = st.session_state
    asked = {name: given.get(name) for name in ("rows", "columns", "metric", "aggregate")}
    return {name: value for name, value in asked.items() if value}


def pivoted(sought: dict[str, Any], laid_out: dict[str, Any]) -> None:
    found = pages.cached(
        f"pivot {sought} {laid_out}", lambda: pages.client().pivot(**sought, **laid_out)
    )
    if found is None:
        return
    if not found.cells:
        if sought:
            empty_state("Nothing is measured there", "Fewer filters find more.")
        else:
            empty_state("Nothing is measured yet", "What any experiment measures is found here.")
        return
    with st.container():
        if mix := pivot.mixed(found):
            st.warning(
                f"A cell may mix {plain(mix)}: its spread is then not that of draws. Lay out by these, or add a condition.",
                icon=":material/shuffle:",
            )
    asked = PivotQuery(**sought, **laid_out)
    figure = pivot.figure(found, asked)
    head, files = st.columns([6, 1], vertical_alignment="center")
    head.markdown(f"### {plain(figure.title)}", anchors=False)
    with (
        files.container(horizontal_alignment="right"),
        st.popover("", icon=":material/download:", type="tertiary", help="Download"),
    ):
        for form in FORMS:
            made = partial(figure_file, figure, form)
            offer(form.upper(), made, f"ucurve-pivot.{form}", FORMS[form], f"pivot:{form}")
    live_chart(figure, key="pivot")
    st.markdown(f":small[:gray[{plain(figure.caption)}]]")
    st.dataframe(pivot.table(found, asked), width="stretch")


def matching(sought: dict[str, Any]) -> None:
    """The points themselves, the newest first, and all of them as a file."""
    head, states, csv, parquet = st.columns([3, 2.4, 1, 1], vertical_alignment="bottom")
    head.markdown("### Points", anchors=False)
    states.multiselect(
        "State", ["done", "failed", "running", "open"], default=["done"], key="state", **BOUND
    )
    sought = sought | (
        {"state": st.session_state["state"]} if st.session_state.get("state") else {}
    )
    for place, form, kind in (
        (csv, CSV, "text/csv"),
        (parquet, PARQUET, "application/vnd.apache.parquet"),
    ):
        made = partial(pages.client().export_points, form, **sought)
        with place:
            label = {CSV: "CSV", PARQUET: "Parquet"}[form]
            offer(label, made, f"ucurve-measurements.{form}", kind, f"points:{form}", framed=True)
    before = parse_id(st.query_params.get("older"))
    page = pages.cached(
        f"points {sought} {before}", lambda: pages.client().find(before, PAGE, **sought)
    )
    if page is None:
        return
    if not page.points:
        caption("No point fits the filters." if before is None else "There are no older ones.")
    else:
        st.dataframe(frame(page.points), hide_index=True, width="stretch")
    first, older, _ = st.columns([1, 1, 4])
    first.button("Newest", disabled=before is None, width="stretch", on_click=newest)
    older.button(
        "Older", disabled=page.next is None, width="stretch", on_click=turn, args=(page.next,)
    )


def turn(before: int | None) -> None:
    st.query_params["older"] = str(before)


def frame(points: list[PointRow]) -> "pd.DataFrame":
    import pandas as pd

    rows = [
        {
            "point": one.id,
            **one.labels,
            "evaluation": one.evaluation,
            **decode_metrics(one.metrics, one.nonfinite),
            "state": one.state,
        }
        | {"error": one.error, "finished": one.finished_at and ago(one.finished_at)}
        for one in points
    ]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def body() -> None:
    try:
        pivoted(sought, laid_out)
        with st.container():
            matching(sought)
    except RequestRejectedError as error:
        st.warning(plain(str(error)), icon=":material/block:")


def opening() -> None:
    """Without anything asked for: what the newest experiment measures, a line per size of its change. All at once would mix."""
    if st.query_params or st.session_state.get("explored"):
        return
    st.session_state["explored"] = True
    page = pages.cached("newest", lambda: pages.client().experiments(limit=20))
    for one in page.experiments if page else ():
        if one.progress.done and isinstance(suite := one.spec.get("suite"), str):
            kind = kinds().get(one.kind)
            columns = {"columns": kind.columns.change[0]} if kind and kind.columns.change else {}
            st.switch_page(
                "app_pages/explorer.py", query_params={"suite": suite, "kind": one.kind, **columns}
            )


st.title("Explorer", anchor=False)
caption("Everything that anybody here has measured, over all experiments.")
opening()
known = {
    name: list(st.session_state.get(name) or st.query_params.get_all(name))
    for name in ("suite", "kind", "evaluation")
}
found = pages.cached(
    f"facets {known}",
    lambda: pages.client().facets(**{name: value for name, value in known.items() if value}),
)
facets = found or Facets(suites=[], kinds=[], evaluations=[], labels=[], metrics=[])
filters(facets)
laid_out = layout(facets)
sought = chosen()
pages.run(body, interval=None)
