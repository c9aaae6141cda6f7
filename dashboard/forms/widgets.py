"""Draws a form's fields as widgets, each with its help, its unit and what is wrong with it.

What is typed lives in the session under "kind:key" and stays there when the kind or the page is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar

import streamlit as st

from dashboard.forms.schema_form import Field, entries

T = TypeVar("T")
LIVE = "200ms"  # a pause in typing after which the plan is asked for anew


@dataclass(frozen=True)
class Notes:
    """What stands beneath fields, by key: what is wrong, else how a list was read."""

    problems: Mapping[str, str]
    said: Mapping[str, str]


def typed(form: Sequence[Field], prefix: str) -> dict[str, Any]:
    """What is in the form now: what was typed, else the defaults."""
    drafts = st.session_state.setdefault("drafts", {})
    for key, value in entries(form, {}).items():
        drafts.setdefault(prefix + key, value)
    return {
        key: st.session_state.get(prefix + key, drafts[prefix + key]) for key in entries(form, {})
    }


def fill(form: Sequence[Field], prefix: str, spec: Mapping[str, Any]) -> None:
    """Put a spec into the form, before it is drawn."""
    for key, value in entries(form, spec).items():
        set_value(prefix + key, value)


def remember() -> None:
    """Keep what came with this run before anything is drawn: typed just before the kind or the page was changed, its field
    is not drawn any more."""
    drafts = st.session_state.setdefault("drafts", {})
    came = {
        key: st.session_state[key]
        for key in drafts
        if key in st.session_state and st.session_state[key] != drafts[key]
    }
    drafts |= came
    st.session_state.setdefault("typed", set()).update(came)


def preselect(form: Sequence[Field], prefix: str, names: Mapping[str, Sequence[str]]) -> None:
    """Where a suite or text must be named and none is yet, begin with the first that is registered."""
    for field in form:
        if (
            field.source
            and field.widget == "text"
            and not field.optional
            and names.get(field.source)
        ):
            key = prefix + field.key
            if not (
                st.session_state.get("drafts", {}).get(key)
                or st.session_state.get(key)
                or field.default
            ):
                set_value(key, names[field.source][0], asked=False)


def set_value(key: str, value: Any, asked: bool = True) -> None:
    """Show this value. asked: somebody asked for it, so that no draft of the browser takes its place."""
    if asked:
        st.session_state.setdefault("typed", set()).add(key)
    st.session_state.setdefault("drafts", {})[key] = value
    st.session_state[key] = value
    st.session_state.setdefault("put", set()).add(key)


def draw(
    form: Sequence[Field],
    prefix: str,
    problems: Mapping[str, str],
    said: Mapping[str, str],
    names: Mapping[str, Sequence[str]],
) -> None:
    """The form in two columns, rarely changed fields folded away.

    problems, said: by key, what is wrong and how a list was read. names: what is registered, by source ("suite", "dataset").
    """
    notes = Notes(problems, said)
    _grid([field for field in form if not field.advanced], prefix, notes, names)
    if rare := [field for field in form if field.advanced]:
        troubled = any(
            key.split("?")[0].split("/")[0] in {field.key for field in rare} for key in problems
        )
        with st.expander("More settings", expanded=troubled):
            _grid(rare, prefix, notes, names)


def _grid(
    form: Iterable[Field], prefix: str, notes: Notes, names: Mapping[str, Sequence[str]]
) -> None:
    row: list[Any] = []
    for field in form:
        if field.widget == "group":
            row = []
            with st.container(border=True):
                st.markdown(f"**{field.title}**", help=field.help or None)
                _grid(field.parts, prefix, notes, names)
            continue
        row = row or list(st.columns(2, gap="medium"))
        with row.pop(0):
            _one(field, prefix, notes, names)


def _one(field: Field, prefix: str, notes: Notes, names: Mapping[str, Sequence[str]]) -> None:
    if field.widget == "union":
        chosen = persistent_widget(
            st.selectbox,
            f"{prefix}{field.key}?",
            field.title,
            options=range(len(field.parts)),
            format_func=lambda i: field.parts[i].title,
            help=field.help or None,
        )
        show_message(notes.problems.get(f"{field.key}?") or notes.problems.get(field.key))
        part = field.parts[chosen or 0]
        if part.widget == "group":
            for inner in part.parts:
                _one(inner, prefix, notes, names)
        elif part.widget != "constant":
            _one(part, prefix, notes, names)
        return
    _widget(field, prefix + field.key, names)
    show_message(notes.problems.get(field.key), notes.said.get(field.key))


def _widget(field: Field, key: str, names: Mapping[str, Sequence[str]]) -> None:
    help_text = field.help or None
    label, if_empty = field.title, said_of_empty(field)
    if field.source and field.widget == "text":
        known = names.get(field.source, ())
        current = st.session_state.get("drafts", {}).get(key)
        options = [*known, *([current] if current and current not in known else [])]
        persistent_widget(
            st.selectbox,
            key,
            label,
            options=options,
            help=help_text,
            placeholder=if_empty,
            accept_new_options=True,
        )
    elif field.widget == "switch":
        st.space("small")
        persistent_widget(st.toggle, key, label, help=help_text)
    elif field.widget == "select":
        options = [None, *field.options] if field.optional else list(field.options)
        say = lambda option: "none" if option is None else str(option).replace("_", " ")  # noqa: E731
        persistent_widget(
            st.selectbox, key, label, options=options, format_func=say, help=help_text
        )
    elif field.widget == "list" and field.options:
        persistent_widget(st.multiselect, key, label, options=list(field.options), help=help_text)
    elif field.widget == "json":
        persistent_widget(st.text_area, key, label, help=help_text, height=100)
    else:
        persistent_widget(st.text_input, key, label, help=help_text, placeholder=if_empty)


def said_of_empty(field: Field) -> str | None:
    """What an empty field means: what its help says after "empty:", where it does."""
    said = re.search(r"\bempty: (.+?)(?:\.\s|\.?$)", field.help, re.IGNORECASE)
    if said:
        return said[1]
    if field.widget == "list":
        return "separated by commas"
    return (
        "optional"
        if field.optional
        else f"choose or type a {field.source}"
        if field.source
        else None
    )


def persistent_widget(
    widget: Any, key: str, label: str, default: Any = None, **options: Any
) -> Any:
    """A widget whose value outlives it: Streamlit forgets a widget that is not on the page, or not reached by a broken-off run.

    The draft is given as the widget's own default, not through session state: that would be sent back and overwrite what is
    being typed meanwhile. It is given at every drawing: a field that the browser mounts anew begins with it.
    """
    drafts = st.session_state.setdefault("drafts", {})
    start = drafts.get(key, default)
    if widget == st.text_input:
        options.setdefault("live", LIVE)  # sent while it is typed, not only when the field is left
    if key in st.session_state and _gone(widget, st.session_state[key], options):
        del st.session_state[key]
    put_now: set[str] = st.session_state.setdefault("put", set())
    if key in put_now:
        put_now.discard(key)  # Streamlit has either a default or what was put
    else:
        now = st.session_state.get(key, start)
        if widget == st.selectbox:
            options["index"] = (
                list(options["options"]).index(now) if now in options["options"] else None
            )
        elif widget == st.multiselect:
            options["default"] = [one for one in now or () if one in options["options"]]
        elif widget == st.segmented_control:
            options["default"] = now if now in options["options"] else default
        else:
            options["value"] = now
    drafts[key] = value = widget(label, key=key, **options)
    if value != start:
        st.session_state.setdefault("typed", set()).add(
            key
        )  # also by what a browser sends to a new session of its page
    return value


def _gone(widget: Any, value: Any, options: Mapping[str, Any]) -> bool:
    """Whether a draft names a choice that there is no more."""
    closed = widget in (st.selectbox, st.segmented_control) and not options.get(
        "accept_new_options"
    )
    return closed and value is not None and value not in options["options"]


def show_parsed(parse: Callable[[str], T], text: str | None) -> tuple[T | None, str | None]:
    """Return what a field holds, or what is wrong with it, which is shown beneath the field."""
    value, problem = None, None
    try:
        value = parse(text or "")
    except ValueError as error:
        problem = str(error)
    show_message(problem)
    return value, problem


def show_message(problem: str | None, otherwise: str | None = None) -> None:
    """What is wrong, in a place that is always there: else what follows would be mounted anew, and lose what is being typed.

    otherwise: what is said while nothing is wrong.
    """
    place = st.empty()
    if problem:
        place.markdown(
            f'<div class="problem" role="alert">{escape(problem)}</div>', unsafe_allow_html=True
        )
    elif otherwise:
        place.markdown(f'<div class="reading">{escape(otherwise)}</div>', unsafe_allow_html=True)
