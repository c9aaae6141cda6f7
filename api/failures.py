"""Group failed points by their cause: the exception and its message without what varies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from ucurve.schemas.status import ExperimentRef, FailureGroup

MAX_LENGTH = 200  # characters of a cause
MAX_GROUPS = 50
MAX_EXPERIMENTS = 10  # named per group
VARIABLE_PARTS = (  # of messages, in this order
    (re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`"), "'…'"),  # names of files, suites, revisions
    (re.compile(r"(?<![\w…])/[^\s:,;]+"), "…"),  # paths
    (re.compile(r"\b[0-9a-f]{8,}\b", re.IGNORECASE), "…"),  # hashes, addresses
    (re.compile(r"(?<![\w…])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE), "N"),
)


@dataclass
class Cause:
    """All recent failures with one cause."""

    text: str
    latest: Row[Any]
    measurements: dict[int, set[int]] = field(default_factory=dict)  # with their experiments
    experiments: dict[int, ExperimentRef] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return cause_id(self.text)

    def add(self, row: Row[Any]) -> None:
        self.measurements.setdefault(row.id, set()).add(row.experiment)
        self.experiments[row.experiment] = ExperimentRef(
            id=row.experiment, name=row.name, owner=row.owner
        )

    def of(self, owner: str | None) -> tuple[list[int], dict[str, list[int]]]:
        """Return the points in experiments of `owner` (None: of all), and these by owner."""
        owned = {
            ref.id: ref.owner for ref in self.experiments.values() if owner in (None, ref.owner)
        }
        points = [id for id, needed_by in self.measurements.items() if needed_by & owned.keys()]
        by_owner: dict[str, list[int]] = {}
        for id, name in owned.items():
            by_owner.setdefault(name, []).append(id)
        return points, by_owner


def cause_of(error: str | None) -> str:
    """Return what a failure's message has in common with others of the same cause.

    >>> cause_of("ValueError: cannot read '/data/a.txt' at line 12")
    "ValueError: cannot read '…' at line N"
    """
    text = (error or "unknown error").strip()[: 10 * MAX_LENGTH]
    for pattern, replacement in VARIABLE_PARTS:
        text = pattern.sub(replacement, text)
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def cause_id(cause: str) -> str:
    """Return a short id of a cause, the same in every process and at every time."""
    return hashlib.sha256(cause.encode()).hexdigest()[:12]


def by_cause(rows: Iterable[Row[Any]]) -> list[Cause]:
    """Group rows of db.status.failed_points; the cause of the latest failure first."""
    causes: dict[str, Cause] = {}
    for row in rows:
        text = cause_of(row.error)
        if text not in causes:
            causes[text] = Cause(text, row)
        causes[text].add(row)
    return list(causes.values())


def to_groups(causes: Sequence[Cause]) -> list[FailureGroup]:
    """Return the first causes as the API shows them."""
    return [
        FailureGroup(
            id=cause.id,
            cause=cause.text,
            example=cause.latest.error or "unknown error",
            num=len(cause.measurements),
            last_at=cause.latest.finished_at,
            experiments=list(cause.experiments.values())[:MAX_EXPERIMENTS],
            num_experiments=len(cause.experiments),
            owners=sorted({ref.owner for ref in cause.experiments.values()}),
        )
        for cause in causes[:MAX_GROUPS]
    ]
