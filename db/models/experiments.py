"""Experiments, their points, stars and webhook deliveries."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Identity,
    Index,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json


class Experiment(Base):
    """A submitted experiment. `active` is queued or running, depending on its measurements."""

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
    # Re-measures cached points as their next repeat, to compare them.
    fresh: Mapped[bool] = mapped_column(server_default=text("false"))
    webhook: Mapped[str | None]  # URL to notify when it is done or failed
    state: Mapped[str] = mapped_column(server_default="active")
    version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    num_points: Mapped[int] = mapped_column(server_default="0")
    num_done: Mapped[int] = mapped_column(server_default="0")
    num_failed: Mapped[int] = mapped_column(server_default="0")
    num_reused: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ExperimentPoint(Base):
    """An experiment's link to a measurement, with its own labels."""

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
    # Copied from its measurement, so that claims skip what has finished.
    ended: Mapped[bool] = mapped_column(server_default=text("false"))
    version: Mapped[int] = mapped_column(BigInteger)


class Star(Base):
    """A user's star on an experiment."""

    __tablename__ = "stars"

    owner: Mapped[str] = mapped_column(ForeignKey("users.name"), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(
        ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True
    )


class WebhookDelivery(Base):
    """A webhook request: retried until it is delivered or given up."""

    __tablename__ = "notices"
    __table_args__ = (Index("notices_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(
        ForeignKey("experiments.id", ondelete="CASCADE"), index=True
    )
    url: Mapped[str]
    event: Mapped[str]  # done, failed
    num_tries: Mapped[int] = mapped_column(server_default="0")
    # None: delivered or given up.
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    delivered_at: Mapped[datetime | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
