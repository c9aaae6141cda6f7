"""What travels between labs: the rows of an import, and what became of them.

POST /v1/import/catalogue     suites, evaluation sets and reference curves of unknown names become records here
POST /v1/import/measurements  at most 500, each with its attempts; merged by identity
POST /v1/import/experiments   one whole experiment, pointing at measurements that are here by then
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.schemas.measurements import NonFinite
from ucurve.spec import canonical

FORMAT = 1  # of an export: a reader refuses a newer one
BATCH = 500
Number = dict[str, float | None]


class ImportedModel(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ImportedAttempt(ImportedModel):
    """One try, as it was written there."""

    worker: str = Field(max_length=500)
    device: str
    versions: dict[str, str]
    outcome: Literal["done", "failed", "stopped", "lost"]
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    metrics: Number = {}
    nonfinite: dict[str, NonFinite] = {}
    series: dict[str, list[float | None]] = {}
    traceback: str | None = None
    log: str | None = None
    origin: str | None = None  # where it had been imported from before
    shown: bool = False  # its numbers are the measurement's

    @model_validator(mode="after")
    def _finite_or_said(self) -> Self:
        if any((value is None) != (name in self.nonfinite) for name, value in self.metrics.items()):
            raise ValueError("a metric is a finite number, or null with its state in nonfinite")
        return self


class ImportedMeasurement(ImportedModel):
    """One number and everything that determined it."""

    identity: str
    repeat: int = Field(ge=0, lt=2**31)
    kind: str
    inputs: dict[str, Any]
    source: dict[str, Any]
    labels: dict[str, Any]
    group_key: str
    seconds: float
    requires_device: Literal["any", "cuda"]
    requires_memory_gb: float
    state: Literal["open", "done", "failed"]
    error: str | None = None
    finished_at: AwareDatetime | None = None
    attempts: list[ImportedAttempt] = []

    @model_validator(mode="after")
    def _is_what_it_says(self) -> Self:
        if hashlib.sha256(canonical(self.inputs).encode()).hexdigest() != self.identity:
            raise ValueError(
                "its identity is not the SHA-256 of its inputs: one of both was changed"
            )
        shown = [attempt for attempt in self.attempts if attempt.shown]
        if self.state == "done" and [attempt.outcome for attempt in shown] != ["done"]:
            raise ValueError("it is done, but the attempt that gave its number is missing")
        return self


class ImportedMeasurements(ImportedModel):
    origin: str = Field(min_length=1, max_length=200, description="What the other lab is called.")
    measurements: list[ImportedMeasurement] = Field(max_length=BATCH)


class ImportedPoint(ImportedModel):
    identity: str
    repeat: int
    stage: int
    labels: dict[str, Any]


class ImportedExperiment(ImportedModel):
    """An experiment with its points in the plan's order."""

    origin: str = Field(min_length=1, max_length=200)
    id: int  # there
    name: str = Field(max_length=200)
    kind: str
    owner: str
    tags: list[str]
    notes: str
    priority: int
    spec: dict[str, Any]
    archived: bool = False
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    points: list[ImportedPoint] = Field(min_length=1)


class ImportedSuite(ImportedModel):
    name: str
    description: str
    evaluation: str | None
    recipe: str | None
    checkpoints: list[Checkpoint]


class ImportedCurve(ImportedModel):
    name: str
    suite: str | None
    origin: dict[str, Any]
    rows: list[dict[str, Any]]


class ImportedCatalogue(ImportedModel):
    origin: str = Field(min_length=1, max_length=200)
    suites: list[ImportedSuite] = []
    datasets: list[Dataset] = []
    reference_curves: list[ImportedCurve] = []


class ValueConflict(BaseModel):
    """The same number measured in both labs."""

    identity: str
    kind: str
    metric: str
    here: float | None  # null: not finite
    there: float | None
    difference: float | None  # of two finite ones


class ImportMeasurementsResult(BaseModel):
    new: int
    completed: int  # open or failed before, done now
    gained: int  # done before, with one more attempt now
    known: int  # nothing changed
    num_compared: int  # done in both labs, by different attempts
    num_equal: int  # to the last bit in every metric
    largest: dict[str, float]  # of the differences, by metric
    differing: list[
        ValueConflict
    ]  # the largest of each metric, and those finite in one lab only; at most 20


class ImportExperimentResult(BaseModel):
    id: int  # here
    new: bool


class ImportCatalogueResult(BaseModel):
    added: list[str]
    kept: list[str]
    differ: list[str]  # the name means something else here, and goes on to


class TableCounts(BaseModel):
    """How many rows an export would have."""

    format: int = FORMAT
    version: str
    at: datetime
    tables: dict[str, int]
