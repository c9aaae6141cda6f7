"""The list of experiments; filters, order and page number are in the address."""

import math
from datetime import timedelta
from typing import Any, get_args

import streamlit as st

from dashboard.auth import session
from dashboard.components import stars
from dashboard.components.theme import (
    STATES,
    ago,
    caption,
    counted,
    empty_state,
    kind_title,
    plain,
    roughly,
    small,
    state_badge,
)
from dashboard.live import pages
from ucurve.experiments import kinds
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.search import FilterOptions, Order

PAGE_SIZE = 20
RARE_FILTERS = ("kind", "suite", "owner", "tag", "from", "to", "archived")
NO_OPTIONS = FilterOptions(kinds=[], suites=[], owners=[], tags=[])
DIVIDER = '<hr style="margin:0;border:0;border-top:1px solid var(--st-border-color,#8883)">'


def row(experiment: Experiment) -> None:
    """Draw one experiment; its name links to its page."""
    progress = experiment.progress
    name, bar, state = st.columns([5, 4, 2.2], vertical_alignment="center", gap="medium")
    with name, st.container(gap="xxsmall"):
        star = "★ " if stars.starred(experiment.id) else ""
        st.page_link(
            "app_pages/experiment.py",
            label=star + (plain(experiment.name) or f"Experiment {experiment.id}"),
            query_params={"id": str(experiment.id)},
        )
        tags = "".join(f" :gray-badge[{plain(tag)}]" for tag in experiment.tags)
        details = [kind_title(experiment.kind), experiment.owner, ago(experiment.created_at)]
        details += ["archived"] if experiment.archived else []
        st.markdown(f"{small(' · '.join(details))}{tags}")
    with bar, st.container(gap=None):
        counts = f"{progress.done:,} of {counted(progress.total, 'evaluation')}"
        counts += f" · :red[{progress.failed:,} failed]" if progress.failed else ""
        counts += f" · {progress.reused:,} cached" if progress.reused else ""
        st.progress(
            (progress.done + progress.failed) / max(progress.total, 1), text=f":small[{counts}]"
        )
        if experiment.waits_for and experiment.state in ("queued", "running"):
            st.markdown(f":small[:orange[{plain(experiment.waits_for)}]]")
    with state, st.container(gap="xxsmall"):
        st.markdown(state_badge(experiment))
        if experiment.eta_seconds is not None:
            caption(f"{roughly(experiment.eta_seconds)} left")
    st.html(DIVIDER)


def go_to_first_page() -> None:
    """Start at the first page when a filter or the order changes."""
    st.session_state["page"] = 1


BOUND: dict[str, Any] = {"bind": "query-params", "on_change": go_to_first_page}


def filters() -> dict[str, Any]:
    """Draw the filters and return the query that they make."""
    text, state, order, starred = st.columns([3, 2, 1.3, 0.9], vertical_alignment="bottom")
    text.text_input(
        "Search",
        key="q",
        placeholder="name, notes or tags",
        live="300ms",
        icon=":material/search:",
        **BOUND,
    )
    states = [name for name in STATES if name != "open"]
    state.multiselect("State", states, key="state", placeholder="any", **BOUND)
    order.selectbox("Sort by", get_args(Order), key="sort", **BOUND)
    starred.toggle("Starred", key="starred", **BOUND)
    rare = any(name in st.query_params for name in RARE_FILTERS)
    with st.expander("More filters", expanded=rare):
        rare_filters()
    return query()


def rare_filters() -> None:
    options = (
        pages.shared_query("choices", lambda client: client.filter_options(), interval=10)
        or NO_OPTIONS
    )
    names: dict[str, Any] = {"placeholder": "any", "accept_new_options": True, **BOUND}
    kind, suite, owner, tag = st.columns(4)
    kind.multiselect("Experiment type", sorted({*kinds(), *options.kinds}), key="kind", **names)
    suite.multiselect("Suite", options.suites, key="suite", **names)
    owner.multiselect("Owner", ["me", *options.owners], key="owner", **names)
    tag.multiselect("Tags", options.tags, key="tag", **names)
    after, before, archived, _ = st.columns(4)
    after.date_input("Submitted from", None, key="from", format="YYYY-MM-DD", **BOUND)
    before.date_input("Submitted to", None, key="to", format="YYYY-MM-DD", **BOUND)
    archived.selectbox("Archived", ["no", "also", "only"], key="archived", **BOUND)


def query() -> dict[str, Any]:
    """Return the filters' values as the client takes them."""
    values = st.session_state
    names = ("state", "kind", "suite", "owner", "tag", "starred")
    params = {name: values.get(name) for name in names}
    params["text"] = (values.get("q") or "").strip()
    params["archived"] = "" if values.get("archived") == "no" else values.get("archived")
    if after := values.get("from"):
        params["created_after"] = f"{after.isoformat()}T00:00:00Z"
    if before := values.get("to"):
        params["created_before"] = f"{(before + timedelta(days=1)).isoformat()}T00:00:00Z"
    return {name: value for name, value in params.items() if value}


def body() -> None:
    number = int(st.session_state.get("page") or 1)
    params = {
        **selection,
        "sort": st.session_state.get("sort") or "newest",
        "limit": PAGE_SIZE,
        "offset": PAGE_SIZE * (number - 1),
    }
    personal = params.get("starred") or "me" in params.get("owner", ())
    key = f"experiments {session.token() if personal else ''} {params}"
    page = pages.shared_query(key, lambda client: client.experiments(**params))
    if page is None:
        return
    if not page.total and not selection:
        empty_state(
            "No experiments yet",
            "Start with the two-layer linear model: its defaults run in seconds, "
            "and theory predicts the result.",
        )
    elif not page.total:
        caption("No experiments match the filters.")
    with st.container(key="experiments"):
        for experiment in page.experiments:
            row(experiment)
    num_pages = max(1, math.ceil(page.total / PAGE_SIZE))
    pagination, count = st.columns([3, 1], vertical_alignment="center")
    with pagination.container():
        if num_pages > 1 or number > 1:
            st.pagination(max(num_pages, number), key="page", bind="query-params")
    with count.container():
        if page.total:
            st.markdown(small(counted(page.total, "experiment")), text_alignment="right")


title, new = st.columns([3, 1], vertical_alignment="bottom")
title.title("Experiments", anchor=False)
with new.container(horizontal_alignment="right"):
    if st.button("New experiment", type="primary", icon=":material/add:"):
        st.switch_page("app_pages/new.py")
selection = filters()
pages.run(body, interval=0.5)
