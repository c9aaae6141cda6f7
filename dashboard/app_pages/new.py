"""A new experiment: the form of a kind, what it would measure, and the button."""

import time
from typing import Any

import streamlit as st
from pydantic import ValidationError

from dashboard.auth import session
from dashboard.components.theme import caption, counted, plain
from dashboard.forms import drafts, widgets
from dashboard.forms.parsing import parse_bounded, parse_id, shortened
from dashboard.forms.schema_form import Field, fields, placed, readings, spec_of, titles
from dashboard.live import pages
from ucurve.client import ApiUnavailableError, RequestRejectedError
from ucurve.experiments import kinds
from ucurve.formatting import plan_summary
from ucurve.schemas.experiments import PlanPreview
from ucurve.schemas.validation_messages import wrong_in
from ucurve.schemas.webhooks import problem_of
from ucurve.spec import Spec

SAME_CLICK = (
    3.0  # seconds after a submission in which another one is the second half of a double click
)


def clone(id: str) -> None:
    """Fill the form from an experiment, once: ?clone=7."""
    del st.query_params["clone"]
    number = parse_id(id)
    if number is None:
        st.warning(f"No such experiment: {plain(shortened(id))}.")
        return
    try:
        origin = pages.client().experiment(number)
    except (ApiUnavailableError, RequestRejectedError) as error:
        st.warning(f"Experiment {number} cannot be cloned: {plain(str(error))}")
        return
    if origin.kind in kinds():
        widgets.set_value("new:kind", origin.kind)
        widgets.fill(fields(kinds()[origin.kind]), f"{origin.kind}:", origin.spec)
    widgets.set_value("new:name", f"{origin.name}, changed" if origin.name else "")
    widgets.set_value("new:tags", ", ".join(origin.tags))
    widgets.set_value("new:notes", origin.notes)
    widgets.set_value("new:priority", str(origin.priority))
    widgets.set_value("new:fresh", False)


def checked(
    kind: type[Spec], form: list[Field], prefix: str
) -> tuple[dict[str, Any], dict[str, str], PlanPreview | None]:
    """The spec as typed, its problems by field, and its plan when there are none."""
    typed = widgets.typed(form, prefix)
    values, problems = spec_of(form, typed)
    spec = {"kind": kind.model_fields["kind"].default, **values}
    try:
        kind.model_validate(spec)
    except ValidationError as error:  # what cannot be read is missing here, too
        problems = (
            placed(form, typed, wrong_in(error.errors(), kind.model_json_schema())) | problems
        )
    if problems:
        return spec, problems, None
    try:
        return spec, {}, pages.client().plan(spec, remeasure=is_fresh())
    except RequestRejectedError as error:
        return spec, refused(form, typed, error), None
    except ApiUnavailableError:
        st.session_state["silence"] = "does not answer"
        return spec, {}, None


def is_fresh() -> bool:
    """Whether all is asked for again; the switch is drawn after the plan."""
    return bool(
        st.session_state.get(
            "new:fresh", st.session_state.get("drafts", {}).get("new:fresh", False)
        )
    )


def refused(
    form: list[Field], typed: dict[str, Any], error: RequestRejectedError
) -> dict[str, str]:
    """The API's problems beside their fields; what belongs to none is said above the form."""
    found = [
        (problem.pointer.strip("/").removeprefix("spec").strip("/").split("/"), problem.detail)
        for problem in error.problem.errors
    ]
    return placed(form, typed, found) or {"": str(error)}


def preview(plan: PlanPreview) -> None:
    """What submitting would do, in words."""
    st.markdown(f"### {counted(plan.num_points, 'point')}", anchors=False)
    st.markdown(plain(plan_summary(plan)) + ".")
    if plan.waits_for:
        st.warning(plain(plan.waits_for), icon=":material/hourglass:")
    for warning in plan.warnings:
        st.warning(plain(warning), icon=":material/warning:")


def submit(spec: dict[str, Any], form: list[Field], prefix: str, details: dict[str, Any]) -> None:
    sent: dict[str, Any] = st.session_state.setdefault("sent", {"id": 0, "at": -SAME_CLICK})
    if time.monotonic() - sent["at"] < SAME_CLICK:
        st.switch_page("app_pages/experiment.py", query_params={"id": str(sent["id"])})
    try:
        made = pages.client().submit(spec, **details)
        sent.update(
            id=made.id, at=time.monotonic()
        )  # before anything of Streamlit's: a second click breaks the run off there
    except RequestRejectedError as error:
        st.session_state["refused"] = refused(form, widgets.typed(form, prefix), error)
        st.rerun(scope="fragment")
    except ApiUnavailableError as error:
        st.error(plain(str(error)))
        return
    st.session_state["asked afresh"] = details["fresh"]
    st.switch_page("app_pages/experiment.py", query_params={"id": str(made.id)})


def details() -> tuple[dict[str, Any], str | None]:
    """Name, tags, notes and priority; and what is wrong with them."""
    name = widgets.persistent_widget(
        st.text_input,
        "new:name",
        "Name",
        placeholder="made from the settings when empty",
        max_chars=200,
    )
    tags = widgets.persistent_widget(
        st.text_input, "new:tags", "Tags", placeholder="separated by commas"
    )
    notes = widgets.persistent_widget(
        st.text_area, "new:notes", "Notes", placeholder="why, and what you expect", height=90
    )
    priority = widgets.persistent_widget(
        st.text_input,
        "new:priority",
        "Priority",
        placeholder="0",
        help="-10 to 10; higher is measured first among your own experiments.",
    )
    again = "Measures what exists a second time, perhaps on another machine, and says how far the numbers agree."
    fresh = widgets.persistent_widget(
        st.toggle, "new:fresh", "Measure everything again", default=False, help=again
    )
    number, problem = widgets.show_parsed(
        lambda text: parse_bounded(text, -10, 10, default=0), priority
    )
    webhook = widgets.persistent_widget(
        st.text_input,
        "new:webhook",
        "Webhook",
        placeholder="https://…",
        help="An address that is told when it is done or failed; the call is signed.",
    )
    wrong = problem_of(webhook or "")
    widgets.show_message(wrong)
    return {
        "name": name or "",
        "tags": [tag.strip() for tag in (tags or "").split(",") if tag.strip()],
        "notes": notes or "",
        "priority": number or 0,
        "fresh": bool(fresh),
        "webhook": (webhook or "").strip() or None,
    }, problem or wrong


def names() -> dict[str, list[str]]:
    """What is registered, for fields that name a suite or an evaluation set."""
    suites = pages.cached("suites", lambda: pages.client().suites()) or []
    datasets = pages.cached("datasets", lambda: pages.client().datasets()) or []
    return {
        "suite": [suite.name for suite in suites],
        "dataset": [dataset.name for dataset in datasets],
    }


def body() -> None:
    if st.session_state.pop("asked afresh", False):  # once: nobody means it twice
        widgets.set_value("new:fresh", False)
    if drafts.restored() and "clone" in st.query_params:
        clone(st.query_params["clone"])
    main, side = st.columns([2, 1], gap="large")
    with main:
        name = widgets.persistent_widget(
            st.segmented_control,
            "new:kind",
            "Kind",
            default=next(iter(kinds())),
            options=list(kinds()),
            format_func=lambda kind: kinds()[kind].kind_in_words(),
            label_visibility="collapsed",
            required=True,
        ) or next(iter(kinds()))
        kind, prefix = kinds()[name], f"{name}:"
        form, known = fields(kind), names()
        widgets.preselect(form, prefix, known)
        about, start = st.columns([3, 1.2], vertical_alignment="top")
        about.markdown(plain(" ".join((kind.__doc__ or "").split())))
        with start.container(horizontal_alignment="right"):
            starts = {"defaults": {}, **kind.presets}
            start_from = st.menu_button(
                "Start from", list(starts), icon=":material/tune:", key=f"start:{name}"
            )
        if start_from is not None:
            widgets.fill(form, prefix, starts[start_from])
        spec, problems, plan = checked(kind, form, prefix)
        problems |= st.session_state.pop("refused", {})
        widgets.show_message(problems.get(""))
        widgets.draw(form, prefix, problems, readings(form, widgets.typed(form, prefix)), known)
    with side, st.container(border=True, key="plan"):
        with st.container(
            key="preview"
        ):  # of a least height, or the button below would move under a click
            if plan:
                preview(plan)
            elif problems:
                st.markdown(f"### {counted(len(problems), 'field')} to mend", anchors=False)
                named = titles(form)
                caption(
                    ", ".join(
                        dict.fromkeys(
                            named.get(key.split("?")[0], "the experiment as a whole")
                            for key in problems
                        )
                    )
                )
            else:
                caption("The plan appears here when the API answers.")
        more, trouble = details()
        barred = session.cannot_submit()
        off = plan is None or trouble is not None or barred is not None
        if st.button(
            "Submit",
            type="primary",
            width="stretch",
            disabled=off,
            help=barred,
            icon=":material/play_arrow:",
        ):
            submit(spec, form, prefix, more)
    drafts.keep()


st.title("New experiment", anchor=False)
pages.run(body, interval=None, before=widgets.remember)
