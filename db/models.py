"""The rows. Postgres is the truth; a Celery message is only a wake-up that may be lost or doubled.

A **measurement** is one row per identity (and repeat, see there), the hash of everything that determines its number.
**Experiments** point at measurements, many to many: whoever plans the same point shares the row. An **attempt** is one
try at it, append-only.

    open --claim--> running --finish--> done | failed       claim: lease = owner, token, expiry by the database's clock
      ^               |  |
      |---- release --|  |-- lease expires: the next claim takes it, the attempt is `lost`
      |---- reopen (somebody points at a failed one again)

- A measurement is wanted while any active experiment points at it. Pausing and cancelling are of the experiment.
- Every transition compares and sets: finish and release need the lease's token, so a worker that lost its lease cannot write.
- Lock order, always: measurements (by identity), then experiments (by id), then users. No deadlocks.
- Readers follow `ExperimentPoint.version`, taken from the experiment's counter under its row lock: versions commit in
  order, so "version > last seen" never skips a row, which a sequence would.

The transitions are in `claims.py` (a worker's) and `submissions.py` (a person's).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]
TOKENS = "CASE WHEN jsonb_typeof(labels -> 'tokens') = 'number' THEN CAST(labels -> 'tokens' AS bigint) END"


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        str: Text,
        datetime: DateTime(timezone=True),
        Json: JSONB(none_as_null=True),
        list[str]: ARRAY(Text),
    }


class User(Base):
    """A person whose experiments take turns with the others'."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'submitter', 'admin')", name="users_role"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(server_default="submitter")
    most_queued: Mapped[
        int | None
    ]  # points of unfinished experiments at one time; None: the lab's default
    most_planned: Mapped[int | None]  # points of one experiment
    blocked_at: Mapped[
        datetime | None
    ]  # since when their tokens are refused and nobody signs in as them
    turn: Mapped[float] = mapped_column(
        server_default="0"
    )  # seconds of work given, by weight; the lowest is next
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Worker(Base):
    """A measuring process, as it last said of itself."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    device: Mapped[str]
    memory_gb: Mapped[float]
    versions: Mapped[Json]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Suite(Base):
    """One model at many checkpoints."""

    __tablename__ = "suites"

    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str] = mapped_column(server_default="")
    evaluation: Mapped[str | None]
    recipe: Mapped[str | None]
    owner: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Checkpoint(Base):
    """One saved state of a suite's weights; the columns are those of ucurve.registry.suites.Checkpoint."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("suite", "revision"),
        Index("checkpoints_unresolved", "id", postgresql_where=text("unresolved IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    suite: Mapped[str] = mapped_column(
        ForeignKey("suites.name", ondelete="CASCADE", onupdate="CASCADE")
    )
    revision: Mapped[str]
    location: Mapped[Json]
    step: Mapped[int | None] = mapped_column(BigInteger)
    tokens: Mapped[int | None] = mapped_column(BigInteger)
    replicate: Mapped[int] = mapped_column(server_default="0")
    phase: Mapped[str | None]
    num_parameters: Mapped[int | None] = mapped_column(BigInteger)
    context: Mapped[int | None]
    weights_sha256: Mapped[str | None]
    config_sha256: Mapped[str | None]
    tokenizer_sha256: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    unresolved: Mapped[str | None]


class Dataset(Base):
    """An evaluation set or a training text; the columns are those of ucurve.registry.suites.Dataset."""

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str] = mapped_column(server_default="")
    kind: Mapped[str]
    parameters: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    location: Mapped[Json | None]
    sha256: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    unresolved: Mapped[str | None]
    owner: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Experiment(Base):
    """What somebody asked for. `active` covers queued and running: which of the two is read off the measurements."""

    __tablename__ = "experiments"
    __table_args__ = (
        CheckConstraint(
            "state IN ('active', 'paused', 'cancelled', 'done', 'failed')", name="experiments_state"
        ),
        Index("experiments_active", "owner", "id", postgresql_where=text("state = 'active'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    owner: Mapped[str] = mapped_column(ForeignKey("users.name"), index=True)
    tags: Mapped[list[str]] = mapped_column(server_default="{}")
    notes: Mapped[str] = mapped_column(server_default="")
    priority: Mapped[int] = mapped_column(server_default="0")
    spec: Mapped[Json]
    suite: Mapped[str | None] = mapped_column(
        Computed("spec ->> 'suite'", persisted=True), index=True
    )
    archived: Mapped[bool] = mapped_column(server_default=text("false"))
    fresh: Mapped[bool] = mapped_column(
        server_default=text("false")
    )  # asked for all its numbers again, to compare them
    webhook: Mapped[str | None]  # address that is told when it is done or failed
    state: Mapped[str] = mapped_column(server_default="active")
    version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    num_points: Mapped[int] = mapped_column(server_default="0")
    num_done: Mapped[int] = mapped_column(server_default="0")
    num_failed: Mapped[int] = mapped_column(server_default="0")
    num_reused: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Measurement(Base):
    """One number of the team, whoever asked for it; its metrics are those of `attempt_id`.

    `repeat` 0 is the number everybody shares. A number that was asked for afresh is a row of its own with the same identity
    and the next `repeat`, so that it is measured like any other and compared with the first, which does not move.
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
    kind: Mapped[str]  # whose run() measures it: the first to plan it; no part of the identity
    inputs: Mapped[Json]
    source: Mapped[Json]
    labels: Mapped[Json] = mapped_column(
        server_default=text("'{}'")
    )  # as first planned; what the explorer filters and pivots by
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
    num_lost: Mapped[int] = mapped_column(
        server_default="0"
    )  # workers that died while measuring it
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
    """One try at a measurement, written at its start and once more at its end."""

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint(
            "outcome IN ('running', 'done', 'failed', 'stopped', 'lost')", name="attempts_outcome"
        ),
        Index("attempts_running", "measurement_id", postgresql_where=text("outcome = 'running'")),
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
    log: Mapped[str | None]  # the last lines that the worker logged meanwhile
    origin: Mapped[str | None]  # the lab it was imported from; None: tried here


class ExperimentPoint(Base):
    """An experiment points at a measurement, under its own labels."""

    __tablename__ = "experiment_points"
    __table_args__ = (
        Index("experiment_points_version", "experiment_id", "version"),
        Index(
            "experiment_points_open",
            "experiment_id",
            "stage",
            "position",
            postgresql_where=text("NOT ended"),
        ),
        Index("experiment_points_measurement", "measurement_id"),
    )

    experiment_id: Mapped[int] = mapped_column(
        ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True
    )
    measurement_id: Mapped[int] = mapped_column(ForeignKey("measurements.id"), primary_key=True)
    position: Mapped[int]
    stage: Mapped[int]
    labels: Mapped[Json]
    reused: Mapped[bool]
    ended: Mapped[bool] = mapped_column(
        server_default=text("false")
    )  # as its measurement, so that claims skip what is over
    version: Mapped[int] = mapped_column(BigInteger)
