"""Draws a form's fields as widgets, each with its help, its unit and its problem.

Values live in the session under "kind:key" and survive a change of experiment type or page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar

import streamlit as st

from dashboard.forms import delivery
from dashboard.forms.fields import Field
from dashboard.forms.schema_form import entries

T = TypeVar("T")
LIVE = "200ms"  # a pause in typing after which the text is sent


@dataclass(frozen=True)
class FieldMessages:
    """Messages beneath fields, by key: a problem, else how a list was parsed."""

    problems: Mapping[str, str]
    summaries: Mapping[str, str]


def typed(form: Sequence[Field], prefix: str) -> dict[str, Any]:
    """Return the form's current values: what was typed, else the defaults."""
    drafts = st.session_state.setdefault("drafts", {})
    for key, value in entries(form, {}).items():
        drafts.setdefault(prefix + key, value)
    return {
        key: st.session_state.get(prefix + key, drafts[prefix + key]) for key in entries(form, {})
    }


def open_with(form: Sequence[Field], prefix: str, spec: Mapping[str, Any]) -> None:
    """Let fields that nothing was typed into begin with a spec instead of their defaults."""
    drafts = st.session_state.setdefault("drafts", {})
    for key, value in entries(form, spec).items():
        drafts.setdefault(prefix + key, value)


def fill(form: Sequence[Field], prefix: str, spec: Mapping[str, Any]) -> None:
    """Load a spec into the form, before it is drawn."""
    for key, value in entries(form, spec).items():
        set_value(prefix + key, value)


def remember() -> None:
    """Save what arrived with this run, before anything is drawn.

    A field typed into just before its form was left is not drawn any more.
    """
    for key, value in delivery.stale().items():
        set_value(key, value)
    drafts = st.session_state.setdefault("drafts", {})
    arrived = {
        key: st.session_state[key]
        for key in drafts
        if key in st.session_state and st.session_state[key] != drafts[key]
    }
    drafts |= arrived
    st.session_state.setdefault("typed", set()).update(arrived)


def preselect(form: Sequence[Field], prefix: str, names: Mapping[str, Sequence[str]]) -> None:
    """Select the first registered suite or dataset in required fields that are empty."""
    for field in form:
        options = names.get(field.source) if field.source else None
        if field.widget != "text" or field.optional or not options:
            continue
        key = prefix + field.key
        draft = st.session_state.get("drafts", {}).get(key)
        if not (draft or st.session_state.get(key) or field.default):
            set_value(key, options[0], by_user=False)


def set_value(key: str, value: Any, by_user: bool = True) -> None:
    """Show this value. by_user: on request, so that no draft of the browser replaces it."""
    if by_user:
        st.session_state.setdefault("typed", set()).add(key)
    st.session_state.setdefault("drafts", {})[key] = value
    delivery.send(key, value)
    st.session_state[key] = value
    st.session_state.setdefault("put", set()).add(key)


def draw(
    form: Sequence[Field],
    prefix: str,
    problems: Mapping[str, str],
    summaries: Mapping[str, str],
    names: Mapping[str, Sequence[str]],
) -> None:
    """Draw the form in two columns, advanced fields in an expander.

    problems, summaries: by key. names: registered names by source ("suite", "dataset").
    """
    messages = FieldMessages(problems, summaries)
    _grid([field for field in form if not field.advanced], prefix, messages, names)
    if advanced := [field for field in form if field.advanced]:
        keys = {field.key for field in advanced}
        expanded = any(key.split("?")[0].split("/")[0] in keys for key in problems)
        with st.expander("More settings", expanded=expanded):
            _grid(advanced, prefix, messages, names)


def _grid(
    form: Iterable[Field],
    prefix: str,
    messages: FieldMessages,
    names: Mapping[str, Sequence[str]],
) -> None:
    row: list[Any] = []
    for field in form:
        if field.widget == "group":
            row = []
            with st.container(border=True):
                st.markdown(f"**{field.title}**", help=field.help or None)
                _grid(field.parts, prefix, messages, names)
            continue
        row = row or list(st.columns(2, gap="medium"))
        with row.pop(0):
            _field(field, prefix, messages, names)


def _field(
    field: Field, prefix: str, messages: FieldMessages, names: Mapping[str, Sequence[str]]
) -> None:
    if field.widget == "union":
        _union(field, prefix, messages, names)
        return
    _widget(field, prefix + field.key, names)
    show_message(messages.problems.get(field.key), messages.summaries.get(field.key))


def _union(
    field: Field, prefix: str, messages: FieldMessages, names: Mapping[str, Sequence[str]]
) -> None:
    """Draw the selection of one form of a value, and the fields of that form."""
    number = persistent_widget(
        st.selectbox,
        f"{prefix}{field.key}?",
        field.title,
        options=range(len(field.parts)),
        format_func=lambda i: field.parts[i].title,
        help=field.help or None,
    )
    problems = messages.problems
    show_message(problems.get(f"{field.key}?") or problems.get(field.key))
    part = field.parts[number or 0]
    if part.widget == "group":
        for inner in part.parts:
            _field(inner, prefix, messages, names)
    elif part.widget != "constant":
        _field(part, prefix, messages, names)


def _widget(field: Field, key: str, names: Mapping[str, Sequence[str]]) -> None:
    label, help_text = field.title, field.help or None
    placeholder = placeholder_of(field)
    if field.source and field.widget == "text":
        registered = names.get(field.source, ())
        current = st.session_state.get("drafts", {}).get(key)
        other = [current] if current and current not in registered else []
        persistent_widget(
            st.selectbox,
            key,
            label,
            options=[*registered, *other],
            help=help_text,
            placeholder=placeholder,
            accept_new_options=True,
        )
    elif field.widget == "switch":
        st.space("small")
        persistent_widget(st.toggle, key, label, help=help_text)
    elif field.widget == "select":
        options = [None, *field.options] if field.optional else list(field.options)
        persistent_widget(
            st.selectbox, key, label, options=options, format_func=_option_label, help=help_text
        )
    elif field.is_chosen_list:
        listed = field.options or names.get(field.source, ())
        chosen = st.session_state.get("drafts", {}).get(key) or ()
        persistent_widget(
            st.multiselect,
            key,
            label,
            options=list(dict.fromkeys([*listed, *(chosen if field.source else ())])),
            help=help_text,
            placeholder=placeholder if field.source else None,
            accept_new_options=bool(field.source),
        )
    elif field.widget == "json":
        persistent_widget(st.text_area, key, label, help=help_text, height=100)
    else:
        persistent_widget(st.text_input, key, label, help=help_text, placeholder=placeholder)


def _option_label(option: Any) -> str:
    return "none" if option is None else str(option).replace("_", " ")


def placeholder_of(field: Field) -> str | None:
    """Return what an empty field means: what its help says after "Default:" or "Empty:"."""
    if match := re.search(r"\b(?:default|empty): (.+?)(?:\.\s|\.?$|;)", field.help, re.I):
        return match[1]
    if field.widget == "list":
        return "comma-separated"
    if field.optional:
        return "optional"
    return f"select or enter a {field.source}" if field.source else None


def persistent_widget(
    widget: Any, key: str, label: str, default: Any = None, **options: Any
) -> Any:
    """Draw a widget whose value outlives it, and return the value.

    Streamlit forgets a widget that is not on the page, or that an interrupted run did not
    reach. The draft is passed as the widget's default rather than through session state, which
    would be sent back and overwrite what is being typed; and at every drawing, since a field
    that the browser mounts again starts with it.
    """
    drafts = st.session_state.setdefault("drafts", {})
    start = drafts.get(key, default)
    if widget == st.text_input:
        options.setdefault("live", LIVE)  # sent while typing, not only when the field is left
    if key in st.session_state and _is_gone(widget, st.session_state[key], options):
        del st.session_state[key]
    just_set: set[str] = st.session_state.setdefault("put", set())
    if key in just_set:
        just_set.discard(key)  # Streamlit takes either a default or a value set before, and
        st.session_state[key] = st.session_state.get(key, start)  # sends only what this run set
    else:
        value = st.session_state.get(key, start)
        options |= _default_option(widget, value, default, options.get("options", ()))
    drafts[key] = value = widget(label, key=key, **options)
    if value != start:  # also when a browser sends its fields to a new session of its page
        st.session_state.setdefault("typed", set()).add(key)
    return value


def _default_option(
    widget: Any, value: Any, default: Any, choices: Sequence[Any]
) -> dict[str, Any]:
    """Return the widget's argument that makes it start with a value."""
    if widget == st.selectbox:
        return {"index": list(choices).index(value) if value in choices else None}
    if widget == st.multiselect:
        return {"default": [choice for choice in value or () if choice in choices]}
    if widget == st.segmented_control:
        return {"default": value if value in choices else default}
    return {"value": value}


def _is_gone(widget: Any, value: Any, options: Mapping[str, Any]) -> bool:
    """Return whether a draft names an option that no longer exists."""
    closed = widget in (st.selectbox, st.segmented_control) and not options.get(
        "accept_new_options"
    )
    return closed and value is not None and value not in options["options"]


def show_parsed(parse: Callable[[str], T], text: str | None) -> tuple[T | None, str | None]:
    """Return a field's parsed value and its problem, which is shown beneath the field."""
    value, problem = None, None
    try:
        value = parse(text or "")
    except ValueError as error:
        problem = str(error)
    show_message(problem)
    return value, problem


def show_message(problem: str | None, otherwise: str | None = None) -> None:
    """Show a problem, or other text if there is none, in a place that is always there.

    If the place came and went, the fields below would be mounted again and lose their text.
    """
    place = st.empty()
    if problem:
        place.markdown(
            f'<div class="problem" role="alert">{escape(problem)}</div>', unsafe_allow_html=True
        )
    elif otherwise:
        place.markdown(f'<div class="parsed">{escape(otherwise)}</div>', unsafe_allow_html=True)
