"""Write and read the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import AuditRecord, Json


def record(
    session: Session,
    user: str,
    action: str,
    object: str,
    source: str,
    *,
    token: int | None = None,
    address: str | None = None,
    details: Json | None = None,
) -> None:
    """Append a record in the transaction of the change; the caller commits."""
    session.add(
        AuditRecord(
            user_name=user,
            token=token,
            action=action,
            object=object,
            source=source,
            address=address,
            details=details or {},
        )
    )


def records(
    session: Session,
    limit: int,
    *,
    before_id: int | None = None,
    user: str | None = None,
    action: str | None = None,
    object: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[AuditRecord]:
    """Return matching records, newest first; before_id: only older ones than this."""
    query = select(AuditRecord).order_by(AuditRecord.id.desc()).limit(limit)
    for column, name in (
        (AuditRecord.user_name, user),
        (AuditRecord.action, action),
        (AuditRecord.object, object),
    ):
        if name is not None:
            query = query.where(column == name)
    if before_id is not None:
        query = query.where(AuditRecord.id < before_id)
    if since is not None:
        query = query.where(AuditRecord.at >= since)
    if until is not None:
        query = query.where(AuditRecord.at < until)
    return session.scalars(query).all()
