"""The contents of weights, by the SHA-256 of their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import Json, WeightsContent


def keep_contents(session: Session | Connection, contents: Mapping[str, Json]) -> None:
    """Insert contents; those with tensors replace what is there. The caller commits."""
    for sha256, content in sorted(contents.items()):
        new = insert(WeightsContent).values(weights_sha256=sha256, content=content)
        session.execute(
            new.on_conflict_do_update(
                index_elements=["weights_sha256"],
                set_={"content": new.excluded.content, "changed_at": func.clock_timestamp()},
                where=new.excluded.content["tensors"].astext.is_not(None)
                & (WeightsContent.content != new.excluded.content),
            )
        )


def contents_known(session: Session, hashes: Iterable[str]) -> dict[str, datetime]:
    """Return when the contents of weights changed last, of those that are known."""
    names = (WeightsContent.weights_sha256, WeightsContent.changed_at)
    query = select(*names).where(WeightsContent.weights_sha256.in_(list(hashes)))
    return {row.weights_sha256: row.changed_at for row in session.execute(query)}


def contents_of(session: Session, hashes: Iterable[str]) -> dict[str, Json]:
    """Return contents by the hash of the weights."""
    names = (WeightsContent.weights_sha256, WeightsContent.content)
    query = select(*names).where(WeightsContent.weights_sha256.in_(list(hashes)))
    return {row.weights_sha256: row.content for row in session.execute(query)}


def measured_revisions(session: Session, experiment: int) -> Sequence[Row[Any]]:
    """Return the distinct suite, revision, scale of the noise, and step 0 of its sigma."""
    query = text("""
        SELECT DISTINCT p.labels ->> 'suite' AS suite, p.labels ->> 'revision' AS revision,
            p.labels ->> 'scale' AS scale, m.source -> 'initial' ->> 'revision' AS initial
        FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
        WHERE p.experiment_id = :id""")
    return session.execute(query, {"id": experiment}).all()
