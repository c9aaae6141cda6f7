"""What is wrong with an input, as plain sentences with the remedy: the one wording of REST, command line and form.

    try:
        spec = GaussianPerturbation.model_validate({"gammas": [], "suit": "tiny"})
    except ValidationError as error:
        wrong_in(error.errors(), GaussianPerturbation.model_json_schema())
    # [Wrong(("gammas",), "Is empty: give at least 1 value."), Wrong(("suit",), "There is no field “suit”. Did you mean suite?")]

Pydantic says what failed; the JSON schema says what was wanted. Of the forms of a union only the one that was meant is told of.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Schema = Mapping[str, Any]
Step = str | int
OF_SHAPE = (
    "_type",
    "_parsing",
    "literal_error",
    "int_from_float",
)  # ends of the types that say: another form was meant
NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}
MANY = {"integer": "whole numbers", "number": "numbers", "string": "texts"}
PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$": "a name of letters, digits, dots, underscores and hyphens, at most 80, "
    "with a letter or digit first"
}
NOT_JSON = {
    "Expecting value": "a value is missing there, or a word stands without quotes",
    "Expecting property name enclosed in double quotes": "names stand in double quotes, and no comma follows the last one",
    "Illegal trailing comma before end of object": "no comma follows the last field",
    "Illegal trailing comma before end of array": "no comma follows the last value",
    "Expecting ',' delimiter": "a comma is missing there",
    "Expecting ':' delimiter": "a colon is missing there",
    "Extra data": "something follows after its end",
    "Unterminated string starting at": "a closing quote is missing",
    "Invalid control character at": "a line end or a tab stands in a text: write \\n or \\t",
}


class Wrong(NamedTuple):
    """One thing to mend: the way to its field, and what to do."""

    path: tuple[Step, ...]
    message: str


class _At(NamedTuple):
    """An error, the field it is about with its schema and that of what holds it, and the union on the way with the form tried."""

    error: Mapping[str, Any]
    path: tuple[Step, ...]
    node: Schema
    holder: Schema
    union: tuple[Step, ...] | None
    form: Step | None
    union_node: Schema


def wrong_in(errors: Iterable[Mapping[str, Any]], schema: Schema) -> list[Wrong]:
    """Every field that is wrong, once; errors are pydantic's `error.errors()`, the schema that of the model."""
    defs = {**schema.get("$defs", {}), "": schema}
    found = [_walk(error, schema, defs) for error in errors]
    unions: dict[tuple[Step, ...], list[_At]] = {}
    for one in found:
        if one.union is not None:
            unions.setdefault(one.union, []).append(one)
    wrong: list[Wrong] = []
    for one in found:
        if one.union is None:
            wrong.append(_told(one, defs))
        elif one is unions[one.union][0]:
            wrong += _of_union(one.union, unions[one.union], defs)
    meant = {
        (*w.path[:-1], w.message.rsplit("Did you mean ", 1)[1].rstrip("?"))
        for w in wrong
        if "Did you mean " in w.message
    }
    kept = [w for w in wrong if not (w.message.startswith("Is missing") and w.path in meant)]
    return list(dict.fromkeys(kept))


def pointer_of(path: Iterable[Step]) -> str:
    """The JSON pointer of a field."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def field_name(path: Iterable[Step]) -> str:
    """A field as people write it: gammas[0], optimiser.learning_rate."""
    named = "".join(f"[{part}]" if str(part).isdigit() else f".{part}" for part in path)
    return named.removeprefix(".")


def lines(wrong: Iterable[Wrong]) -> str:
    """One line per field."""
    return "\n".join(f"{field_name(path)}: {message}".removeprefix(": ") for path, message in wrong)


def not_json(error: json.JSONDecodeError) -> str:
    """Where a text stops being JSON, and why; nothing of the text itself."""
    return (
        f"not JSON: line {error.lineno}, column {error.colno}: {NOT_JSON.get(error.msg, error.msg)}"
    )


def near(name: str, known: Iterable[str]) -> str:
    """The names most like the one that was asked for, as a sentence; else those there are."""
    names = sorted(known)
    close = sorted(((_likeness(name.lower(), one.lower()), one) for one in names), reverse=True)
    if meant := [one for likeness, one in close if likeness >= 0.7][:3]:
        return f"Did you mean {_either(meant)}?"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return (
        f"There {'is' if len(names) == 1 else 'are'}: {', '.join(names[:12])}{more}."
        if names
        else ""
    )


def _likeness(name: str, known: str) -> float:
    """0 to 1; a name cut short or with something before or after it is like the whole."""
    if min(len(name), len(known)) > 3 and (name in known or known in name):
        return 0.9
    parts = [known, known[: len(name) + 1]] if len(name) > 3 else [known]
    return max(difflib.SequenceMatcher(None, name, part).ratio() for part in parts)


# ------------------------------------------------------------------------------------------- the way to the field


def _walk(error: Mapping[str, Any], schema: Schema, defs: Schema) -> _At:
    """Follow pydantic's location through the schema: tags of unions are steps of the location but not of the path."""
    node, holder, path = _resolved(schema, defs), schema, list[Step]()
    union: tuple[Step, ...] | None = None
    form: Step | None = None
    union_node: Schema = {}
    for step in error["loc"]:
        node = _resolved(node, defs)
        forms = _forms(node, defs)
        if "discriminator" in node:
            node = _resolved({"$ref": node["discriminator"]["mapping"].get(step, "")}, defs)
            continue
        if len(forms) > 1:
            if union is None:
                union, form, union_node = tuple(path), step, node
            node = next((one for one in forms if _tagged(one, str(step))), {})
            continue
        node = forms[0] if forms else node
        path.append(step)
        holder = node
        node = node.get("items", {}) if isinstance(step, int) else _property(node, str(step))
    node = _resolved(node, defs)
    return _At(error, tuple(path), node, _resolved(holder, defs), union, form, union_node)


def _property(node: Schema, name: str) -> Schema:
    more = node.get("additionalProperties")
    return node.get("properties", {}).get(name) or (more if isinstance(more, Mapping) else {})


def _forms(node: Schema, defs: Schema) -> list[Schema]:
    """The forms of a value other than null."""
    forms = [_resolved(form, defs) for form in node.get("anyOf", node.get("oneOf", ()))]
    return [form for form in forms if form.get("type") != "null"]


def _resolved(node: Schema, defs: Schema) -> Schema:
    if "$ref" in node:
        return {
            **defs.get(node["$ref"].rsplit("/", 1)[-1], {}),
            **{key: value for key, value in node.items() if key != "$ref"},
        }
    return node


def _tagged(form: Schema, tag: str) -> bool:
    """Whether pydantic's tag of a union's form means this one."""
    if "const" in form or "enum" in form:
        return tag.startswith("literal[")
    words = {
        "array": "list",
        "integer": "int",
        "number": "float",
        "string": "str",
        "boolean": "bool",
    }
    kind = str(form.get("type"))
    return (
        tag == form.get("title")
        or (kind in words and words[kind] in tag.split("[")[0])
        or (kind == "object" and "dict" in tag)
    )


def _of_union(union: tuple[Step, ...], tried: Sequence[_At], defs: Schema) -> list[Wrong]:
    """What is wrong with the form that was meant, or what there is to choose from."""
    meant = [one for one in tried if len(one.path) > len(union)]
    meant = meant or [one for one in tried if not str(one.error["type"]).endswith(OF_SHAPE)]
    if meant:
        return [_told(one, defs) for one in meant if one.form == meant[0].form]
    return [
        Wrong(
            union,
            f"Must be {_wanted(tried[0].union_node, defs)}, not {_said(tried[0].error.get('input'))}.",
        )
    ]


# ------------------------------------------------------------------------------------------- in words


def _told(one: _At, defs: Schema) -> Wrong:
    error, kind = one.error, str(one.error["type"])
    context = error.get("ctx") or {}
    if kind == "extra_forbidden":
        return Wrong(one.path, _unknown(str(one.path[-1]), one.holder, defs))
    if kind == "missing":
        return Wrong(one.path, f"Is missing: give {_wanted(one.node, defs) or 'a value'}.")
    if kind.startswith("union_tag"):
        known, name = list(one.node["discriminator"]["mapping"]), context.get("tag")
        there = f"The kinds are: {', '.join(known)}."
        close = near(str(name), known) if name else ""
        said = (
            f"There is no kind {_said(name)}. {close if close.startswith('Did') else ''}"
            if name
            else "Is missing."
        )
        return Wrong(
            (*one.path, one.node["discriminator"]["propertyName"]), f"{said.strip()} {there}"
        )
    if kind in ("too_short", "too_long"):
        least, num = context.get("min_length"), context.get("actual_length")
        if kind == "too_short":
            return Wrong(
                one.path,
                f"{'Is empty: give' if not num else 'Give'} at least {_counted(least, 'value')}.",
            )
        return Wrong(
            one.path,
            f"Give at most {_counted(context.get('max_length'), 'value')}{f', not {num}' if num else ''}.",
        )
    if kind in ("string_too_short", "string_too_long"):
        bound = context.get("max_length") or context.get("min_length")
        most = "most" if kind.endswith("long") else "least"
        return Wrong(
            one.path,
            f"Give at {most} {_counted(bound, 'character')}, not {len(error.get('input', ''))}.",
        )
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern"))
        return Wrong(one.path, f"Must be {PATTERNS.get(pattern, f'like {pattern}')}.")
    if kind == "value_error":
        said = str(error["msg"]).removeprefix("Value error, ")
        return Wrong(
            one.path, f"{said[:1].upper()}{said[1:]}{'' if said.endswith(('.', '?')) else '.'}"
        )
    wanted = _wanted(one.node, defs) or _wanted_by(kind, context)
    if not wanted:
        return Wrong(one.path, str(error["msg"]).replace("Input should be", "Must be"))
    close = near(str(error.get("input")), map(str, one.node["enum"])) if "enum" in one.node else ""
    close = f" {close}" if close.startswith("Did") else ""
    if kind in ("int_type", "float_type") and _is_quoted_number(error.get("input")):
        close = " Write numbers without quotes."
    return Wrong(one.path, f"Must be {wanted}, not {_said(error.get('input'))}.{close}")


def _is_quoted_number(value: Any) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _unknown(name: str, holder: Schema, defs: Schema) -> str:
    """A field that is not there: it stands on the wrong level, or is misspelt."""
    from ucurve.experiments import kinds  # they import the schemas

    known = holder.get("properties", {})
    if "spec" in known and any(name in kind.model_fields for kind in kinds().values()):
        return f'Belongs inside "spec": {{"spec": {{..., "{name}": ...}}}}.'
    outer = [
        inner["properties"] for inner in defs.values() if "spec" in inner.get("properties", {})
    ]
    if "kind" in known and any(name in fields for fields in outer):
        return 'Belongs beside "spec", not inside it.'
    return f"There is no field {_said(name)}. {near(name, [field for field in known if field != 'kind'] or known)}"


def _wanted(node: Schema, defs: Schema) -> str:
    """What a field takes: "a whole number from 2 to 1000", '"all", {"log_spaced": ...} or a list of texts'."""
    if "discriminator" in node:
        return f'an object such as {{"kind": "{next(iter(node["discriminator"]["mapping"]))}"}}'
    if forms := _forms(node, defs):
        return _either([_wanted(form, defs) for form in forms])
    if "const" in node:
        return json.dumps(node["const"])
    if "enum" in node:
        return _either([json.dumps(value) for value in node["enum"]])
    kind = node.get("type")
    if kind == "array":
        items = _resolved(node.get("items", {}), defs)
        return f"a list of {MANY.get(str(items.get('type')), 'objects')}"
    if kind == "object":
        required = node.get("required") or list(node.get("properties", {}))[:1]
        return (
            f"an object like {json.dumps(dict.fromkeys(required, 0)).replace(': 0', ': ...')}"
            if required
            else "an object"
        )
    bounds = _bounds(node)
    return " ".join(filter(None, [NOUNS.get(str(kind), "a number" if bounds else ""), bounds]))


def _wanted_by(kind: str, context: Schema) -> str:
    """What an error itself says was wanted, where there is no schema."""
    names = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
    node = {names[key]: value for key, value in context.items() if key in names}
    for word, noun in {
        "int": "integer",
        "float": "number",
        "bool": "boolean",
        "string": "string",
    }.items():
        if kind.startswith(f"{word}_"):
            node["type"] = noun
    return str(context.get("expected", "")) or _wanted(node, {})


def _bounds(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f"from {low:,} to {high:,}".replace(",", "")
    if low is not None and high is None:
        return f"from {low} up"
    said = {
        "exclusiveMinimum": "greater than",
        "exclusiveMaximum": "less than",
        "maximum": "at most",
    }
    return " and ".join(f"{words} {node[key]}" for key, words in said.items() if key in node)


def _said(value: Any) -> str:
    """Somebody's input, as far as it helps to find it."""
    if isinstance(value, str):
        return f"“{value if len(value) <= 40 else value[:39] + '…'}”"
    if isinstance(value, Mapping | list | tuple | set):
        return "an object" if isinstance(value, Mapping) else "a list"
    return (
        json.dumps(value).removesuffix(".0")
        if value is None or isinstance(value, bool | int | float)
        else "this"
    )


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _counted(num: Any, noun: str) -> str:
    return f"{num} {noun}" if num == 1 else f"{num} {noun}s"
