"""Users and their access tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, func
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class User(Base):
    """A user, whose experiments share the workers with those of other users."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'submitter', 'admin')", name="users_role"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(server_default="submitter")
    # Limits: queued points of all unfinished experiments, points of one. None: the lab's default.
    most_queued: Mapped[int | None]
    most_planned: Mapped[int | None]
    blocked_at: Mapped[datetime | None]  # tokens are rejected since
    # Virtual time of fair scheduling: weighted seconds of work received; the lowest is next.
    turn: Mapped[float] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Token(Base):
    """An access token of the API. Only the SHA-256 of its secret is stored."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("users.name"), index=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
