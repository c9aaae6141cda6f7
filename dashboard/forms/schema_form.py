"""A form's values: typed values -> spec, spec -> typed values, and problems by field.

    form = fields(LinearModel)
    typed = entries(form, {"draws": 40})          # {"draws": "40", "gammas": "0.05, 0.1", ...}
    spec, problems = spec_of(form, typed)         # {"draws": 40, ...}, {"gammas": "..."}

Values stay as typed: numbers are text until a spec is made, so that a typo loses nothing.
`widgets.py` draws the fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dashboard.forms.fields import Field
from dashboard.forms.parsing import list_summary, parse_list, parse_value

# ------------------------------------------------------------ typed <- spec


def entries(form: Iterable[Field], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form's values for a spec: a preset, or one to clone.

    Fields that the spec does not name have their default.
    """
    typed: dict[str, Any] = {}
    for field in form:
        name = field.key.rsplit("/", 1)[-1]
        typed |= _entry(field, spec.get(name, field.default))
    return typed


def _entry(field: Field, value: Any) -> dict[str, Any]:
    if field.widget == "group":
        return entries(field.parts, value if isinstance(value, Mapping) else {})
    if field.widget == "union":
        chosen = next((i for i, part in enumerate(field.parts) if _fits(part, value)), 0)
        typed: dict[str, Any] = {f"{field.key}?": chosen}
        for i, part in enumerate(field.parts):
            typed |= _entry(part, value if i == chosen else part.default)
        return typed
    if field.widget == "constant":
        return {}
    return {field.key: _as_typed(field, value)}


def _fits(part: Field, value: Any) -> bool:
    if part.widget == "constant":
        return bool(part.default == value)
    if part.widget == "group":
        names = {inner.key.rsplit("/", 1)[-1] for inner in part.parts}
        return isinstance(value, Mapping) and set(value) <= names
    types: dict[str, Any] = {
        "list": list | tuple,
        "text": str,
        "number": int | float,
        "integer": int,
        "switch": bool,
    }
    if part.widget == "select":
        return value in part.options
    return isinstance(value, types.get(part.widget, object)) and (
        part.widget == "switch" or not isinstance(value, bool)
    )


def _as_typed(field: Field, value: Any) -> Any:
    if field.widget == "switch":
        return bool(value)
    if field.widget == "select":
        return value if value in field.options or field.optional else field.options[0]
    if field.is_chosen_list:
        return [value] if isinstance(value, str) else list(value or ())
    if value is None:
        return None if field.source else ""
    if field.widget == "list":
        return ", ".join(_number(item) if field.item != "text" else str(item) for item in value)
    if field.widget == "json":
        return json.dumps(value)
    return _number(value) if field.widget in ("number", "integer") else str(value)


def _number(value: float) -> str:
    """Return the shortest text that parses to the same number: 5e-05, 0.1, 16."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


# ------------------------------------------------------------ typed -> spec


def spec_of(
    form: Iterable[Field], typed: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields that can be parsed, and the problems of the others by key.

    Bounds are checked by the spec class.
    """
    spec: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in form:
        try:
            spec[field.key.rsplit("/", 1)[-1]] = _value(field, typed, problems)
        except ValueError as error:
            problems[field.key] = str(error)
    return spec, problems


def _value(field: Field, typed: Mapping[str, Any], problems: dict[str, str]) -> Any:
    if field.widget == "group":
        value, inner = spec_of(field.parts, typed)
        problems |= inner
        return value
    if field.widget == "union":
        return _value(_chosen(field, typed), typed, problems)
    if field.widget == "constant":
        return field.default
    raw = typed.get(field.key)
    if field.is_chosen_list:
        return list(raw or ()) or (None if field.optional else [])
    if field.widget in ("switch", "select"):
        return raw
    text = str(raw or "").strip()
    if not text and field.optional:
        return None
    if field.widget == "list":
        return parse_list(text, field.item)
    return parse_value(text, field.widget)


def _chosen(field: Field, typed: Mapping[str, Any]) -> Field:
    """Return the form of a union's value that is chosen; the first for a draft of another form."""
    number = typed.get(f"{field.key}?")
    valid = isinstance(number, int) and 0 <= number < len(field.parts)
    return field.parts[number if valid and number is not None else 0]


def titles(form: Iterable[Field]) -> dict[str, str]:
    """Return the title of each field by key."""
    return {
        key: title
        for field in form
        for key, title in [(field.key, field.title), *titles(field.parts).items()]
    }


def list_summaries(form: Iterable[Field], typed: Mapping[str, Any]) -> dict[str, str]:
    """Return how each list was parsed, by key: "3 values: 0.05, 0.1, 0.2"."""
    summaries: dict[str, str] = {}
    for field in form:
        if field.widget == "group":
            summaries |= list_summaries(field.parts, typed)
        elif field.widget == "union":
            summaries |= list_summaries([_chosen(field, typed)], typed)
        elif field.widget == "list" and not field.is_chosen_list:
            text = str(typed.get(field.key) or "")
            with suppress(ValueError):
                if text.strip():
                    summaries[field.key] = list_summary(parse_list(text, field.item))
    return summaries


# ------------------------------------------------------------ problems -> fields


def problems_by_field(
    form: Iterable[Field], typed: Mapping[str, Any], located: Iterable[tuple[Sequence[Any], str]]
) -> dict[str, str]:
    """Return problems by the key of their field; "" for those of the whole spec.

    located: (path, message) as `ucurve.schemas.validation_messages` returns them, or a JSON
    pointer split at its slashes.
    """
    form = list(form)
    problems: dict[str, str] = {}
    for location, message in located:
        key = _key_of(form, typed, [str(step) for step in location])
        if location and re.fullmatch("[0-9]+", str(location[-1])):
            message = f"Value {int(location[-1]) + 1}: {message[:1].lower()}{message[1:]}"
        if message not in problems.get(key, ""):
            problems[key] = f"{problems[key]} {message}" if key in problems else message
    return problems


def _key_of(form: Sequence[Field], typed: Mapping[str, Any], location: list[str]) -> str:
    """Return the key of the innermost field on the path."""
    field = next(
        (field for field in form if location and field.key.rsplit("/", 1)[-1] == location[0]), None
    )
    return "" if field is None else _inside(field, typed, location[1:])


def _inside(field: Field, typed: Mapping[str, Any], rest: list[str]) -> str:
    if field.widget == "group" and rest:
        return _key_of(field.parts, typed, rest) or field.key
    if field.widget == "union":
        chosen = _chosen(field, typed)
        return _inside(chosen, typed, rest) if chosen.widget != "constant" else f"{field.key}?"
    return field.key
