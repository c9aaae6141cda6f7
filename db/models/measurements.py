"""Measurements, their attempts, and the values of their labels."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json

TOKENS = (
    "CASE WHEN jsonb_typeof(labels -> 'tokens') = 'number' "
    "THEN CAST(labels -> 'tokens' AS bigint) END"
)


class Measurement(Base):
    """One result, shared by all experiments that need it; its metrics are those of `attempt_id`.

    `repeat` 0 is the shared result. A re-measurement is a row of its own with the same identity and
    the next `repeat`: it is measured like any other and compared with the first, which is kept.
    """

    __tablename__ = "measurements"
    __table_args__ = (
        CheckConstraint(
            "state IN ('open', 'running', 'done', 'failed')", name="measurements_state"
        ),
        CheckConstraint(
            "(state = 'running') = (lease_token IS NOT NULL)", name="measurements_lease"
        ),
        Index(
            "measurements_unfinished", "id", postgresql_where=text("state IN ('open', 'running')")
        ),
        Index(
            "measurements_latest",
            "kind",
            text("finished_at DESC"),
            postgresql_where=text("state = 'done'"),
        ),
        Index(
            "measurements_failed",
            text("finished_at DESC"),
            postgresql_where=text("state = 'failed'"),
        ),
        UniqueConstraint("identity", "repeat"),
        Index(
            "measurements_found", "suite", "kind", "tokens", postgresql_where=text("state = 'done'")
        ),
        Index(
            "measurements_lease_token",
            "lease_token",
            postgresql_where=text("lease_token IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    identity: Mapped[str]
    repeat: Mapped[int] = mapped_column(server_default="0")
    kind: Mapped[str]  # whose run() measures it: the first to plan it; not part of the identity
    inputs: Mapped[Json]
    source: Mapped[Json]
    # As first planned: what the explorer filters and groups by.
    labels: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    suite: Mapped[str | None] = mapped_column(Computed("labels ->> 'suite'", persisted=True))
    tokens: Mapped[int | None] = mapped_column(BigInteger, Computed(TOKENS, persisted=True))
    evaluation: Mapped[str | None] = mapped_column(
        Computed("source -> 'dataset' ->> 'name'", persisted=True)
    )
    group_key: Mapped[str]
    seconds: Mapped[float]
    requires_device: Mapped[str]
    requires_memory_gb: Mapped[float]
    state: Mapped[str] = mapped_column(server_default="open")
    num_lost: Mapped[int] = mapped_column(server_default="0")  # workers that died measuring it
    lease_owner: Mapped[str | None]
    lease_token: Mapped[str | None] = mapped_column(UUID(as_uuid=False))
    lease_expires: Mapped[datetime | None]
    live: Mapped[Json | None]
    metrics: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    nonfinite: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    error: Mapped[str | None]
    attempt_id: Mapped[int | None] = mapped_column(BigInteger)
    finished_at: Mapped[datetime | None]


class Attempt(Base):
    """One attempt at a measurement, written at its start and once more at its end."""

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint(
            "outcome IN ('running', 'done', 'failed', 'stopped', 'lost')", name="attempts_outcome"
        ),
        Index("attempts_running", "measurement_id", postgresql_where=text("outcome = 'running'")),
        Index("attempts_lost", "id", postgresql_where=text("outcome = 'lost'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    measurement_id: Mapped[int] = mapped_column(ForeignKey("measurements.id"), index=True)
    worker: Mapped[str]
    device: Mapped[str]
    versions: Mapped[Json]
    outcome: Mapped[str] = mapped_column(server_default="running")
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]
    metrics: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    nonfinite: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    series: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    traceback: Mapped[str | None]
    log: Mapped[str | None]  # last log lines of the worker
    origin: Mapped[str | None]  # the lab it was imported from; None: this one


class LabelValue(Base):
    """A value of a label, offered by the explorer without reading millions of measurements.

    Written with the measurements (db.explorer.record_labels) and never removed, so it may be of a
    measurement that is gone. '' where there is no suite or evaluation set.
    """

    __tablename__ = "label_values"

    suite: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    evaluation: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(JSONB, primary_key=True)


# The explorer reads labels and metrics of many rows: long columns that are read with single rows
# only are stored out of line.
event.listen(
    Measurement.__table__,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]
        """
        ALTER TABLE measurements SET (toast_tuple_target = 768),
            ALTER COLUMN labels SET STORAGE main, ALTER COLUMN metrics SET STORAGE main"""
    ),
)
