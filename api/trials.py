"""Let workers try the models of newly registered checkpoints; the API itself has no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from db import eta, trials
from ucurve.registry.structure import structure_sha256
from ucurve.registry.suites import TRYING, Checkpoint

WAITING = f"{TRYING}: waiting for a worker to build the model and run it once"


def with_structures(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Return the checkpoints with what a worker will try of them.

    Reads headers of files: outside of transactions.
    """
    return [c.model_copy(update={"structure": structure_sha256(c)}) for c in checkpoints]


def entered(session: Session, checkpoints: Sequence[Checkpoint]) -> list[dict[str, Any]]:
    """Return the columns of checkpoints; those of structures not yet tried wait for a worker."""
    rows = {c.revision: c.model_dump(mode="json") for c in checkpoints}
    for row in sorted(rows.values(), key=lambda columns: columns["structure"] or ""):
        rows[row["revision"]] = trials.enter(session, row, WAITING)  # locks in one order
    return list(rows.values())


def with_live_reasons(session: Session, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return the checkpoints; those that wait for a worker say so where none is running."""
    if not any(c.unresolved == WAITING for c in checkpoints) or eta.alive_workers(session):
        return list(checkpoints)
    reason = f"{WAITING}. {eta.NO_WORKER}".removesuffix(".")
    return [
        c.model_copy(update={"unresolved": reason}) if c.unresolved == WAITING else c
        for c in checkpoints
    ]
