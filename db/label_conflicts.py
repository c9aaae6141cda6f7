"""Results under the same labels with another identity: other weights, dataset or protocol."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.models import Json

MAX_COMPARED = 5000  # points of a plan that are compared
MODEL_INPUTS = ("weights", "config", "tokenizer", "initial")
# The numbers that a user chose, seeds included. Where they differ, the results answer other
# questions, and of those a lab may have thousands under the same labels: they stay in the database.
NUMBERS = """jsonb_path_query_array(
    {}, 'strict $.** ? (@.type() == "number" || @.type() == "boolean")')"""
SHA256 = re.compile(r"[0-9a-f]{64}")


def label_conflicts(session: Session, kind: str, points: Sequence[Json]) -> dict[str, int]:
    """Return {"weights", "data" or "protocol": number of points with such a finished result}.

    points: identity, inputs, labels, source each. Results that differ in anything else do not
    count: they answer other questions.
    """
    compared = points[:MAX_COMPARED]
    suites = sorted({str(suite) for point in compared if (suite := point["labels"].get("suite"))})
    rows = session.execute(
        text(f"""
            SELECT p.number, m.inputs, m.evaluation
            FROM jsonb_array_elements(CAST(:points AS jsonb)) WITH ORDINALITY p(value, number)
            JOIN measurements m ON m.labels = p.value -> 'labels'
            WHERE m.state = 'done' AND m.repeat = 0 AND m.kind = :kind
                AND {"m.suite = ANY(:suites)" if suites else "m.suite IS NULL"}
                AND {NUMBERS.format("m.inputs")} = {NUMBERS.format("p.value -> 'inputs'")}"""),
        {
            "points": json.dumps(
                [{"labels": point["labels"], "inputs": point["inputs"]} for point in compared]
            ),
            "kind": kind,
            "suites": suites,
        },
    )
    conflicts: dict[str, set[int]] = defaultdict(set)
    for number, inputs, evaluation in rows:
        point = compared[number - 1]
        dataset = (point["source"].get("dataset") or {}).get("name")
        reasons = {_reason(*leaf) for leaf in _differences(point["inputs"], inputs)}
        if reasons and None not in reasons and (evaluation == dataset or "data" not in reasons):
            first = next(r for r in ("protocol", "weights", "data") if r in reasons)
            conflicts[first].add(number)
    return {reason: len(numbers) for reason, numbers in conflicts.items()}


def _differences(left: Any, right: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, left, right) of every leaf that differs."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left.keys() | right.keys():
            yield from _differences(left.get(key), right.get(key), key)
    elif left != right:
        yield name, left, right


def _reason(name: str, left: Any, right: Any) -> str | None:
    """Return the kind of a difference; None for one that the user chose."""
    if name == "names":  # of tensors: what a version of the protocol calls them
        return "protocol"
    if name == "protocol":
        same = str(left).rpartition("/")[0] == str(right).rpartition("/")[0]
        return "protocol" if same else None
    if name in MODEL_INPUTS:
        return "weights"
    hashes = all(isinstance(value, str) and SHA256.fullmatch(value) for value in (left, right))
    return "data" if hashes else None
