"""Follow the location of a pydantic error through the JSON schema to its field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Schema = Mapping[str, Any]
Step = str | int

TYPE_TAGS = {
    "array": "list",
    "integer": "int",
    "number": "float",
    "string": "str",
    "boolean": "bool",
}


class LocatedError(NamedTuple):
    """A pydantic error with its field, the schemas around it, and the union on the way there."""

    error: Mapping[str, Any]
    path: tuple[Step, ...]
    node: Schema  # of the field
    holder: Schema  # of the object or list that holds the field
    union: tuple[Step, ...] | None  # path of the first union on the way
    form: Step | None  # form of the union that pydantic tried
    union_node: Schema


def locate(error: Mapping[str, Any], schema: Schema, defs: Schema) -> LocatedError:
    """Locate the field of an error: tags of unions are in its location, but not in the path."""
    node, holder, path = resolve(schema, defs), schema, list[Step]()
    union: tuple[Step, ...] | None = None
    form: Step | None = None
    union_node: Schema = {}
    for step in error["loc"]:
        node = resolve(node, defs)
        alternatives = forms(node, defs)
        if "discriminator" in node:
            node = resolve({"$ref": node["discriminator"]["mapping"].get(step, "")}, defs)
            continue
        if len(alternatives) > 1:
            if union is None:
                union, form, union_node = tuple(path), step, node
            node = next((a for a in alternatives if _has_tag(a, str(step))), {})
            continue
        node = alternatives[0] if alternatives else node
        path.append(step)
        holder = node
        node = node.get("items", {}) if isinstance(step, int) else _property(node, str(step))
    node = resolve(node, defs)
    return LocatedError(error, tuple(path), node, resolve(holder, defs), union, form, union_node)


def forms(node: Schema, defs: Schema) -> list[Schema]:
    """Return the forms of a union other than null."""
    alternatives = [resolve(form, defs) for form in node.get("anyOf", node.get("oneOf", ()))]
    return [form for form in alternatives if form.get("type") != "null"]


def resolve(node: Schema, defs: Schema) -> Schema:
    """Follow a reference; keys next to it take precedence."""
    if "$ref" not in node:
        return node
    target = defs.get(node["$ref"].rsplit("/", 1)[-1], {})
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _property(node: Schema, name: str) -> Schema:
    additional = node.get("additionalProperties")
    fallback = additional if isinstance(additional, Mapping) else {}
    return node.get("properties", {}).get(name) or fallback


def _has_tag(form: Schema, tag: str) -> bool:
    """Return whether pydantic's tag of a union's form means this one."""
    if "const" in form or "enum" in form:
        return tag.startswith("literal[")
    kind = str(form.get("type"))
    return (
        tag == form.get("title")
        or (kind in TYPE_TAGS and TYPE_TAGS[kind] in tag.split("[")[0])
        or (kind == "object" and "dict" in tag)
    )
