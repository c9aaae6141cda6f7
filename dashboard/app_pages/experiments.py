"""All experiments with what each is doing now; filters, order and page are in the address."""

import math
from datetime import timedelta
from typing import Any, get_args

import streamlit as st

from dashboard.auth import session
from dashboard.components import stars
from dashboard.components.theme import (
    STATES,
    ago,
    badge,
    caption,
    counted,
    empty_state,
    plain,
    roughly,
)
from dashboard.live import pages
from ucurve.experiments import kinds
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.search import FilterOptions, Order

SHOWN = 20
RARE = ("kind", "suite", "owner", "tag", "from", "to", "archived")


def title(kind: str) -> str:
    return getattr(kinds().get(kind), "title", "") or kind.replace("_", " ")


def row(experiment: Experiment) -> None:
    """One experiment: its name leads to its page."""
    progress = experiment.progress
    name, bar, state = st.columns([5, 4, 2.2], vertical_alignment="center", gap="medium")
    with name, st.container(gap="xxsmall"):
        mark = "★ " if stars.starred(experiment.id) else ""
        st.page_link(
            "app_pages/experiment.py",
            label=mark + plain(experiment.name) or f"experiment {experiment.id}",
            query_params={"id": str(experiment.id)},
        )
        tags = "".join(f" :gray-badge[{plain(tag)}]" for tag in experiment.tags)
        about = f"{plain(title(experiment.kind))} · {plain(experiment.owner)} · {ago(experiment.created_at)}"
        st.markdown(f":small[:gray[{about}{' · archived' if experiment.archived else ''}]]{tags}")
    with bar, st.container(gap=None):
        counts = f"{progress.done:,} of {counted(progress.total, 'point')}"
        if progress.failed:
            counts += f" · :red[{progress.failed:,} failed]"
        if progress.reused:
            counts += f" · {progress.reused:,} reused"
        st.progress(
            (progress.done + progress.failed) / max(progress.total, 1), text=f":small[{counts}]"
        )
        if experiment.waits_for and experiment.state in ("queued", "running"):
            st.markdown(f":small[:orange[{plain(experiment.waits_for)}]]")
    with state, st.container(gap="xxsmall"):
        st.markdown(badge(experiment.state))
        if experiment.eta_seconds is not None:
            caption(f"{roughly(experiment.eta_seconds)} left")
    st.html('<hr style="margin:0;border:0;border-top:1px solid var(--st-border-color,#8883)">')


def first_page() -> None:
    """Another filter or order begins at its first page."""
    st.session_state["page"] = 1


def filters() -> dict[str, Any]:
    """The widgets, and what they ask for."""
    bound: dict[str, Any] = {"bind": "query-params", "on_change": first_page}
    known = pages.shared_query(
        "choices", lambda client: client.filter_options(), interval=10
    ) or FilterOptions(kinds=[], suites=[], owners=[], tags=[])
    text, state, order, starred = st.columns([3, 2, 1.3, 0.9], vertical_alignment="bottom")
    text.text_input(
        "Find",
        key="q",
        placeholder="words in name, notes or tags",
        live="300ms",
        icon=":material/search:",
        **bound,
    )
    states = [name for name in STATES if name != "open"]
    state.multiselect("State", states, key="state", placeholder="any", **bound)
    order.selectbox("Order", get_args(Order), key="sort", **bound)
    starred.toggle("Starred", key="starred", **bound)
    with st.expander("More filters", expanded=any(name in st.query_params for name in RARE)):
        names: dict[str, Any] = {"placeholder": "any", "accept_new_options": True, **bound}
        one, two, three, four = st.columns(4)
        one.multiselect("Kind", sorted({*kinds(), *known.kinds}), key="kind", **names)
        two.multiselect("Suite", known.suites, key="suite", **names)
        three.multiselect("Owner", ["me", *known.owners], key="owner", **names)
        four.multiselect("Tags", known.tags, key="tag", **names)
        one, two, three, four = st.columns(4)
        one.date_input("Submitted from", None, key="from", format="YYYY-MM-DD", **bound)
        two.date_input("to", None, key="to", format="YYYY-MM-DD", **bound)
        three.selectbox("Archived", ["no", "also", "only"], key="archived", **bound)
    given = st.session_state
    asked = {
        name: given.get(name) for name in ("state", "kind", "suite", "owner", "tag", "starred")
    }
    asked |= {
        "text": (given.get("q") or "").strip(),
        "archived": "" if given.get("archived") == "no" else given.get("archived"),
    }
    asked["created_after"] = given["from"].isoformat() + "T00:00:00Z" if given.get("from") else None
    asked["created_before"] = (
        (given["to"] + timedelta(days=1)).isoformat() + "T00:00:00Z" if given.get("to") else None
    )
    return {name: value for name, value in asked.items() if value}


def body() -> None:
    page = int(st.session_state.get("page") or 1)
    asked = {
        **wanted,
        "sort": st.session_state.get("sort") or "newest",
        "limit": SHOWN,
        "offset": SHOWN * (page - 1),
    }
    whose = session.token() if asked.get("starred") or "me" in asked.get("owner", ()) else ""
    found = pages.shared_query(
        f"experiments {whose} {asked}", lambda client: client.experiments(**asked)
    )
    if found is None:
        return
    if not found.total and not wanted:
        empty_state(
            "No experiment yet",
            "Start with the two-layer linear model: its default settings run in seconds, and the answer is known.",
        )
    elif not found.total:
        caption("No experiment fits the filter.")
    with st.container(key="experiments"):
        for experiment in found.experiments:
            row(experiment)
    num_pages = max(1, math.ceil(found.total / SHOWN))
    below, count = st.columns([3, 1], vertical_alignment="center")
    with below.container():
        if num_pages > 1 or page > 1:
            st.pagination(max(num_pages, page), key="page", bind="query-params")
    with count.container():
        if found.total:
            st.markdown(
                f":small[:gray[{counted(found.total, 'experiment')}]]", text_alignment="right"
            )


head, action = st.columns([3, 1], vertical_alignment="bottom")
head.title("Experiments", anchor=False)
with action.container(horizontal_alignment="right"):
    if st.button("New experiment", type="primary", icon=":material/add:"):
        st.switch_page("app_pages/new.py")
wanted = filters()
pages.run(body, interval=0.5)
