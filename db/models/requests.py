"""Requests that changed something: their answers, kept for a repetition."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class IdempotentRequest(Base):
    """A request with an Idempotency-Key and its answer, written in the transaction of its change.

    The key itself is not stored, and the answer is encrypted with it: answers may hold secrets.
    """

    __tablename__ = "idempotent_requests"

    owner: Mapped[str] = mapped_column(primary_key=True)  # '' for requests without a user
    key_sha256: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[str]
    answer: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
