"""A new experiment: the form of its type, the plan, and the button that submits it."""

import time
from typing import Any

import streamlit as st
from pydantic import ValidationError

from dashboard.auth import session
from dashboard.components.theme import caption, counted, message, plain, small
from dashboard.forms import delivery, drafts, widgets
from dashboard.forms.fields import Field, fields
from dashboard.forms.parsing import parse_bounded, parse_id, shortened
from dashboard.forms.schema_form import list_summaries, problems_by_field, spec_of, titles
from dashboard.live import pages
from ucurve.client import ApiUnavailableError, RequestRejectedError
from ucurve.experiments import kinds
from ucurve.formatting import plan_summary
from ucurve.schemas.experiments import PlanPreview
from ucurve.schemas.validation_messages import field_messages
from ucurve.schemas.webhooks import problem_of
from ucurve.spec import Spec

DOUBLE_CLICK = 3.0  # seconds within which a second submission is the same click


def clone(typed: str) -> None:
    """Fill the form from an experiment, once: ?clone=7."""
    del st.query_params["clone"]
    if delivery.under_way() and st.session_state.get("cloned") == typed:
        return  # the browser has not drawn it yet and sends its old address
    st.session_state["cloned"] = typed
    st.session_state.pop("not cloned", None)
    id = parse_id(typed)
    if id is None:
        st.session_state["not cloned"] = f"No such experiment: {plain(shortened(typed))}."
        return
    try:
        original = pages.client().experiment(id)
    except (ApiUnavailableError, RequestRejectedError) as error:
        refusal = f"Experiment {id} cannot be cloned: {message(str(error))}"
        st.session_state["not cloned"] = refusal
        return
    if original.kind in kinds():
        widgets.set_value("new:kind", original.kind)
        widgets.fill(fields(kinds()[original.kind]), f"{original.kind}:", original.spec)
    widgets.set_value("new:name", f"{original.name} (copy)" if original.name else "")
    widgets.set_value("new:tags", ", ".join(original.tags))
    widgets.set_value("new:notes", original.notes)
    widgets.set_value("new:priority", str(original.priority))
    widgets.set_value("new:fresh", False)


def validated(
    kind: type[Spec], form: list[Field], prefix: str
) -> tuple[dict[str, Any], dict[str, str], PlanPreview | None]:
    """Return the spec, its problems by field, and its plan if there are none."""
    typed = widgets.typed(form, prefix)
    values, problems = spec_of(form, typed)
    spec = {"kind": kind.model_fields["kind"].default, **values}
    try:
        kind.model_validate(spec)
    except ValidationError as error:  # fields that could not be parsed are missing here, too
        located = field_messages(error.errors(), kind.model_json_schema())
        problems = problems_by_field(form, typed, located) | problems
    if problems:
        return spec, problems, None
    try:
        return spec, {}, pages.client().plan(spec, fresh=remeasures())
    except RequestRejectedError as error:
        return spec, api_problems(form, typed, error), None
    except ApiUnavailableError:
        st.session_state["silence"] = pages.UNREACHABLE
        return spec, {}, None


def remeasures() -> bool:
    """Return whether existing evaluations are run again; the switch is drawn after the plan."""
    draft = st.session_state.get("drafts", {}).get("new:fresh", False)
    return bool(st.session_state.get("new:fresh", draft))


def api_problems(
    form: list[Field], typed: dict[str, Any], error: RequestRejectedError
) -> dict[str, str]:
    """Return the API's problems by field; those of no field are shown above the form."""
    located = [
        (problem.pointer.strip("/").removeprefix("spec").strip("/").split("/"), problem.detail)
        for problem in error.problem.errors
    ]
    return problems_by_field(form, typed, located) or {"": str(error)}


def submit(spec: dict[str, Any], form: list[Field], prefix: str, details: dict[str, Any]) -> None:
    latest: dict[str, Any] = st.session_state.setdefault("sent", {"id": 0, "at": -DOUBLE_CLICK})
    if time.monotonic() - latest["at"] < DOUBLE_CLICK:
        st.switch_page("app_pages/experiment.py", query_params={"id": str(latest["id"])})
    try:
        experiment = pages.client().submit(spec, **details)
        # Before any call into Streamlit, where a second click interrupts this run.
        latest.update(id=experiment.id, at=time.monotonic())
    except RequestRejectedError as error:
        st.session_state["refused"] = api_problems(form, widgets.typed(form, prefix), error)
        st.rerun(scope="fragment")
    except ApiUnavailableError as error:
        st.error(message(str(error)))
        return
    st.session_state["submitted fresh"] = details["fresh"]
    st.session_state.pop("not cloned", None)
    st.session_state["plan warnings"] = (experiment.id, experiment.warnings)
    st.switch_page("app_pages/experiment.py", query_params={"id": str(experiment.id)})


def kind_selector() -> str:
    """Draw the experiment types; they become fields' prefixes in the session."""
    names = list(kinds())
    return (
        widgets.persistent_widget(
            st.segmented_control,
            "new:kind",
            "Experiment type",
            default=names[0],
            options=names,
            format_func=lambda name: kinds()[name].kind_title(),
            label_visibility="collapsed",
            required=True,
        )
        or names[0]
    )


def spec_form(name: str) -> tuple[dict[str, Any], dict[str, str], PlanPreview | None]:
    """Draw the fields of an experiment type; return as `validated`."""
    kind, prefix = kinds()[name], f"{name}:"
    form, options = fields(kind), registered_names()
    widgets.open_with(form, prefix, kind.presets[kind.opens_with] if kind.opens_with else {})
    widgets.preselect(form, prefix, options)
    description, start = st.columns([3, 1.2], vertical_alignment="top")
    description.markdown(plain(" ".join((kind.__doc__ or "").split())))
    with start.container(horizontal_alignment="right"):
        presets = {"defaults": {}, **kind.presets}
        preset = st.menu_button(
            "Load preset", list(presets), icon=":material/tune:", key=f"start:{name}"
        )
    if preset is not None:
        widgets.fill(form, prefix, presets[preset])
    spec, problems, plan = validated(kind, form, prefix)
    problems |= st.session_state.pop("refused", {})
    widgets.show_message(problems.get(""))
    summaries = list_summaries(form, widgets.typed(form, prefix))
    widgets.draw(form, prefix, problems, summaries, options)
    return spec, problems, plan


def registered_names() -> dict[str, list[str]]:
    """Return what is registered, for fields that name a suite or a dataset."""
    suites = pages.cached("suites", lambda: pages.client().suites()) or []
    datasets = pages.cached("datasets", lambda: pages.client().datasets()) or []
    return {
        "suite": [suite.name for suite in suites],
        "dataset": [dataset.name for dataset in datasets],
    }


def preview(plan: PlanPreview) -> None:
    """Say what submitting would run."""
    st.markdown(f"### {counted(plan.num_points, 'evaluation')}", anchors=False)
    st.markdown(plain(plan_summary(plan)) + ".")
    if plan.waits_for:
        st.warning(message(plan.waits_for), icon=":material/hourglass:")
    for warning in plan.warnings:
        st.warning(message(warning), icon=":material/warning:")
    for note in plan.notes:
        st.markdown(small(note))


def plan_section(form: list[Field], problems: dict[str, str], plan: PlanPreview | None) -> None:
    """Draw the plan, or which fields have problems.

    Its container has a minimum height: the button below must not move under a click.
    """
    with st.container(key="preview"):
        if plan:
            preview(plan)
        elif problems:
            st.markdown(f"### Fix {counted(len(problems), 'field')} to continue", anchors=False)
            names = titles(form)
            labels = (names.get(key.split("?")[0], "the whole experiment") for key in problems)
            caption(", ".join(dict.fromkeys(labels)))
        else:
            caption("The plan appears here once the API responds.")


def details_form() -> tuple[dict[str, Any], str | None]:
    """Draw the fields that every type has; return their values and what is wrong with them."""
    name = widgets.persistent_widget(
        st.text_input,
        "new:name",
        "Name",
        placeholder="generated from the settings if empty",
        max_chars=200,
    )
    tags = widgets.persistent_widget(
        st.text_input, "new:tags", "Tags", placeholder="comma-separated"
    )
    notes = widgets.persistent_widget(
        st.text_area, "new:notes", "Notes", placeholder="motivation and hypothesis", height=90
    )
    priority = widgets.persistent_widget(
        st.text_input,
        "new:priority",
        "Priority",
        placeholder="0",
        help="-10 to 10. Higher runs first among your own experiments.",
    )
    number, priority_problem = widgets.show_parsed(
        lambda text: parse_bounded(text, -10, 10, default=0), priority
    )
    fresh = widgets.persistent_widget(
        st.toggle,
        "new:fresh",
        "Re-measure (ignore cached results)",
        default=False,
        help="Runs existing evaluations again, possibly on other hardware, "
        "and reports how closely the results agree.",
    )
    webhook = widgets.persistent_widget(
        st.text_input,
        "new:webhook",
        "Webhook",
        placeholder="https://…",
        help="URL to notify when the experiment finishes or fails. Requests are signed.",
    )
    webhook_problem = problem_of(webhook or "")
    widgets.show_message(webhook_problem)
    return {
        "name": name or "",
        "tags": [tag.strip() for tag in (tags or "").split(",") if tag.strip()],
        "notes": notes or "",
        "priority": number or 0,
        "fresh": bool(fresh),
        "webhook": (webhook or "").strip() or None,
    }, priority_problem or webhook_problem


def body() -> None:
    if st.session_state.pop("submitted fresh", False):  # not twice by accident
        widgets.set_value("new:fresh", False)
    if drafts.restored() and "clone" in st.query_params:
        clone(st.query_params["clone"])
    drafts.cover()
    if refusal := st.session_state.get("not cloned"):  # until another clone, or a submission
        st.warning(refusal)
    main, side = st.columns([2, 1], gap="large")
    with main:
        name = kind_selector()
        spec, problems, plan = spec_form(name)
    form = fields(kinds()[name])
    with side, st.container(border=True, key="plan"):
        plan_section(form, problems, plan)
        details, problem = details_form()
        barred = session.cannot_submit()
        off = plan is None or problem is not None or barred is not None
        if st.button(
            "Submit",
            type="primary",
            width="stretch",
            disabled=off,
            help=barred,
            icon=":material/play_arrow:",
        ):
            submit(spec, form, f"{name}:", details)
    drafts.keep()


st.title("New experiment", anchor=False)
pages.run(body, interval=None, before=widgets.remember)
