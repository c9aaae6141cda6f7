"""Rows about people, what leaves or enters the lab, and what is found in it: tokens, stars, notices, references, labels."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DDL, BigInteger, ForeignKey, Identity, Index, event, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models import Base, Json, Measurement


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
    experiment_id: Mapped[int] = mapped_column(
        ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True
    )


class WebhookDelivery(Base):
    """A webhook call that is due: tried again until it is delivered or given up."""

    __tablename__ = "notices"
    __table_args__ = (Index("notices_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(
        ForeignKey("experiments.id", ondelete="CASCADE"), index=True
    )
    url: Mapped[str]
    event: Mapped[str]  # done, failed
    num_tries: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime | None] = mapped_column(
        server_default=func.now()
    )  # None: delivered, or given up
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
    rows: Mapped[list[Json]] = mapped_column(
        JSONB
    )  # revision, tokens, metric, value, standard_error each
    owner: Mapped[str] = mapped_column(ForeignKey("users.name"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LabelValue(Base):
    """A value that a label of measurements has: what the explorer offers, without reading millions of rows.

    Written with the measurements (`record_labels`) and never taken back, so it may name what is gone. '' where there is no suite
    or evaluation set.
    """

    __tablename__ = "label_values"

    suite: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    evaluation: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(JSONB, primary_key=True)


# The explorer reads labels and metrics of many rows: what is long and read by single rows only lies beside the table.
event.listen(
    Measurement.__table__,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]
        """
        ALTER TABLE measurements SET (toast_tuple_target = 768), ALTER COLUMN labels SET STORAGE main,
            ALTER COLUMN metrics SET STORAGE main"""
    ),
)
