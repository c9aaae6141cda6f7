"""Numbers in JSON bodies are JSON numbers: no text, no boolean, no 5.5 or 5.0 for an integer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema

STRICT_TYPES = ("int", "float", "bool")
NOT_SCHEMAS = ("metadata", "serialization", "default")  # keys whose content is no core schema


def _make_strict(node: Any, handler: GetCoreSchemaHandler, visited: set[int]) -> None:
    """Set `strict` on every number in a core schema, in place; follows references once."""
    if isinstance(node, list | tuple):
        for part in node:
            _make_strict(part, handler, visited)
    if not isinstance(node, dict) or id(node) in visited:
        return
    visited.add(id(node))
    if node.get("type") == "definition-ref":
        _make_strict(handler.resolve_ref_schema(node), handler, visited)
        return
    if node.get("type") in STRICT_TYPES:
        node["strict"] = True
    for key, part in node.items():
        if key not in NOT_SCHEMAS:
            _make_strict(part, handler, visited)


class StrictNumbers(BaseModel):
    """Base of models whose int, float and bool fields, at any depth, take only values of that type.

    Pydantic's lax mode reads "2_0" as 20, true as 1, and 1e400 as infinity; its strict mode would
    also refuse tuples for lists. A float field takes whole numbers, as in JSON.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema = handler(source)
        _make_strict(schema, handler, set())
        return schema
