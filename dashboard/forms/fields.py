"""The fields of a form, read from a spec class's JSON schema; no experiment type is special.

    fields(LinearModel)     # [Field("width", "integer", "Width", ...), ...]

Keys are paths ("optimiser/learning_rate"). One of several forms of a value ("all", a list, a
number of log-spaced ones) is selected under "path?" and typed under "path?1".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

Widget = Literal[
    "text", "integer", "number", "switch", "select", "list", "json", "group", "union", "constant"
]
SOURCES = ("suite", "dataset")  # of registered names


@dataclass(frozen=True)
class Field:
    """One input of a form."""

    key: str
    widget: Widget
    title: str = ""
    help: str = ""
    default: Any = None
    options: tuple[Any, ...] = ()  # of a select, or of a list with few allowed values
    item: Widget = "text"  # type of a list's items
    source: str = ""  # "suite", "dataset": options are the registered ones
    optional: bool = False
    advanced: bool = False
    parts: tuple[Field, ...] = ()  # a group's fields, a union's forms

    @property
    def is_chosen_list(self) -> bool:
        """Whether the value is a list that is selected, not typed."""
        return self.widget == "list" and bool(self.options or self.source)


def fields(model: type[BaseModel]) -> list[Field]:
    """Return the fields of a spec class in order, without `kind`."""
    schema = model.model_json_schema()
    return list(_properties(schema, "", schema.get("$defs", {}), skip=("kind",)))


def _properties(
    schema: Mapping[str, Any], prefix: str, defs: Mapping[str, Any], skip: Sequence[str] = ()
) -> Iterable[Field]:
    for name, node in schema.get("properties", {}).items():
        if name not in skip:
            yield _field(f"{prefix}{name}", name, node, defs)


def _field(key: str, name: str, node: Mapping[str, Any], defs: Mapping[str, Any]) -> Field:
    """Return the field of one property; hints beside a $ref override those of its target."""
    forms = [_resolved(form, defs) for form in node.get("anyOf", node.get("oneOf", [node]))]
    optional = any(form.get("type") == "null" for form in forms)
    forms = [form for form in forms if form.get("type") != "null"]
    title = node.get("title") or name
    if title == name.replace("_", " ").title() or title == name:  # pydantic's default
        title = name.replace("_", " ").capitalize()
    texts: dict[str, Any] = {
        "title": f"{title} ({node['unit']})" if node.get("unit") else title,
        "help": node.get("description", ""),
        "advanced": bool(node.get("advanced")),
        "default": node.get("default"),
    }
    if node.get("widget") in SOURCES:  # a name or several: a list may have one
        forms = [form for form in forms if form.get("type") == "array"] or forms
    if len(forms) > 1:  # each value of an enum is a form
        forms = [
            {**form, **constant}
            for form in forms
            for constant in [{"const": value} for value in form.get("enum", ())] or [{}]
        ]
    if len(forms) > 1 or (optional and _is_group(forms[0])):
        if optional:
            forms = [{"const": None}, *forms]
        parts = tuple(_form_of(f"{key}?{i}", form, defs) for i, form in enumerate(forms))
        return Field(key, "union", parts=parts, **texts)
    merged = {**forms[0], **{hint: node[hint] for hint in ("widget",) if hint in node}}
    return Field(**{**_shape(key, merged, defs), **texts, "optional": optional})


def _form_of(key: str, node: Mapping[str, Any], defs: Mapping[str, Any]) -> Field:
    """Return one form of a union, titled by its type."""
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
    """Return key, widget and the widget's settings for a resolved schema node."""
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
    if node.get("widget") in SOURCES:
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
