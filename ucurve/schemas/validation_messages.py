"""Validation errors as plain sentences that say what to do, for REST, command line and forms.

    try:
        spec = GaussianPerturbation.model_validate({"gammas": [], "suit": "tiny"})
    except ValidationError as error:
        field_messages(error.errors(), GaussianPerturbation.model_json_schema())
    # [FieldMessage(("gammas",), "Is empty: give at least 1 value."),
    #  FieldMessage(("suit",), "There is no field “suit”. Did you mean suite?")]

Pydantic says what failed; the JSON schema says what is valid. Of the forms of a union only the
intended one is reported.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ucurve.schemas.error_location import LocatedError, Schema, Step, forms, locate, resolve

# Ends of error types which mean that another form of the union was intended.
WRONG_FORM = ("_type", "_parsing", "literal_error", "int_from_float")
NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}
PLURALS = {"integer": "whole numbers", "number": "numbers", "string": "texts"}
PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$": "a name of letters, digits, dots, underscores and "
    "hyphens, at most 80, with a letter or digit first"
}
JSON_ERRORS = {
    "Expecting value": "a value is missing there, or a text is not quoted",
    "Expecting property name enclosed in double quotes": "names are in double quotes, and no "
    "comma follows the last one",
    "Illegal trailing comma before end of object": "no comma follows the last field",
    "Illegal trailing comma before end of array": "no comma follows the last value",
    "Expecting ',' delimiter": "a comma is missing there",
    "Expecting ':' delimiter": "a colon is missing there",
    "Extra data": "something follows after its end",
    "Unterminated string starting at": "a closing quote is missing",
    "Invalid control character at": "a text contains a line break or tab: write \\n or \\t",
}
MAX_LISTED = 12
SIMILAR = 0.7


class FieldMessage(NamedTuple):
    """An invalid field and what to do."""

    path: tuple[Step, ...]
    message: str


def field_messages(errors: Iterable[Mapping[str, Any]], schema: Schema) -> list[FieldMessage]:
    """Return a message per invalid field.

    errors: pydantic's `error.errors()`. schema: JSON schema of the model.
    """
    defs = {**schema.get("$defs", {}), "": schema}
    located = [locate(error, schema, defs) for error in errors]
    unions: dict[tuple[Step, ...], list[LocatedError]] = {}
    for error in located:
        if error.union is not None:
            unions.setdefault(error.union, []).append(error)
    messages: list[FieldMessage] = []
    for error in located:
        if error.union is None:
            messages.append(_message(error, defs))
        elif error is unions[error.union][0]:
            messages += _union_messages(error.union, unions[error.union], defs)
    suggested = {
        (*m.path[:-1], m.message.rsplit("Did you mean ", 1)[1].rstrip("?"))
        for m in messages
        if "Did you mean " in m.message
    }
    # A misspelt field is not reported a second time as missing.
    misspelt = [m for m in messages if m.message.startswith("Is missing") and m.path in suggested]
    return [m for m in dict.fromkeys(messages) if m not in misspelt]


def pointer_of(path: Iterable[Step]) -> str:
    """Return the JSON Pointer of a field."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def field_name(path: Iterable[Step]) -> str:
    """Format a path as a field name: gammas[0], optimiser.learning_rate."""
    parts = [str(part) for part in path]
    name = "".join(f"[{p}]" if p.isascii() and p.isdigit() else f".{p}" for p in parts)
    return name.removeprefix(".")


def lines(messages: Iterable[FieldMessage]) -> str:
    """Format messages as one line per field."""
    return "\n".join(f"{field_name(path)}: {text}".removeprefix(": ") for path, text in messages)


def not_json(error: json.JSONDecodeError) -> str:
    """Return where a text stops being JSON, and why, without quoting the text."""
    reason = JSON_ERRORS.get(error.msg, error.msg)
    return f"not JSON: line {error.lineno}, column {error.colno}: {reason}"


def suggest(name: str, existing: Iterable[str]) -> str:
    """Return a sentence with the names most similar to a misspelt one, else with those there are.

    >>> suggest("tinny", ["tiny", "pythia-70m"])
    'Did you mean tiny?'
    """
    names = sorted(existing)
    ranked = sorted(((_similarity(name.lower(), n.lower()), n) for n in names), reverse=True)
    if similar := [n for similarity, n in ranked if similarity >= SIMILAR][:3]:
        return f"Did you mean {_alternatives(similar)}?"
    if not names:
        return ""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    verb = "is" if len(names) == 1 else "are"
    return f"There {verb}: {', '.join(names[:MAX_LISTED])}{more}."


def _similarity(name: str, other: str) -> float:
    """Return 0 to 1; a name that is a part of the other counts as similar."""
    if min(len(name), len(other)) > 3 and (name in other or other in name):
        return 0.9
    parts = [other, other[: len(name) + 1]] if len(name) > 3 else [other]
    return max(difflib.SequenceMatcher(None, name, part).ratio() for part in parts)


def _union_messages(
    union: tuple[Step, ...], errors: Sequence[LocatedError], defs: Schema
) -> list[FieldMessage]:
    """Return messages about the intended form of a union, or what its forms are."""
    intended = [error for error in errors if len(error.path) > len(union)]
    intended = intended or [e for e in errors if not str(e.error["type"]).endswith(WRONG_FORM)]
    if intended:
        return [_message(error, defs) for error in intended if error.form == intended[0].form]
    expected, value = _expected(errors[0].union_node, defs), _quote(errors[0].error.get("input"))
    return [FieldMessage(union, f"Must be {expected}, not {value}.")]


def _message(located: LocatedError, defs: Schema) -> FieldMessage:
    error, kind = located.error, str(located.error["type"])
    if kind.startswith("union_tag"):
        return _unknown_kind(located)
    if kind == "extra_forbidden":
        return FieldMessage(
            located.path, _unknown_field(str(located.path[-1]), located.holder, defs)
        )
    if kind == "missing":
        expected = _expected(located.node, defs) or "a value"
        return FieldMessage(located.path, f"Is missing: give {expected}.")
    if kind == "value_error":
        text = str(error["msg"]).removeprefix("Value error, ")
        end = "" if text.endswith((".", "?")) else "."
        return FieldMessage(located.path, f"{text[:1].upper()}{text[1:]}{end}")
    return FieldMessage(located.path, _length_message(error, kind) or _type_message(located, defs))


def _unknown_kind(located: LocatedError) -> FieldMessage:
    discriminator = located.node["discriminator"]
    kinds, name = list(discriminator["mapping"]), (located.error.get("ctx") or {}).get("tag")
    similar = suggest(str(name), kinds) if name else ""
    similar = similar if similar.startswith("Did") else ""
    problem = f"There is no kind {_quote(name)}. {similar}" if name else "Is missing."
    return FieldMessage(
        (*located.path, discriminator["propertyName"]),
        f"{problem.strip()} The kinds are: {', '.join(kinds)}.",
    )


def _length_message(error: Mapping[str, Any], kind: str) -> str | None:
    """Return the message about a text or list that is too short, too long or malformed."""
    context = error.get("ctx") or {}
    if kind == "too_short":
        prefix = "Give" if context.get("actual_length") else "Is empty: give"
        return f"{prefix} at least {_counted(context.get('min_length'), 'value')}."
    if kind == "too_long":
        num = context.get("actual_length")
        limit = _counted(context.get("max_length"), "value")
        return f"Give at most {limit}{f', not {num}' if num else ''}."
    if kind in ("string_too_short", "string_too_long"):
        bound = context.get("max_length") or context.get("min_length")
        most = "most" if kind.endswith("long") else "least"
        num = len(error.get("input", ""))
        return f"Give at {most} {_counted(bound, 'character')}, not {num}."
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern"))
        return f"Must be {PATTERNS.get(pattern, f'like {pattern}')}."
    return None


def _type_message(located: LocatedError, defs: Schema) -> str:
    error, node = located.error, located.node
    kind, value = str(error["type"]), error.get("input")
    expected = _expected(node, defs) or _expected_by_error(kind, error.get("ctx") or {})
    if not expected:
        return str(error["msg"]).replace("Input should be", "Must be")
    hint = suggest(str(value), map(str, node["enum"])) if "enum" in node else ""
    hint = f" {hint}" if hint.startswith("Did") else ""
    if kind in ("int_type", "float_type") and _is_quoted_number(value):
        hint = " Write numbers without quotes."
    return f"Must be {expected}, not {_quote(value)}.{hint}"


def _is_quoted_number(value: Any) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _unknown_field(name: str, holder: Schema, defs: Schema) -> str:
    """Return the message about a field that is on the wrong level, or misspelt."""
    fields = holder.get("properties", {})
    specs = [d["properties"] for d in defs.values() if "kind" in d.get("properties", {})]
    if "spec" in fields and any(name in properties for properties in specs):
        return f'Belongs inside "spec": {{"spec": {{..., "{name}": ...}}}}.'
    outer = [d["properties"] for d in defs.values() if "spec" in d.get("properties", {})]
    if "kind" in fields and any(name in properties for properties in outer):
        return 'Belongs beside "spec", not inside it.'
    others = [field for field in fields if field != "kind"] or fields
    return f"There is no field {_quote(name)}. {suggest(name, others)}"


def _expected(node: Schema, defs: Schema) -> str:
    """Return what a field takes: "a whole number from 2 to 1000", '"all" or a list of texts'."""
    if "discriminator" in node:
        return f'an object such as {{"kind": "{next(iter(node["discriminator"]["mapping"]))}"}}'
    if alternatives := forms(node, defs):
        return _alternatives([_expected(form, defs) for form in alternatives])
    if "const" in node:
        return json.dumps(node["const"])
    if "enum" in node:
        return _alternatives([json.dumps(value) for value in node["enum"]])
    kind = node.get("type")
    if kind == "array":
        items = resolve(node.get("items", {}), defs)
        return f"a list of {PLURALS.get(str(items.get('type')), 'objects')}"
    if kind == "object":
        required = node.get("required") or list(node.get("properties", {}))[:1]
        example = json.dumps(dict.fromkeys(required, 0)).replace(": 0", ": ...")
        return f"an object like {example}" if required else "an object"
    bounds = _bounds(node)
    return " ".join(filter(None, [NOUNS.get(str(kind), "a number" if bounds else ""), bounds]))


def _expected_by_error(kind: str, context: Schema) -> str:
    """Return what the error itself expects, where there is no schema."""
    names = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
    types = {"int": "integer", "float": "number", "bool": "boolean", "string": "string"}
    node = {names[key]: value for key, value in context.items() if key in names}
    for prefix, name in types.items():
        if kind.startswith(f"{prefix}_"):
            node["type"] = name
    return str(context.get("expected", "")) or _expected(node, {})


def _bounds(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f"from {low} to {high}"
    if low is not None:
        return f"from {low} up"
    phrases = {
        "exclusiveMinimum": "greater than",
        "exclusiveMaximum": "less than",
        "maximum": "at most",
    }
    return " and ".join(f"{phrases[key]} {node[key]}" for key in phrases if key in node)


def _quote(value: Any) -> str:
    """Return the invalid value, as far as it helps to find it."""
    if isinstance(value, str):
        return f"“{value if len(value) <= 40 else value[:39] + '…'}”"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple | set):
        return "a list"
    plain = value is None or isinstance(value, bool | int | float)
    return json.dumps(value).removesuffix(".0") if plain else "this"


def _alternatives(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _counted(num: Any, noun: str) -> str:
    return f"{num} {noun}" if num == 1 else f"{num} {noun}s"
