"""What a fair comparison lacks: evaluations that one experiment has and the other does not."""

from __future__ import annotations

from functools import partial

import streamlit as st

from dashboard.auth import session
from dashboard.components.compared_experiments import selected_ids
from dashboard.components.theme import caption, counted, message, plain, roughly
from dashboard.live import pages
from ucurve.analysis.comparison import MissingPoints, completing_spec, setting_differences
from ucurve.client import Client, ClientError
from ucurve.client.comparisons import Comparison
from ucurve.schemas.experiments import PlanPreview


def section(comparison: Comparison) -> None:
    """Draw what the two experiments lack of each other, its cost, and a button to run it."""
    gaps = [gap for gap in comparison.missing() if gap.points or gap.without_checkpoint]
    st.markdown("## Missing for a fair comparison", anchors=False)
    for name, values in setting_differences(comparison.sides).items():
        settings = ", ".join(
            f"{value} (#{side.id})" for side, value in zip(comparison.sides, values, strict=True)
        )
        st.markdown(f"Settings differ in **{plain(name.replace('_', ' '))}**: {plain(settings)}.")
    if len({side.spec.kind for side in comparison.sides}) > 1:
        caption("Experiments of different types cannot be completed.")
    elif not gaps:
        caption("Nothing is missing: both have the same evaluations.")
    for gap in gaps:
        with st.container(border=True, gap="xsmall"):
            _gap(comparison, gap)
    if refusal := st.session_state.get("not completed"):
        st.warning(message(refusal), icon=":material/block:")


def _gap(comparison: Comparison, gap: MissingPoints) -> None:
    st.markdown(plain(gap.sentence))
    key = f"{gap.of.id}:{gap.within.id}"
    try:
        spec = completing_spec(gap)
        if spec is None:
            return
        plan = pages.cached(f"complete {key} {spec}", partial(pages.client().plan, spec))
    except (ClientError, ValueError) as error:
        st.warning(message(str(error)), icon=":material/block:")
        return
    if plan is None:
        return
    caption(_cost(plan))
    for remark in filter(None, [plan.waits_for, *plan.warnings]):
        caption(remark)
    barred = session.cannot_submit()
    st.button(
        f"Add {counted(len(gap.points), 'missing evaluation')}",
        key=f"complete:{key}",
        on_click=submit,
        args=(pages.client(), comparison, gap),
        icon=":material/add:",
        disabled=barred is not None,
        help=barred,
    )


def _cost(plan: PlanPreview) -> str:
    seconds = plan.estimated_seconds
    estimate = "" if seconds is None else f", {roughly(seconds)}"
    evaluations = counted(plan.num_points, "evaluation")
    return f"{plan.num_existing:,} of {evaluations} cached, {plan.num_new:,} to run{estimate}."


def submit(client: Client, comparison: Comparison, gap: MissingPoints) -> None:
    """Run the missing evaluations; the new experiment replaces the one that lacked them."""
    st.session_state["not completed"] = None
    try:
        spec = completing_spec(gap)
        assert spec is not None, "a button without missing evaluations"
        experiment = client.submit(spec, **comparison.submission(gap))
    except (ClientError, ValueError) as error:
        st.session_state["not completed"] = str(error)
        return
    ids = [experiment.id if id == gap.within.id else id for id in selected_ids()]
    st.query_params["ids"] = ",".join(map(str, ids))
    for key in "ab":
        if key in st.session_state and st.session_state[key] == gap.within.key:
            st.session_state[key] = st.query_params[key] = str(experiment.id)
