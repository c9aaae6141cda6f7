"""The audit trail, for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth.authorization import Admin
from db import audit
from db.session import open_session
from ucurve.schemas.audit import AuditPage, AuditQuery, AuditRecord

router = APIRouter(prefix="/v1", tags=["people"])


@router.get("/audit", summary="List who changed what")
def list_records(user: Admin, query: Annotated[AuditQuery, Query()]) -> AuditPage:
    """Newest first: one record per request that changed something, never of a refused one."""
    with open_session() as session:
        rows = audit.records(
            session,
            query.limit + 1,
            before_id=query.before,
            **query.model_dump(exclude={"before", "limit"}),
        )
    copied = AuditRecord.model_fields.keys() - {"user"}
    records = [
        AuditRecord(user=row.user_name, **{name: getattr(row, name) for name in copied})
        for row in rows[: query.limit]
    ]
    return AuditPage(records=records, next=records[-1].id if len(rows) > query.limit else None)
