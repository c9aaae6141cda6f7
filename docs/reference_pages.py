"""Generate the reference pages from the code: settings, commands, routes, records, spec fields.

    >>> "## gaussian_perturbation" in spec_fields()
    True

`docs/conf.py` inserts them as Markdown where a page says `<!-- generated: NAME -->`; nothing
generated is committed. `tests/test_documentation.py` fails when an entry has no description.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")


# ---- settings


def settings() -> str:
    """Every environment variable with its type, default and meaning."""
    rows = [
        (f"`{name}`", field["type"], field["default"], field["description"])
        for name, field in declared_settings().items()
    ]
    return table(("variable", "type", "default", "meaning"), rows)


def declared_settings() -> dict[str, dict[str, str]]:
    """Variable -> type, default and description, from `ucurve.settings.Settings`."""
    from ucurve.settings import Settings

    prefix = Settings.model_config.get("env_prefix", "")
    properties = Settings.model_json_schema(by_alias=False)["properties"]
    declared = {}
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias or field.alias
        variable = getattr(alias, "choices", [alias])[0] if alias else f"{prefix}{name}".upper()
        default = field.get_default(call_default_factory=False)
        declared[str(variable)] = {
            "type": type_name(properties[name]).removesuffix(" or null"),
            "default": "required" if field.is_required() else _default(default),
            "description": field.description or "",
        }
    return declared


# ---- commands


def cli() -> str:
    """Every command with its arguments and options."""
    parts = []
    for words, parser in commands():
        parts.append(f"## `{' '.join(words)}`\n\n{sentence(parser.description or '')}\n")
        parts.append(f"```text\n{usage(parser)}\n```\n")
        rows = [
            (f"`{label}`", sentence(help_text(parser, action)))
            for label, action in arguments(parser)
            if action.dest not in ("url", "token")
        ]
        if rows:
            parts.append(table(("argument", "meaning"), rows))
        if parser.epilog:
            parts.append(f"```text\n{inspect.cleandoc(parser.epilog)}\n```\n")
    return "\n".join(parts)


def commands() -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """All commands that do something: ("ucurve", "suites", "add") and its parser."""
    from ucurve.cli import command_parser

    def walk(words: tuple[str, ...], parser: argparse.ArgumentParser) -> Any:
        groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not groups:
            yield words, parser
        for group in groups:
            for name, child in group.choices.items():
                yield from walk((*words, name), child)

    yield from walk(("ucurve",), command_parser())


def usage(parser: argparse.ArgumentParser) -> str:
    """The usage line, without the two options that every command has."""
    formatter = argparse.HelpFormatter(parser.prog, max_help_position=30, width=96)
    actions = [a for a in parser._actions if a.dest not in ("help", "url", "token")]
    formatter.add_usage(parser.usage, actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().strip()


def arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Label and action of every argument but --help."""
    for action in parser._actions:
        if action.dest == "help":
            continue
        value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
        if isinstance(value, tuple):
            value = " ".join(value)
        if action.choices is not None and action.metavar is None:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        if action.option_strings:
            takes_value = action.nargs != 0
            names = ", ".join(action.option_strings)
            yield (f"{names} {value}" if takes_value else names), action
        else:
            yield action.metavar or action.dest, action


def help_text(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """An argument's help with its default filled in."""
    return argparse.HelpFormatter(parser.prog)._expand_help(action) if action.help else ""


# ---- routes


def rest() -> str:
    """Every route by topic, with the role it requires, its parameters, its body and its answer."""
    parts = []
    topics: dict[str, list[tuple[str, str, Json]]] = {}
    for method, path, route in routes():
        topics.setdefault(route.get("tags", ["other"])[0], []).append((method, path, route))
    roles = required_roles()
    for topic, entries in topics.items():
        parts.append(f"## {topic[:1].upper()}{topic[1:]}\n")
        for method, path, route in entries:
            parts.append(f"### `{method.upper()} {path}`\n")
            parts.append(f"**{sentence(route.get('summary', ''))}**\n")
            if route.get("description"):
                parts.append(f"{sentence(route['description'])}\n")
            parts.append(f"Required role: {roles[method, path]}.\n")
            rows = [
                (
                    f"`{p['name']}`",
                    p["in"],
                    type_name(p.get("schema", {})),
                    "required"
                    if p.get("required")
                    else _default(p.get("schema", {}).get("default")),
                    sentence(p.get("description") or p.get("schema", {}).get("description", "")),
                )
                for p in route.get("parameters", [])
            ]
            if rows:
                parts.append(table(("parameter", "in", "type", "default", "meaning"), rows))
            bodies = [b["schema"] for b in route.get("requestBody", {}).get("content", {}).values()]
            if bodies:
                parts.append(f"Body: {' or '.join(map(linked, bodies))}.\n")
            answers = [
                f"{status} {linked(body['schema'])}"
                for status, answer in route.get("responses", {}).items()
                if status.startswith("2")
                for body in answer.get("content", {}).values()
                if body.get("schema")
            ]
            if answers:
                parts.append(f"Answer: {', '.join(answers)}.\n")
    return "\n".join(parts)


def routes() -> Iterator[tuple[str, str, Json]]:
    """Method, path and OpenAPI description of every documented route."""
    for path, operations in openapi()["paths"].items():
        for method in METHODS:
            if method in operations:
                yield method, path, operations[method]


def required_roles() -> dict[tuple[str, str], str]:
    """The least role for every (method, path)."""
    from fastapi.routing import APIRoute

    from api import main
    from api.auth.authorization import required_role

    names = {"public": "none, open to all"}
    roles, waiting = {}, list(main.app.routes)
    while waiting:
        route = waiting.pop()
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                roles[method.lower(), route.path_format] = names.get(
                    role := required_role(route), role
                )
        elif hasattr(route, "original_router"):  # FastAPI keeps included routers as they are
            waiting += route.original_router.routes
    return roles


def openapi() -> Json:
    """The OpenAPI schema of the API."""
    from api import main

    return main.app.openapi()


# ---- records


def records() -> str:
    """Everything that the API accepts and returns, field by field."""
    parts = []
    schemas = openapi()["components"]["schemas"]
    for name in sorted(schemas):
        schema = schemas[name]
        if "properties" not in schema or name in spec_names():
            continue
        parts.append(f"(record-{name})=\n## {name}\n")
        if schema.get("description"):
            parts.append(f"{schema['description']}\n")
        parts.append(fields_table(schema))
    return "\n".join(parts)


def spec_names() -> set[str]:
    from ucurve.experiments import kinds

    return {spec.__name__ for spec in kinds().values()}


# ---- spec fields


def spec_fields() -> str:
    """Every experiment type with its fields, bounds, defaults and presets."""
    from ucurve.experiments import kinds

    parts = []
    for name, spec in kinds().items():
        schema = spec.model_json_schema()
        parts.append(f"(record-{spec.__name__})=\n## {name}\n")
        parts.append(f"{schema.get('description', '')}\n")
        parts.append(fields_table(schema, skip=("kind",)))
        if spec.presets:
            parts.append("Presets:\n")
            parts += [
                f"- {title}: `{json.dumps(dict(values))}`"
                + (" (the form opens with it)" if title == spec.opens_with else "")
                for title, values in spec.presets.items()
            ]
            parts.append("")
    return "\n".join(parts)


def fields_table(schema: Json, skip: Iterable[str] = ()) -> str:
    """A row per field of an object schema."""
    required = schema.get("required", [])
    rows = [
        (
            f"`{name}`",
            type_name(field),
            "required" if name in required else _default(field.get("default")),
            field_description(field),
        )
        for name, field in schema["properties"].items()
        if name not in skip
    ]
    return table(("field", "type", "default", "meaning"), rows)


def field_description(field: Json) -> str:
    """Title, description, unit and bounds of one field."""
    parts = [field[key] for key in ("description",) if field.get(key)]
    if field.get("unit"):
        parts.append(f"Unit: {field['unit']}.")
    bounds = bounds_of(field)
    return " ".join([*parts, *([f"({bounds})"] if bounds else [])])


def bounds_of(field: Json) -> str:
    """Return the bounds of a field, or of its variant that is not null, as text.

    Examples: "1 to 50", "above 0", "at most 32 values".
    """
    bounds: Json = {}
    for variant in [field, *field.get("anyOf", [])]:
        bounds.update(variant)
    words = []
    for low, high, noun in (("minimum", "maximum", ""), ("minItems", "maxItems", " values")):
        if low in bounds and high in bounds:
            words.append(f"{_plain(bounds[low])} to {_plain(bounds[high])}{noun}")
        elif low in bounds:
            words.append(f"at least {_plain(bounds[low])}{noun}")
        elif high in bounds:
            words.append(f"at most {_plain(bounds[high])}{noun}")
    for key, text in (("exclusiveMinimum", "above {}"), ("exclusiveMaximum", "below {}")):
        if key in bounds:
            words.append(text.format(_plain(bounds[key])))
    return ", ".join(sorted(words, key=lambda text: not text.startswith("above")))


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,g}"


# ---- words


def type_name(schema: Json) -> str:
    """A JSON schema's type in a few words: "list of number", "string or null", a record's name."""
    if "$ref" in schema:
        return linked(schema)
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(type_name(variant) for variant in schema[key]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {type_name(schema.get('items', {}))}"
    return str({"integer": "integer", "object": "object"}.get(kind, kind))


def linked(schema: Json) -> str:
    """The name of a record, as a link."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#record-{name})" if _has_fields(name) else f"`{name}`"
    return type_name(schema)


def _has_fields(name: str) -> bool:
    schema = openapi()["components"]["schemas"].get(name, {})
    return "properties" in schema or name in spec_names()


def _default(value: Any) -> str:
    if value is None or repr(value) == "PydanticUndefined":
        return ""
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, str):
        return f"`{value}`" if value else ""
    try:
        return f"`{json.dumps(value)}`"
    except TypeError:
        return f"`{value}`"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text.strip()
    if not text:
        return ""
    text = text[:1].upper() + text[1:]
    return text if text[-1] in ".:!?)`" else f"{text}."


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; cells may contain anything."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text).replace("|", "\\|")


PAGES = {
    "settings": settings,
    "cli": cli,
    "rest": rest,
    "records": records,
    "spec-fields": spec_fields,
}
