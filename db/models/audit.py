"""The audit trail."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DDL, BigInteger, Identity, Index, event, func, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json


class AuditRecord(Base):
    """Who changed what: one row per request that changed something, in its transaction.

    Names are kept as text, without foreign keys: records outlive what they are about.
    """

    __tablename__ = "audit_records"
    __table_args__ = (
        Index("audit_records_user", "user_name", "id"),
        Index("audit_records_object", "object", "id"),
        Index("audit_records_time", "at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    user_name: Mapped[str]
    token: Mapped[int | None] = mapped_column(BigInteger)  # id of the access token in use
    action: Mapped[str]
    object: Mapped[str]
    source: Mapped[str]  # api, python, cli, dashboard, lab
    address: Mapped[str | None]
    details: Mapped[Json] = mapped_column(server_default=text("'{}'"))


APPEND_ONLY = """
    CREATE FUNCTION audit_records_append_only() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''audit records cannot be changed''; END'"""
TRIGGER = """
    CREATE TRIGGER audit_records_append_only BEFORE UPDATE OR DELETE ON audit_records
    FOR EACH ROW EXECUTE FUNCTION audit_records_append_only()"""

for _statement in (APPEND_ONLY, TRIGGER):
    event.listen(
        AuditRecord.__table__,
        "after_create",
        DDL(_statement),  # type: ignore[no-untyped-call]
    )
