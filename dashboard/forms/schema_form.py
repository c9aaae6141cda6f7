"""A spec's fields as a form: schema -> fields -> what is typed -> spec, and problems back to their field.

    form = fields(LinearModel)                       # from the JSON schema alone; no kind is known by name
    typed = entries(form, {"draws": 40})             # {"draws": "40", "gammas": "0.05, 0.1", ...}: text as typed
    spec, problems = spec_of(form, typed)            # {"draws": 40, ...}, {"gammas": "'x' is not a number"}

What is typed stays as typed: numbers are kept as text until a spec is made of them, so that a slip loses nothing.
`inputs.py` draws the fields. Keys are paths ("optimiser/learning_rate"); one of several forms of a value ("all", or a
list, or so many log-spaced) is chosen under "path?", and typed under "path?1".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from dashboard.forms.parsing import list_summary, parse_list, parse_value

Widget = Literal[
    "text", "integer", "number", "switch", "select", "list", "json", "group", "union", "constant"
]


@dataclass(frozen=True)
class Field:
    """One thing to fill in."""

    key: str
    widget: Widget
    title: str = ""
    help: str = ""
    default: Any = None
    options: tuple[Any, ...] = ()  # select: the values; list: the values allowed, if they are few
    item: Widget = "text"  # list: what its items are
    source: str = ""  # "suite", "dataset": the options are what is registered
    optional: bool = False
    advanced: bool = False
    parts: tuple[Field, ...] = ()  # group: its fields; union: its forms


def fields(model: type[BaseModel]) -> list[Field]:
    """The fields of a spec class in their order, `kind` left out."""
    schema = model.model_json_schema()
    return list(_properties(schema, "", schema.get("$defs", {}), skip=("kind",)))


def _properties(
    schema: Mapping[str, Any], prefix: str, defs: Mapping[str, Any], skip: Sequence[str] = ()
) -> Iterable[Field]:
    for name, node in schema.get("properties", {}).items():
        if name not in skip:
            yield _field(f"{prefix}{name}", name, node, defs)


def _field(key: str, name: str, node: Mapping[str, Any], defs: Mapping[str, Any]) -> Field:
    """One property; hints and words beside a $ref win over those of what it refers to."""
    forms = [_resolved(form, defs) for form in node.get("anyOf", node.get("oneOf", [node]))]
    optional = any(form.get("type") == "null" for form in forms)
    forms = [form for form in forms if form.get("type") != "null"]
    title = node.get("title") or name
    if title == name.replace("_", " ").title() or title == name:  # pydantic's own, or none
        title = name.replace("_", " ").capitalize()
    words: dict[str, Any] = {
        "title": f"{title} ({node['unit']})" if node.get("unit") else title,
        "help": node.get("description", ""),
        "advanced": bool(node.get("advanced")),
        "default": node.get("default"),
    }
    if len(forms) > 1:  # each word of a closed choice is a form of its own
        forms = [
            {**form, **word}
            for form in forms
            for word in [{"const": value} for value in form.get("enum", ())] or [{}]
        ]
    if len(forms) > 1 or (optional and _is_group(forms[0])):
        if optional:
            forms = [{"const": None}, *forms]
        parts = tuple(_form_of(f"{key}?{i}", form, defs) for i, form in enumerate(forms))
        return Field(key, "union", parts=parts, **words)
    merged = {**forms[0], **{hint: node[hint] for hint in ("widget",) if hint in node}}
    return Field(**{**_shape(key, merged, defs), **words, "optional": optional})


def _form_of(key: str, node: Mapping[str, Any], defs: Mapping[str, Any]) -> Field:
    """One form of a union, named by what it is."""
    shape = _shape(key, node, defs)
    names = {
        "list": "a list",
        "number": "a number",
        "integer": "a number",
        "text": "text",
        "switch": "yes or no",
    }
    title = str(node.get("title") or names.get(shape["widget"], shape["widget"]))
    if shape["widget"] == "constant":
        title = "none" if node["const"] is None else str(node["const"]).replace("_", " ")
    elif shape["widget"] == "group":
        title = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", title).lower()  # LogSpaced
    return Field(**{**shape, "title": title, "help": node.get("description", "")})


def _shape(key: str, node: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """Key, widget and what the widget needs, from one resolved schema node."""
    kind, shape = node.get("type"), {"key": key, "widget": "json", "default": node.get("default")}
    if "const" in node:
        shape |= {"widget": "constant", "default": node["const"]}
    elif "enum" in node:
        shape |= {"widget": "select", "options": tuple(node["enum"])}
    elif _is_group(node):
        prefix = f"{key}/"
        shape |= {"widget": "group", "parts": tuple(_properties(node, prefix, defs))}
    elif kind == "array":
        item = _resolved(node.get("items", {}), defs)
        kinds: dict[Any, Widget] = {"number": "number", "integer": "integer", "string": "text"}
        if item.get("type") in kinds:
            shape |= {
                "widget": "list",
                "item": kinds[item["type"]],
                "options": tuple(item.get("enum", ())),
            }
    elif kind in ("string", "integer", "number", "boolean"):
        shape["widget"] = {"string": "text", "boolean": "switch"}.get(kind, kind)
    if node.get("widget") in ("suite", "dataset"):
        shape["source"] = node["widget"]
    return shape


def _is_group(node: Mapping[str, Any]) -> bool:
    return node.get("type") == "object" and "properties" in node


def _resolved(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in node:
        return {
            **defs[node["$ref"].rsplit("/", 1)[-1]],
            **{k: v for k, v in node.items() if k != "$ref"},
        }
    return node


# ------------------------------------------------------------------------------------------- typed <- spec


def entries(form: Iterable[Field], spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the form shows for a spec (a preset, or one to clone); fields it does not name show their default."""
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
    if field.widget == "list" and field.options:
        return list(value or ())
    if value is None:
        return None if field.source else ""
    if field.widget == "list":
        return ", ".join(_number(item) if field.item != "text" else str(item) for item in value)
    if field.widget == "json":
        return json.dumps(value)
    return _number(value) if field.widget in ("number", "integer") else str(value)


def _number(value: float) -> str:
    """The shortest text that reads as the same number: 5e-05, 0.1, 16."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


# ------------------------------------------------------------------------------------------- typed -> spec


def spec_of(
    form: Iterable[Field], typed: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields that can be read, and what is wrong with the others, by their key. Bounds are the spec class's affair."""
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
    if field.widget in ("switch", "select") or (field.widget == "list" and field.options):
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
    """What each field is called, by key."""
    return {
        key: title
        for field in form
        for key, title in [(field.key, field.title), *titles(field.parts).items()]
    }


def readings(form: Iterable[Field], typed: Mapping[str, Any]) -> dict[str, str]:
    """How each list was read, by the key of its field: "3 values: 0.05, 0.1, 0.2"."""
    said: dict[str, str] = {}
    for field in form:
        if field.widget in ("group", "union"):
            chosen = field.parts if field.widget == "group" else [_chosen(field, typed)]
            said |= readings(chosen, typed)
        elif (
            field.widget == "list" and not field.options and str(typed.get(field.key) or "").strip()
        ):
            try:
                said[field.key] = list_summary(parse_list(str(typed[field.key]), field.item))
            except ValueError:
                continue
    return said


# ------------------------------------------------------------------------------------------- problems -> fields


def placed(
    form: Iterable[Field], typed: Mapping[str, Any], found: Iterable[tuple[Sequence[Any], str]]
) -> dict[str, str]:
    """Problems by the key of the field they belong to; "" for those of the spec as a whole.

    found: (path, message) as `ucurve.schemas.validation_messages` gives them, or a JSON pointer split at its slashes.
    """
    form = list(form)
    problems: dict[str, str] = {}
    for location, message in found:
        key = _key_of(form, typed, [str(step) for step in location])
        if location and re.fullmatch("[0-9]+", str(location[-1])):
            message = f"Value {int(location[-1]) + 1}: {message[:1].lower()}{message[1:]}"
        if message not in problems.get(key, ""):
            problems[key] = f"{problems[key]} {message}" if key in problems else message
    return problems


def _key_of(form: Sequence[Field], typed: Mapping[str, Any], location: list[str]) -> str:
    """The innermost field on the way."""
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
