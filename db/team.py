"""Rows about people and what leaves or enters the lab: tokens, stars, notices, reference curves."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models import Base, Json


class Token(Base):
    """A key to the API, shown once; only its SHA-256 is kept."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("users.name"), index=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Star(Base):
    """A person's mark on an experiment."""

    __tablename__ = "stars"

    owner: Mapped[str] = mapped_column(ForeignKey("users.name"), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)


class Notice(Base):
    """A webhook call that is due: tried again until it is delivered or given up."""

    __tablename__ = "notices"
    __table_args__ = (Index("notices_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), index=True)
    url: Mapped[str]
    event: Mapped[str]  # done, failed
    num_tries: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())  # None: delivered, or given up
    delivered_at: Mapped[datetime | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ReferenceCurve(Base):
    """Numbers that were not measured here (another tool's, a paper's): drawn beside ours, never mixed with them."""

    __tablename__ = "reference_curves"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    suite: Mapped[str | None] = mapped_column(index=True)
    origin: Mapped[Json]  # importer, file name, sha256 of the file, citation
    rows: Mapped[list[Json]] = mapped_column(JSONB)  # revision, tokens, metric, value, standard_error each
    owner: Mapped[str] = mapped_column(ForeignKey("users.name"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
