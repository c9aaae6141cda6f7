"""Numbers that exist under the same labels with another identity: other weights, another text or protocol of the same name."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.models import Json

MOST_COMPARED = 5000  # points of a plan that are looked for
OF_THE_MODEL = ("weights", "config", "tokenizer", "initial")
SHA256 = re.compile(r"[0-9a-f]{64}")


def label_conflicts(session: Session, kind: str, points: Sequence[Json]) -> dict[str, int]:
    """{what is other about them: how many of these points have such a finished namesake}: "weights", "data", "protocol".

    points: identity, inputs, labels, source each. Those that differ in anything else, too, are other questions.
    """
    asked = points[:MOST_COMPARED]
    suites = sorted({str(suite) for point in asked if (suite := point["labels"].get("suite"))})
    rows = session.execute(
        text(f"""
            SELECT l.number, m.inputs, m.evaluation
            FROM jsonb_array_elements(CAST(:labels AS jsonb)) WITH ORDINALITY l(value, number)
            JOIN measurements m ON m.labels = l.value
            WHERE m.state = 'done' AND m.repeat = 0 AND m.kind = :kind
                AND {"m.suite = ANY(:suites)" if suites else "m.suite IS NULL"}"""),
        {
            "labels": json.dumps([point["labels"] for point in asked]),
            "kind": kind,
            "suites": suites,
        },
    )
    found: dict[str, set[int]] = defaultdict(set)
    for number, inputs, evaluation in rows:
        point = asked[number - 1]
        named = (point["source"].get("dataset") or {}).get("name")
        others = {_other(*leaf) for leaf in _different(point["inputs"], inputs)}
        if others and None not in others and (evaluation == named or "data" not in others):
            found[
                "protocol" if "protocol" in others else "weights" if "weights" in others else "data"
            ].add(number)
    return {other: len(numbers) for other, numbers in found.items()}


def _different(one: Any, other: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, value, other value) of every leaf that is not the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from _different(one.get(key), other.get(key), key)
    elif one != other:
        yield name, one, other


def _other(name: str, one: Any, other: Any) -> str | None:
    """What kind of difference this is; None: one that the asker chose."""
    if name == "protocol":
        same = str(one).rpartition("/")[0] == str(other).rpartition("/")[0]
        return "protocol" if same else None
    if name in OF_THE_MODEL:
        return "weights"
    hashes = all(isinstance(value, str) and SHA256.fullmatch(value) for value in (one, other))
    return "data" if hashes else None
