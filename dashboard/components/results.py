"""What stands behind the figures: verdicts in words, and the table of measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import streamlit as st

from dashboard.components import add_draws
from dashboard.components.downloads import offer
from dashboard.components.provenance import label, provenance
from dashboard.components.theme import ANSWERS, badge, caption, counted, plain, roughly
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.analysis.verdict_order import ClaimGroup, by_claim
from ucurve.formatting import STATE_LABELS
from ucurve.schemas.measurements import MeasurementRow, decode_metrics
from ucurve.spec import Verdict


def verdicts(now: ExperimentSnapshot) -> None:
    """Claim by claim; each sentence can stand alone, the numbers behind it are under it."""
    if not now.experiment.progress.done or not (
        now.verdicts or now.verdict_problem or now.verdicts_pending
    ):
        return
    st.markdown("## What it says", anchors=False)
    if now.verdict_problem:
        st.error(
            f"The verdicts cannot be given: {plain(now.verdict_problem)}", icon=":material/error:"
        )
    if now.verdicts and not now.ended:
        caption(
            f"So far, from {counted(now.num_judged, 'point')} of {now.experiment.progress.total:,}; the rest may change it."
        )
    elif now.verdicts_pending and not now.verdicts:
        caption("Being worked out.")
    for claim in by_claim(now.verdicts):
        one_claim(claim)
    add_draws.buttons(now)


def one_claim(claim: ClaimGroup) -> None:
    """The overall answers; those of single conditions are folded away when there are many."""
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**{plain(claim.name[:1].upper() + claim.name[1:])}**")
        listed(claim.summaries, say_test=len(claim.tests) > 1)
        if claim.details:
            with st.expander(claim.details_title):
                listed(claim.details, say_test=len(claim.tests) > 1)
        if len(claim.tests) == 1:
            st.markdown(f":small[:gray[Test: {plain(claim.tests[0])}]]")


def listed(found: Sequence[Verdict], say_test: bool) -> None:
    """Each with its badge, its words and its numbers; neighbours that differ in their scope only are said once."""
    for _, group in groupby(
        found, key=lambda verdict: (verdict.answer, verdict.sentence, basis(verdict, say_test))
    ):
        same = list(group)
        answer, words = st.columns([1, 7], gap="small")
        answer.markdown(badge(same[0].answer, ANSWERS))
        scopes, numbers = (
            "; ".join(verdict.scope for verdict in same if verdict.scope),
            basis(same[0], say_test),
        )
        lines = [
            f":gray[{plain(scopes)}]" if scopes else "",
            plain(same[0].sentence),
            f":small[:gray[{plain(numbers)}]]" if numbers else "",
        ]
        words.markdown("  \n".join(line for line in lines if line))


def basis(verdict: Verdict, say_test: bool) -> str:
    """Effect with interval, p, draws, and the test."""
    return " · ".join(filter(None, [verdict.basis, verdict.test if say_test else ""]))


def measurements(now: ExperimentSnapshot) -> None:
    """Every point with its state; failures with their reasons first, then what is being measured, then the table."""
    rows = sorted(now.rows.values(), key=lambda row: row.position)
    st.markdown("## Measurements", anchors=False)
    failures(rows)
    failed_before(now)
    running = [row for row in rows if row.state == "running" and row.live and row.live.total]
    for row in running[:6]:
        left = (
            f", {roughly(row.live.seconds_left)} left"
            if row.live and row.live.seconds_left is not None
            else ""
        )
        assert row.live is not None
        st.progress(
            min(row.live.done / row.live.total, 1.0), text=f":small[{plain(label(row))}{left}]"
        )
    which, files = st.columns([4, 1], vertical_alignment="bottom")
    states = {
        "all": rows,
        **{
            state: [r for r in rows if r.state == state]
            for state in ("done", "running", "open", "failed")
        },
    }
    states["not finite"] = [row for row in rows if row.nonfinite]
    options = [state for state, found in states.items() if found or state == "all"]
    state = which.segmented_control(
        "Show",
        options,
        default="all",
        required=True,
        key=f"rows:{now.id}",
        label_visibility="collapsed",
        format_func=lambda state: (
            f"{'waiting' if state == 'open' else state} {len(states[state]):,}"
        ),
    )
    with files.container(horizontal_alignment="right"):
        rows_file = partial(
            pages.client().csv, now.id, now.as_of
        )  # the client is taken now: a download has no session
        offer(
            "Table",
            rows_file,
            f"ucurve-{now.id}.csv",
            "text/csv",
            f"table:{now.id}:{now.as_of}",
            framed=True,
        )
    table(now, states.get(state or "all", rows), state or "all")


def failures(rows: list[MeasurementRow]) -> None:
    reasons = Counter(
        row.error or "no reason was recorded" for row in rows if row.state == "failed"
    )
    if reasons:
        lines = "\n".join(
            f"- {counted(count, 'point')}: {plain(reason)}"
            for reason, count in reasons.most_common(8)
        )
        more = f"\n- and {len(reasons) - 8} more reasons, in the table" if len(reasons) > 8 else ""
        st.error(
            f"{counted(sum(reasons.values()), 'point')} failed.\n{lines}{more}",
            icon=":material/error:",
        )


def failed_before(now: ExperimentSnapshot) -> None:
    """Failed attempts stay visible when their points have succeeded since."""
    asked: dict[int, tuple[int, int]] = st.session_state.setdefault("failed before", {})
    if now.as_of is None and now.ended and asked.get(now.id, (-1,))[0] != now.cursor:
        found = pages.cached(
            f"origins {now.id}", lambda: pages.client().experiment_provenance(now.id)
        )
        asked[now.id] = now.cursor, found.num_failed_before if found else 0
    with st.container():
        if num := asked.get(now.id, (0, 0))[1]:
            caption(
                f"{counted(num, 'attempt')} failed or broke off before their points succeeded; a click on the point shows why."
            )


def shown(row: MeasurementRow) -> dict[str, Any]:
    """A row of the table: what was asked, what came out, and why not."""
    state = (
        "reused"
        if row.reused and row.state == "done"
        else "waiting"
        if row.state == "open"
        else row.state
    )
    out: dict[str, Any] = {
        "state": state,
        **row.labels,
        **decode_metrics(row.metrics, row.nonfinite),
    }
    if row.nonfinite:
        out["remark"] = ", ".join(
            f"{name} is {STATE_LABELS[why]}" for name, why in row.nonfinite.items()
        )
    if row.error:
        out["remark"] = row.error
    return out


@st.cache_resource(show_spinner=False, max_entries=50)
def arrow(_rows: Sequence[MeasurementRow], *key: Any) -> tuple[Any, list[str]]:
    """The rows as an Arrow table, and which columns are numbers; made once for all who look, since making it takes longest.

    key: what tells these rows from others.
    """
    import pandas as pd
    import pyarrow as pa

    data = pd.DataFrame([shown(row) for row in _rows])
    if "remark" in data:
        data.insert(1, "remark", data.pop("remark"))
    numbers = [str(name) for name in data.select_dtypes("float")]
    try:
        return pa.Table.from_pandas(data), numbers
    except (
        pa.ArrowException,
        OverflowError,
    ):  # a column that holds numbers and texts: Streamlit knows what to do
        return data, numbers


def table(now: ExperimentSnapshot, rows: list[MeasurementRow], which: str) -> None:
    if not rows:
        return
    data, numbers = arrow(rows, now.id, now.as_of, now.cursor, which)
    chosen = st.dataframe(
        data,
        hide_index=True,
        height=min(38 + 35 * len(rows), 400),
        key=f"table:{now.id}",
        placeholder="",
        column_config={name: st.column_config.NumberColumn(format="%.5g") for name in numbers},
        on_select="rerun",
        selection_mode="single-cell",
    )
    picked = [row for row, _ in chosen.selection.cells if row < len(rows)]
    if picked:
        provenance(now, rows[picked[0]].id, closable=False)
    else:
        caption("Click a row, or a mark in a figure, to see where its number comes from.")
