"""All experiments, newest first, with what each is doing now; the filter is in the address."""

import streamlit as st

from dashboard import watch
from dashboard.look import STATES, ago, badge, counted, duration, nothing_yet, plain, quiet
from ucurve.experiments import kinds
from ucurve.records import Experiment

SHOWN = 20


def title(kind: str) -> str:
    return getattr(kinds().get(kind), "title", "") or kind.replace("_", " ")


def row(experiment: Experiment) -> None:
    """One experiment: its name leads to its page."""
    progress = experiment.progress
    name, bar, state = st.columns([5, 4, 2.2], vertical_alignment="center", gap="medium")
    with name, st.container(gap="xxsmall"):
        st.page_link(
            "app_pages/experiment.py",
            label=plain(experiment.name) or f"experiment {experiment.id}",
            query_params={"id": str(experiment.id)},
        )
        tags = "".join(f" :gray-badge[{plain(tag)}]" for tag in experiment.tags)
        st.markdown(
            f":small[:gray[{plain(title(experiment.kind))} · {plain(experiment.owner)} · {ago(experiment.created_at)}]]{tags}"
        )
    with bar, st.container(gap=None):
        counts = f"{progress.done:,} of {counted(progress.total, 'point')}"
        if progress.failed:
            counts += f" · :red[{progress.failed:,} failed]"
        if progress.reused:
            counts += f" · {progress.reused:,} reused"
        st.progress((progress.done + progress.failed) / max(progress.total, 1), text=f":small[{counts}]")
        if experiment.waits_for and experiment.state in ("queued", "running"):
            st.markdown(f":small[:orange[{plain(experiment.waits_for)}]]")
    with state, st.container(gap="xxsmall"):
        st.markdown(badge(experiment.state))
        if experiment.eta_seconds is not None:
            quiet(f"about {duration(experiment.eta_seconds)} left")
    st.html('<hr style="margin:0;border:0;border-top:1px solid var(--st-border-color,#8883)">')


def body() -> None:
    filters = {"state": st.session_state.get("state"), "kind": st.session_state.get("kind"), "text": st.session_state.get("q")}
    filters = {name: value for name, value in filters.items() if value}
    shown = st.session_state.setdefault("shown", SHOWN)
    found = watch.latest(f"experiments {filters}", lambda: watch.client().experiments(limit=shown, **filters))
    if found is None:
        return
    if not found.experiments and not filters:
        nothing_yet(
            "No experiment yet",
            "Start with the two-layer linear model: its default settings run in seconds, and the answer is known.",
        )
    elif not found.experiments:
        quiet("No experiment fits the filter.")
    with st.container(key="experiments"):
        for experiment in found.experiments:
            row(experiment)
    if found.total > shown and st.button(f"Show more of {found.total:,}"):
        st.session_state["shown"] = min(shown + SHOWN, 500)
        st.rerun(scope="fragment")


head, action = st.columns([5, 1], vertical_alignment="bottom")
head.title("Experiments", anchor=False)
with action.container(horizontal_alignment="right"):
    if st.button("New experiment", type="primary", icon=":material/add:"):
        st.switch_page("app_pages/new.py")
text, state, kind = st.columns([3, 1, 1])
text.text_input("Find", key="q", placeholder="name, notes or tag", live="300ms", bind="query-params", icon=":material/search:")
state.selectbox(
    "State", [name for name in STATES if name != "open"], index=None, key="state", bind="query-params", placeholder="any"
)
kind.selectbox("Kind", list(kinds()), index=None, key="kind", format_func=title, bind="query-params", placeholder="any")
watch.page(body, every=1)
