"""Every text, list and object that a request may contain is bounded in size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ucurve.experiments import kinds

MAX_TEXT, MAX_ITEMS = 20_000_000, 500_000
SIZED = {"string": "maxLength", "array": "maxItems", "object": "maxProperties"}


def unbounded(node: Any, defs: Mapping[str, Any], place: str, visited: set[str]) -> Iterator[str]:
    """Yield the places of a schema whose value may be of any size."""
    if not isinstance(node, dict):
        return
    if name := node.get("$ref", "").rsplit("/", 1)[-1]:
        if name not in visited:
            visited.add(name)
            yield from unbounded(defs[name], defs, name, visited)
        return
    for part in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from unbounded(part, defs, place, visited)
    kind = node.get("type", "")
    closed = kind == "object" and "properties" in node
    listed = "enum" in node or "const" in node or node.get("format") in ("date-time", "binary")
    listed |= bool(re.search(r"\{\d+(,\d+)?\}\$$", node.get("pattern", "")))
    limit = node.get(SIZED.get(kind, ""))
    if kind in SIZED and not closed and not listed and limit is None:
        yield f"{place} ({kind})"
    assert limit is None or limit <= (MAX_TEXT if kind == "string" else MAX_ITEMS), place
    for name, part in node.get("properties", {}).items():
        yield from unbounded(part, defs, f"{place}.{name}", visited)
    for key in ("items", "additionalProperties", "prefixItems"):
        parts = node.get(key)
        for part in parts if isinstance(parts, list) else [parts]:
            yield from unbounded(part, defs, f"{place}[]", visited)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    from api.main import app

    return app.openapi()


def test_every_body_is_bounded(document: dict[str, Any]) -> None:
    defs, visited = document["components"]["schemas"], set[str]()
    places = [
        place
        for path, methods in document["paths"].items()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for place in unbounded(content["schema"], defs, path, visited)
    ]
    assert len(visited) > 15
    assert not places, "\n".join(places)


def test_every_parameter_is_bounded(document: dict[str, Any]) -> None:
    defs = document["components"]["schemas"]
    parameters = [
        (f"{path} {parameter['name']}", parameter["schema"])
        for path, methods in document["paths"].items()
        for operation in methods.values()
        for parameter in operation.get("parameters", ())
    ]
    places = [place for name, node in parameters for place in unbounded(node, defs, name, set())]
    assert len(parameters) > 40
    assert not places, "\n".join(dict.fromkeys(places))


@pytest.mark.parametrize("kind", kinds())
def test_every_field_of_a_spec_is_bounded(kind: str) -> None:
    schema = kinds()[kind].model_json_schema()
    assert not list(unbounded(schema, schema.get("$defs", {}), kind, set()))
