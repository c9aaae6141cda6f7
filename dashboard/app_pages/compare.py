"""Experiments laid over one another: curves, differences, and one click that measures what is missing. The address says all."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import streamlit as st

from dashboard.auth import session
from dashboard.components import permalinks, provenance
from dashboard.components.chart import live_chart
from dashboard.components.theme import caption, counted, empty_state, plain, roughly
from dashboard.forms.parsing import parse_id
from dashboard.live import pages, refresh
from ucurve.analysis.comparison import Side, axes, completed, other_settings, quantities
from ucurve.client import Client, ClientError, RequestRejectedError
from ucurve.client.comparisons import Comparison
from ucurve.experiments import parse
from ucurve.figures.comparison import GROUPS, Choice, values_of
from ucurve.schemas.references import ReferenceCurve
from ucurve.spec import Figure

OFFERED = 8  # experiments in the list to choose from
MOST = 12


def ids() -> list[int]:
    """The experiments in the address, each once."""
    numbers = map(parse_id, st.query_params.get("ids", "").split(","))
    return list(dict.fromkeys(number for number in numbers if number is not None))[:MOST]


def choose(id: int) -> None:
    now = ids()
    now = [one for one in now if one != id] if id in now else [*now, id]
    st.query_params["ids"] = ",".join(map(str, now))


def chooser(chosen: Sequence[int]) -> None:
    """Those chosen as they are called in the legend, and a list to choose from."""
    with st.expander("Choose experiments", expanded=len(chosen) < 2, icon=":material/checklist:"):
        st.text_input(
            "Find",
            key="q",
            placeholder="name, notes or tag",
            live="300ms",
            icon=":material/search:",
            bind="query-params",
        )
        text = st.session_state.get("q") or ""
        words = {"text": text} if text else {}
        page = pages.cached(
            f"compare {text}", lambda: pages.client().experiments(limit=OFFERED, **words)
        )
        for one in page.experiments if page else ():
            if st.session_state.get(f"choose:{one.id}") != (one.id in chosen):
                st.session_state[f"choose:{one.id}"] = one.id in chosen
            st.checkbox(
                f"**{one.id}** {plain(one.name)} :small[:gray[{plain(one.kind.replace('_', ' '))} · {plain(one.owner)} · "
                f"{one.progress.done:,} of {one.progress.total:,}]]",
                key=f"choose:{one.id}",
                on_change=choose,
                args=(one.id,),
            )
        if page and (more := page.total - OFFERED) > 0:
            caption(f"{more:,} more: find them by name, notes or tag.")
        if page and not page.experiments:
            caption("No experiment fits." if text else "There is none yet.")


def sides_of(chosen: Sequence[int]) -> tuple[list[Side], tuple[int, ...]]:
    """The experiments with their rows so far, and the cursors at which they were seen."""
    found, cursors, suites = [], [], suites_by_name()
    for id in chosen:
        now = pages.current_snapshot(id)
        if now is None:
            continue
        rows = sorted(now.rows.values(), key=lambda row: row.position)
        suite = next((str(row.labels["suite"]) for row in rows if row.labels.get("suite")), "")
        found.append(
            Side(id, now.experiment.name, parse(now.experiment.spec), rows, suites.get(suite))
        )
        cursors.append(now.cursor)
    return found, tuple(cursors)


@st.cache_data(ttl=10, show_spinner=False)
def _curves() -> list[ReferenceCurve]:
    """The same for everybody who may look, so one question serves all."""
    return pages.client().references()


def curves() -> list[ReferenceCurve]:
    return pages.cached("references", _curves) or []


def suites_by_name() -> dict[str, Any]:
    """Asked for again after half a minute: they change rarely, and this page asks every second."""
    held: tuple[float, dict[str, Any]] | None = st.session_state.get("suites of compare")
    if held is None or time.monotonic() > held[0] + 30:
        found = pages.cached("suites", pages.client().suites) or []
        held = st.session_state["suites of compare"] = (
            time.monotonic(),
            {suite.name: suite for suite in found},
        )
    return held[1]


def compared(chosen: Sequence[int], asked: Choice) -> tuple[Comparison, dict[str, Figure]] | None:
    """Worked out anew when rows or the choice changed, rows at most half of the time."""
    sides, cursors = sides_of(chosen)
    if len(sides) < len(chosen):
        return None
    held = st.session_state.get("comparison", {})
    same_choice = held.get("asked") == (tuple(chosen), asked)
    if not same_choice or (held["cursors"] != cursors and time.monotonic() > held["due"]):
        began, known = time.monotonic(), held.get("on_what", {})
        for side in sides:
            if side.rows and side.id not in known:
                known[side.id] = pages.client().measurement_settings(side)
        found = Comparison(sides, asked, [known.get(side.id, {}) for side in sides], curves())
        held = {
            "asked": (tuple(chosen), asked),
            "cursors": cursors,
            "on_what": known,
            "found": (found, found.figures()),
        }
        held["due"] = 2 * time.monotonic() - began
        st.session_state["comparison"] = held
    elif held["cursors"] != cursors:
        refresh.track("comparison", lambda: time.monotonic() > held["due"])
    found_and_drawn: tuple[Comparison, dict[str, Figure]] = held["found"]
    return found_and_drawn


def asked() -> Choice:
    """What the fields say; before they are drawn for the first time, what the address says."""

    def one(name: str, default: str = "") -> str:
        return str(st.session_state.get(name) or st.query_params.get(name, default))

    changes = st.session_state.get("change") or st.query_params.get_all("change")
    minus = tuple(filter(None, (one("a"), one("b"))))
    beside = st.session_state.get("beside") or st.query_params.get_all("beside")
    return Choice(one("x"), one("y"), one("by", "side"), tuple(changes), minus, tuple(beside))


def controls(found: Comparison) -> None:
    """What is on which axis, what the colours mean, which modifications, and what is subtracted from what."""
    shown, table = found.options, found.table
    xs, ys = axes(found.sides, table), quantities(found.sides, table)
    names = {side.key: f"{side.id} {side.name}" for side in found.sides}
    y, x, by = st.columns(3)
    pick(y, "Show", "y", list(ys), shown.y, ys)
    pick(x, "Over", "x", list(xs), shown.x, xs)
    pick(by, "Colours", "by", list(GROUPS), shown.by, GROUPS)
    lines, a, b = st.columns([2, 1, 1])
    there = list(found.changes)
    forget("change", not set(st.session_state.get("change", [])) <= set(there))
    lines.multiselect(
        "Modifications",
        there,
        list(shown.changes),
        key="change",
        on_change=to_address,
        args=("change",),
    )
    with st.container():
        if found.reference_options:
            forget(
                "beside",
                not set(st.session_state.get("beside", [])) <= set(found.reference_options),
            )
            chosen = [label for label in shown.beside if label in found.reference_options]
            st.pills(
                "Beside it, not measured here",
                list(found.reference_options),
                selection_mode="multi",
                default=chosen,
                key="beside",
                on_change=to_address,
                args=("beside",),
            )
    members = values_of(table, shown.by)
    for place, label, key, value in zip(
        (a, b), ("A", "minus B"), "ab", (*shown.minus, "", "")[:2], strict=True
    ):
        pick(place, label, key, members, value, names if shown.by == "side" else {})


def pick(
    place: Any, label: str, key: str, options: list[str], value: str, titles: Mapping[str, str]
) -> None:
    forget(key, st.session_state.get(key) not in options)
    index = options.index(value) if value in options else None
    place.selectbox(
        label,
        options,
        index,
        lambda one: titles.get(one, one),
        key,
        on_change=to_address,
        args=(key,),
        placeholder="",
    )


def forget(key: str, gone: bool) -> None:
    """What was chosen among experiments that are not compared any more."""
    if gone:
        st.session_state.pop(key, None)


def to_address(key: str) -> None:
    """What was chosen, into the address: fields take their first value from there."""
    if st.session_state[key]:
        st.query_params[key] = st.session_state[key]
    else:
        st.query_params.pop(key, None)


def figure(found: Comparison, name: str, drawn: Figure) -> None:
    state = asdict(found.options)
    query = {
        "ids": ",".join(side.key for side in found.sides),
        **{key: state[key] for key in ("x", "y", "by")},
    }
    query |= {
        "change": list(state["changes"]),
        "beside": list(state["beside"]),
        **dict(zip("ab", state["minus"], strict=False)),
    }
    link = permalinks.address("compare", **query, figure=name)
    title, corner = st.columns([8, 1], vertical_alignment="center")
    title.markdown(f"### {plain(drawn.title)}", anchors=False)
    with corner:
        stem = f"ucurve-compare-{query['ids'].replace(',', '-')}-{name}"
        permalinks.files_and_link(
            drawn, f"compare:{name}", stem, found.origin(name, pages.client().url, link), link
        )
    picked = live_chart(drawn, key=f"compare:{name}")
    st.markdown(f":small[:gray[{plain(drawn.caption)}]]")
    if picked is not None:
        st.session_state["picked"], st.session_state["picked_in"] = picked, ("compare", name)
    with st.container():
        if st.session_state.get("picked_in") == ("compare", name):
            point = st.session_state["picked"]
            of = next(
                (side.id for side in found.sides if any(row.id == point for row in side.rows)), None
            )
            if of is not None and (now := pages.current_snapshot(of)) is not None:
                provenance.provenance(now, point)


def missing(found: Comparison) -> None:
    """What the two lack of each other, what it would cost, and the click that asks for it."""
    barred = session.cannot_submit()
    lacking = [one for one in found.missing() if one.points or one.without_checkpoint]
    st.markdown("## What a fair comparison lacks", anchors=False)
    settings = other_settings(found.sides)
    for name, values in settings.items():
        said = ", ".join(
            f"{side.id}: {value}" for side, value in zip(found.sides, values, strict=True)
        )
        st.markdown(f"They differ in **{plain(name.replace('_', ' '))}**: {plain(said)}.")
    if len({side.spec.kind for side in found.sides}) > 1:
        caption("They are of different kinds, so that nothing can be completed.")
    elif not lacking:
        caption("Both have all points of each other.")
    for one in lacking:
        with st.container(border=True, gap="xsmall"):
            st.markdown(plain(one.sentence))
            key = f"{one.of.id}:{one.within.id}"
            try:
                spec = completed(one)
                if spec is None:
                    continue
                preview = pages.cached(f"complete {key} {spec}", partial(pages.client().plan, spec))
            except (ClientError, ValueError) as error:
                st.warning(plain(str(error)), icon=":material/block:")
                continue
            if preview is None:
                continue
            cost = (
                ""
                if preview.estimated_seconds is None
                else f", {roughly(preview.estimated_seconds)}"
            )
            caption(
                f"{preview.num_existing:,} of {counted(preview.num_points, 'point')} exist, {preview.num_new:,} to measure{cost}."
            )
            for remark in filter(None, [preview.waits_for, *preview.warnings]):
                caption(remark)
            st.button(
                f"Add {counted(len(one.points), 'missing point')}",
                key=f"complete:{key}",
                on_click=submit,
                args=(pages.client(), found, one),
                icon=":material/add:",
                disabled=barred is not None,
                help=barred,
            )
    if refusal := st.session_state.get("not completed"):
        st.warning(plain(refusal), icon=":material/block:")


def submit(client: Client, found: Comparison, lacking: Any) -> None:
    """Ask for the missing points; the new experiment takes the place of the one that lacked them."""
    st.session_state["not completed"] = None
    try:
        spec = completed(lacking)
        assert spec is not None, "a button without missing points"
        made = client.submit(spec, **found.submission(lacking))
    except (ClientError, ValueError) as error:
        st.session_state["not completed"] = str(error)
        return
    st.query_params["ids"] = ",".join(
        str(made.id if one == lacking.within.id else one) for one in ids()
    )
    for key in "ab":
        if key in st.session_state and st.session_state[key] == lacking.within.key:
            st.session_state[key] = st.query_params[key] = str(made.id)


def body() -> None:
    chosen = ids()
    with st.container():
        chooser(chosen)
    if len(chosen) < 1:
        empty_state(
            "Nothing to compare yet",
            "Choose two experiments or more above; they may be of different suites or kinds.",
        )
        return
    try:
        answer = compared(chosen, asked())
    except RequestRejectedError as error:
        empty_state("One of these experiments is not available", plain(str(error)))
        refresh.stop()
        return
    if answer is None:
        return
    found, drawn = answer
    with st.container():
        for caution in found.warnings:
            st.warning(plain(caution), icon=":material/warning:")
    with st.container():
        controls(found)
    with st.container():
        if not found.options.y:
            caption("They have no measured quantity in common yet.")
    for name in ("curves", "difference"):
        with st.container():
            if (
                name in drawn
                and found.options.y
                and (name == "curves" or any(drawn[name].datasets.values()))
            ):
                figure(found, name, drawn[name])
    with st.container():
        if len(found.sides) > 1:
            missing(found)


st.title("Compare", anchor=False)
pages.run(body, interval=1)
