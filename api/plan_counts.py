"""What a plan would measure, counted while its points are built and dropped again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy.orm import Session

from db import submissions
from db.label_conflicts import MAX_COMPARED

CHUNK = 1_000  # rows held at one time


@dataclass
class PlanCounts:
    """Points of a plan by what the lab knows about them."""

    num_points: int = 0
    num_done: int = 0
    num_running: int = 0
    num_new: int = 0  # never measured, or failed
    num_left: int = 0  # that would be measured
    seconds: float = 0.0  # estimated, of those left
    requirements: set[tuple[str, float]] = field(default_factory=set)  # of those left
    new_rows: list[dict[str, Any]] = field(default_factory=list)  # the first without a measurement

    def add(self, row: dict[str, Any], state: str | None, remeasure: bool) -> None:
        """Count a point; state: of its measurement, None without one."""
        self.num_points += 1
        self.num_done += state == "done"
        self.num_running += state in ("open", "running")
        if state == "done" and not remeasure:
            return
        self.num_left += 1
        self.num_new += state in (None, "failed")
        self.seconds += row["seconds"]
        self.requirements.add((row["requires_device"], row["requires_memory_gb"]))
        if state is None and len(self.new_rows) < MAX_COMPARED:
            self.new_rows.append(row)


def count_states(
    session: Session, rows: Iterable[dict[str, Any]], remeasure: bool = False
) -> PlanCounts:
    """Return the counts of the rows of a plan, which may be built while they are counted."""
    counts, left = PlanCounts(), iter(rows)
    while chunk := list(islice(left, CHUNK)):
        states = submissions.existing_states(session, [row["identity"] for row in chunk])
        for row in chunk:
            counts.add(row, states.get(row["identity"]), remeasure)
    return counts
