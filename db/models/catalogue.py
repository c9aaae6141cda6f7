"""Suites, checkpoints, datasets and reference curves."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json


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
    """One saved state of a suite's weights: the fields of ucurve.registry.suites.Checkpoint."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("suite", "revision"),
        Index("checkpoints_unresolved", "id", postgresql_where=text("unresolved IS NOT NULL")),
        Index(
            "checkpoints_without_layout",
            "id",
            postgresql_where=text("layout_sha256 IS NULL AND weights_sha256 IS NOT NULL"),
        ),
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
    words: Mapped[int | None] = mapped_column(BigInteger)
    training_phase: Mapped[str | None]
    replicate_name: Mapped[str | None]
    position_source: Mapped[str | None]
    num_parameters: Mapped[int | None] = mapped_column(BigInteger)
    context: Mapped[int | None]
    weights_sha256: Mapped[str | None]
    config_sha256: Mapped[str | None]
    tokenizer_sha256: Mapped[str | None]
    tokenizer_content: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    structure: Mapped[str | None] = mapped_column(index=True)
    architecture: Mapped[str | None]
    initializer_std: Mapped[float | None]
    layout_sha256: Mapped[str | None]  # of layouts; null: not looked for, empty: not found
    unresolved: Mapped[str | None]
    remarks: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))


class WeightsContent(Base):
    """What weights are by their values: ucurve.registry.tensors.weights_content.WeightsContent.

    It is a function of the files alone: suites that share weights share the row, and a row without
    tensors (of a hub's metadata) is completed by who has the files.
    """

    __tablename__ = "weights_contents"

    weights_sha256: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[Json]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Structure(Base):
    """Config, tokenizer, names and shapes of a checkpoint, which a worker tries once for all.

    waiting --claim--> waiting, until next_try --finish--> passed | failed
    """

    __tablename__ = "structures"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'passed', 'failed')", name="known_state"),
        Index("structures_waiting", "next_try", postgresql_where=text("state = 'waiting'")),
    )

    sha256: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="waiting")
    reason: Mapped[str | None]  # why it failed
    facts: Mapped[Json | None]  # ucurve.modeling.trial.Facts
    tries: Mapped[int] = mapped_column(server_default="0")
    worker: Mapped[str | None]
    next_try: Mapped[datetime | None]


class Layout(Base):
    """Architecture, names and shapes of a checkpoint's tensors, which most of a suite share."""

    __tablename__ = "layouts"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    architecture: Mapped[str]
    tied: Mapped[bool | None]
    tensors: Mapped[Json]


class Dataset(Base):
    """An evaluation or training set: the fields of ucurve.registry.suites.Dataset."""

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


class ReferenceCurve(Base):
    """Numbers of another tool or paper, drawn next to measured ones and never mixed with them."""

    __tablename__ = "reference_curves"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    suite: Mapped[str | None] = mapped_column(index=True)
    origin: Mapped[Json]  # importer, files with their SHA-256, citation
    # Each with revision, tokens, metric, value and standard_error.
    rows: Mapped[list[Json]] = mapped_column(JSONB)
    owner: Mapped[str] = mapped_column(ForeignKey("users.name"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
