"""Read the layouts of checkpoints and store them, so that plans know the names of tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.orm import Session

from api.catalogue import as_checkpoint
from db import layouts
from db.models import Checkpoint as CheckpointRow
from db.models import Json
from ucurve.registry.hub_cache import HubUnreachableError
from ucurve.registry.layouts import layout_of
from ucurve.registry.suites import Checkpoint
from ucurve.registry.tensors.tensor_layout import Layout

UNKNOWN = ""  # of a checkpoint whose files do not tell the names of their tensors


def read_layouts(checkpoints: Iterable[Checkpoint]) -> tuple[list[Checkpoint], list[Layout]]:
    """Return the checkpoints, usable ones on this machine with their layouts.

    Reads files: outside of transactions.
    """
    described, read = [], {}
    for checkpoint in checkpoints:
        if checkpoint.location.scheme != "hub" and checkpoint.unresolved is None:
            layout = layout_of(checkpoint)
            if layout is not None:
                read[layout.sha256] = layout
            changes = {"layout_sha256": layout.sha256 if layout else UNKNOWN}
            checkpoint = checkpoint.model_copy(update=changes)
        described.append(checkpoint)
    return described, list(read.values())


def store_layouts(session: Session, read: Iterable[Layout]) -> None:
    """Store layouts; the caller commits."""
    layouts.store(session, [_values(layout) for layout in read])


def find_missing_layouts(connection: Connection) -> bool:
    """Look for the layouts of usable checkpoints that have none: of earlier releases, of workers,
    and of the hub. Return False when the hub did not answer.
    """
    reachable = True
    missing = select(CheckpointRow).where(layouts.without_layout()).order_by(CheckpointRow.id)
    while True:
        local = CheckpointRow.location["scheme"].astext != "hub"
        query = missing if reachable else missing.where(local)
        row: Any = connection.execute(query.limit(1)).first()
        if row is None:
            return reachable
        try:
            sha256 = _read(connection, row)
        except HubUnreachableError:
            reachable = False
            continue
        hashed = CheckpointRow.weights_sha256.is_not_distinct_from(row.weights_sha256)
        connection.execute(
            update(CheckpointRow)
            .where(CheckpointRow.id == row.id, hashed)
            .values(layout_sha256=sha256)
        )


def _read(connection: Connection, row: Any) -> str:
    """Return the hash of a checkpoint's layout, which is stored. Raises HubUnreachableError."""
    if row.location["scheme"] == "hub":  # one request for all checkpoints of a suite, not one each
        sha256: Any = connection.scalar(layouts.like(row))
        if sha256:
            return str(sha256)
    layout = layout_of(as_checkpoint(row))
    if layout is None:
        return UNKNOWN
    layouts.store(connection, [_values(layout)])
    return layout.sha256


def _values(layout: Layout) -> Json:
    return {"sha256": layout.sha256, **layout.model_dump(mode="json")}
