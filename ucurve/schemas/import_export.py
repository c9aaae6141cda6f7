"""Import and export between labs: the rows of an import, and their results.

POST /v1/import/catalogue     suites, evaluation sets and reference curves with new names are added
POST /v1/import/measurements  at most 500, each with its attempts; merged by identity
POST /v1/import/experiments   one experiment, whose measurements must have been imported before
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from ucurve.bounds import MAX_REVISIONS, JsonObject, Log, Name, Names, Prose
from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.schemas.canonical_json import canonical
from ucurve.schemas.catalogue import NAME
from ucurve.schemas.measurements import (
    LABELS,
    METRICS,
    NONFINITE,
    VERSIONS,
    Metrics,
    NonFinite,
)
from ucurve.schemas.references import MAX_ROWS

FORMAT = 1  # version of an export; readers reject newer ones
BATCH = 500
MAX_REPEAT = 2**31
ORIGIN = "Name of the other lab."
HASH = r"^[0-9a-f]{64}$"
IDENTITY = "SHA-256 of `inputs`."
Curve = Annotated[list[float | None], Field(max_length=500_000)]


class ImportedModel(BaseModel):
    """A row of another lab."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ImportedAttempt(ImportedModel):
    """One attempt as the other lab recorded it."""

    worker: str = Field(max_length=500, description="Name of the worker.")
    device: Name = Field(description="cpu, cuda or mps.")
    versions: dict[str, Prose] = Field(max_length=1000, description=VERSIONS)
    outcome: Literal["done", "failed", "stopped", "lost"] = Field(description="How it ended.")
    started_at: AwareDatetime = Field(description="Time of its start.")
    finished_at: AwareDatetime | None = Field(description="Time of its end.")
    metrics: Metrics = Field({}, max_length=1000, description=METRICS)
    nonfinite: dict[str, NonFinite] = Field({}, max_length=1000, description=NONFINITE)
    series: dict[str, Curve] = Field({}, max_length=1000, description="Curves by name.")
    traceback: Log | None = Field(None, description="Python traceback of a failure.")
    log: Log | None = Field(None, description="Last log lines of the worker.")
    origin: Name | None = Field(None, description="Lab that this attempt had been imported from.")
    shown: bool = Field(False, description="Whether it gave the measurement's result.")

    @model_validator(mode="after")
    def _check_nonfinite(self) -> Self:
        if any((value is None) != (name in self.nonfinite) for name, value in self.metrics.items()):
            raise ValueError("a metric is a finite number, or null with its state in nonfinite")
        return self


class ImportedMeasurement(ImportedModel):
    """A measurement with everything that determines its result."""

    identity: Name = Field(description=IDENTITY)
    repeat: int = Field(ge=0, lt=MAX_REPEAT, description="0, or the number of its repetition.")
    kind: Name = Field(description="Experiment type that measures it.")
    inputs: JsonObject = Field(description="Everything that determines the result.")
    source: JsonObject = Field(description="Checkpoint and dataset with their locations.")
    labels: JsonObject = Field(description=LABELS)
    group_key: Prose = Field(description="Points of the same group share a loaded checkpoint.")
    seconds: float = Field(description="Estimated duration.")
    requires_device: Literal["any", "cuda"] = Field(description="Device that it needs.")
    requires_memory_gb: float = Field(description="Memory that it needs, in GiB.")
    state: Literal["open", "done", "failed"] = Field(description="Its state in the other lab.")
    error: Log | None = Field(None, description="Last line of a failure's traceback.")
    finished_at: AwareDatetime | None = Field(None, description="Time when it ended.")
    attempts: list[ImportedAttempt] = Field([], max_length=1000, description="All attempts at it.")

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if hashlib.sha256(canonical(self.inputs).encode()).hexdigest() != self.identity:
            raise ValueError(
                "its identity is not the SHA-256 of its inputs: one of the two was changed"
            )
        outcomes = [attempt.outcome for attempt in self.attempts if attempt.shown]
        if self.state == "done" and outcomes != ["done"]:
            raise ValueError("it is done, but the attempt that gave its result is missing")
        return self


class ImportedMeasurements(ImportedModel):
    """A batch of measurements."""

    origin: str = Field(min_length=1, max_length=200, description=ORIGIN)
    measurements: list[ImportedMeasurement] = Field(
        max_length=BATCH, description=f"At most {BATCH} measurements."
    )


class ImportedPoint(ImportedModel):
    """A point of an experiment."""

    identity: Name = Field(description="Identity of its measurement.")
    repeat: int = Field(description="Repetition of its measurement.")
    stage: int = Field(description="Stage of the plan: lower ones are measured first.")
    labels: JsonObject = Field(description=LABELS)


class ImportedExperiment(ImportedModel):
    """An experiment with its points in the plan's order."""

    origin: str = Field(min_length=1, max_length=200, description=ORIGIN)
    id: int = Field(description="Its number in the other lab.")
    name: str = Field(max_length=200, description="Name shown in lists.")
    kind: Name = Field(description="Experiment type.")
    owner: Name = Field(description="Its owner in the other lab.")
    tags: Names = Field(description="Labels to filter by.")
    notes: Prose = Field(description="Markdown.")
    priority: int = Field(description="Its priority in the other lab.")
    spec: JsonObject = Field(description="What it measures.")
    archived: bool = Field(False, description="Whether it is hidden from lists by default.")
    created_at: AwareDatetime = Field(description="Time of submission.")
    started_at: AwareDatetime | None = Field(description="Time when its first point started.")
    finished_at: AwareDatetime | None = Field(description="Time when its last point ended.")
    points: list[ImportedPoint] = Field(
        min_length=1, max_length=100_000, description="Points in the plan's order."
    )


class ImportedSuite(ImportedModel):
    """A suite with its checkpoints."""

    name: Name = Field(pattern=NAME, description="Name of the suite.")
    description: Prose = Field(description="Shown with the suite.")
    evaluation: Name | None = Field(description="Default evaluation set.")
    recipe: Name | None = Field(description="Hash of the pre-training spec that produced it.")
    checkpoints: list[Checkpoint] = Field(max_length=MAX_REVISIONS, description="Its checkpoints.")


class ImportedDataset(Dataset):
    """A dataset; its names and hashes become parts of file names."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=NAME, description="Name of the dataset, unique in the lab.")
    sha256: str | None = Field(pattern=HASH, description="SHA-256 of its files.")


class ImportedCurve(ImportedModel):
    """A reference curve."""

    name: Name = Field(description="Name shown in figures.")
    suite: Name | None = Field(description="Suite that the numbers are about.")
    origin: JsonObject = Field(description="Where it comes from.")
    rows: list[JsonObject] = Field(max_length=MAX_ROWS, description="The numbers.")


class ImportedCatalogue(ImportedModel):
    """Suites, datasets and reference curves."""

    origin: str = Field(min_length=1, max_length=200, description=ORIGIN)
    suites: list[ImportedSuite] = Field(
        [], max_length=1000, description="Suites with their checkpoints."
    )
    datasets: list[ImportedDataset] = Field([], max_length=10_000, description="Datasets.")
    reference_curves: list[ImportedCurve] = Field(
        [], max_length=1000, description="Reference curves."
    )


class ValueConflict(BaseModel):
    """The same metric of the same point measured in both labs."""

    identity: str = Field(description="Identity of the measurement.")
    kind: str = Field(description="Experiment type that measures it.")
    metric: str = Field(description="Name of the metric.")
    here: float | None = Field(description="Value in this lab; null: not finite.")
    there: float | None = Field(description="Value in the other lab; null: not finite.")
    difference: float | None = Field(description="Absolute difference of two finite values.")


class ImportMeasurementsResult(BaseModel):
    """What an import of measurements changed."""

    new: int = Field(description="Measurements that did not exist here.")
    completed: int = Field(description="Measurements that were open or failed and are done now.")
    gained: int = Field(description="Done measurements that have another attempt now.")
    known: int = Field(description="Measurements that did not change.")
    num_compared: int = Field(description="Measurements done in both labs by different attempts.")
    num_equal: int = Field(description="Of these, bit-identical in every metric.")
    largest: dict[str, float] = Field(description="Largest absolute difference by metric.")
    differing: list[ValueConflict] = Field(
        description="At most 20 differing values: those finite in one lab only, then the largest."
    )


class ImportExperimentResult(BaseModel):
    """The imported experiment."""

    id: int = Field(description="Its number in this lab.")
    new: bool = Field(description="False: it had been imported before.")


class ImportCatalogueResult(BaseModel):
    """What an import of a catalogue changed, by name."""

    added: list[str] = Field(description="New names.")
    kept: list[str] = Field(description="Existing names with the same meaning.")
    differ: list[str] = Field(
        description="Existing names with another meaning here, which they keep."
    )
    warnings: list[str] = Field(
        [], description="Models that cannot be tried, because their files are not here."
    )


class TableCounts(BaseModel):
    """Size of an export."""

    format: int = Field(FORMAT, description="Version of the export format.")
    version: str = Field(description="Version of ucurve.")
    at: datetime = Field(description="Time of the request.")
    tables: dict[str, int] = Field(description="Number of rows by table.")
