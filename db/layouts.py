"""Layouts of checkpoints: stored once by hash, and looked for where a checkpoint has none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import Checkpoint, Json, Layout, Structure


def store(database: Session | Connection, layouts: Iterable[Json]) -> None:
    """Insert layouts that are not stored yet; the caller commits."""
    rows = {row["sha256"]: row for row in layouts}
    for sha256 in sorted(rows):
        database.execute(insert(Layout).values(rows[sha256]).on_conflict_do_nothing())


def find(session: Session, hashes: Iterable[str]) -> list[Layout]:
    """Return the stored layouts with these hashes."""
    return list(session.scalars(select(Layout).where(Layout.sha256.in_(set(hashes)))))


def loaded_names(session: Session, structures: Iterable[str | None]) -> dict[str, list[str]]:
    """Return what the library calls the parameters of models that passed their trial."""
    names = Structure.facts["parameters"]
    tried = select(Structure.sha256, names).where(
        Structure.sha256.in_(set(structures)), Structure.state == "passed"
    )
    return {sha256: list(shapes) for sha256, shapes in session.execute(tried) if shapes}


def without_layout() -> ColumnElement[bool]:
    """Return the condition of checkpoints that are hashed, but not asked for their layout."""
    return Checkpoint.layout_sha256.is_(None) & Checkpoint.weights_sha256.is_not(None)


def like(checkpoint: Any) -> Select[Any]:
    """Return the query of the layout that another checkpoint of the suite has, whose config and
    number of bytes are the same.
    """
    same = (Checkpoint.suite, Checkpoint.config_sha256, Checkpoint.size_bytes)
    values = (checkpoint.suite, checkpoint.config_sha256, checkpoint.size_bytes)
    conditions = [column == value for column, value in zip(same, values, strict=True)]
    return (
        select(Checkpoint.layout_sha256)
        .join(Layout, Layout.sha256 == Checkpoint.layout_sha256)
        .where(*conditions)
        .limit(1)
    )
