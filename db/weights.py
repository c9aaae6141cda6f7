"""The contents of weights, by the SHA-256 of their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, func, select
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
