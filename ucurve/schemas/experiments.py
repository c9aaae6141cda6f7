"""Rows as they travel over HTTP: what the API answers, the client returns and the pages show.

JSON has no inf and no NaN: a metric that is not finite travels as null, and `nonfinite` says which it was
("pos_inf", "neg_inf", "nan"). `frame()` turns rows into the table that figures and verdicts read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.schemas.webhooks import Webhook

if TYPE_CHECKING:
    import pandas as pd

ExperimentState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
MeasurementState = Literal["open", "running", "done", "failed"]
NonFinite = Literal["pos_inf", "neg_inf", "nan"]


class Submission(BaseModel):
    """What is POSTed to /v1/experiments; `spec` is validated against the kinds that this server knows."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        "", max_length=200, description="Shown in lists; made from the spec when empty."
    )
    tags: list[str] = Field(default=[], max_length=20)
    notes: str = Field("", max_length=20_000)
    priority: int = Field(
        0, ge=-10, le=10, description="Higher is measured first among your own experiments."
    )
    webhook: Webhook | None = Field(
        None,
        description="Address that is told when it is done or failed: see ucurve/schemas/webhooks.py.",
    )
    fresh: bool = Field(
        False,
        description="Measure again what exists, and compare: see /v1/experiments/{id}/agreement.",
    )
    spec: dict[str, Any]


class PlanPreview(BaseModel):
    """What a submission would measure."""

    num_points: int
    num_existing: int  # already measured by somebody: appear at once
    num_running: int  # open or running for somebody else: shared
    num_new: int
    num_again: int = 0  # exist, but are asked for afresh
    estimated_seconds: float | None  # on the workers alive now; None when none is alive
    num_workers: int  # alive now and able to run at least one of the points
    waits_for: str | None = (
        None  # why nothing would start now, e.g. no live worker has what a point requires
    )
    warnings: list[str] = []


class Progress(BaseModel):
    """Counts of an experiment's points."""

    total: int
    done: int  # finished, reused ones included
    failed: int
    running: int
    reused: int  # were finished before the experiment was submitted
    points_per_second: float | None = None  # over the last minute


class Experiment(BaseModel):
    """An experiment as listed and shown."""

    id: int
    name: str
    kind: str
    owner: str
    tags: list[str]
    notes: str
    priority: int
    state: ExperimentState
    progress: Progress
    eta_seconds: float | None
    waits_for: str | None  # why nothing runs although there is work, in words with the remedy
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    url: str
    spec: dict[str, Any]
    fresh: bool = False  # measured again what existed
    archived: bool = False
    starred: bool = False  # by whoever asks
    webhook: str | None = (
        None  # to all but the owner and admins only its host: an address may hold a secret
    )


class ExperimentPage(BaseModel):
    """A page of the list, newest first."""

    experiments: list[Experiment]
    total: int


class RunningProgress(BaseModel):
    """What a running point reports about itself."""

    done: float = 0.0
    total: float = 0.0
    rate: float | None = None  # units of `done` per second
    seconds_left: float | None = None
    series: dict[
        str, list[float | None]
    ] = {}  # live curves, at most a few hundred values; "done" is their x


class MeasurementRow(BaseModel):
    """A point with its state and its number, under the names this experiment gave it."""

    id: int
    identity: str
    position: int
    state: MeasurementState
    labels: dict[str, Any]
    metrics: dict[str, float | None] = {}
    nonfinite: dict[str, NonFinite] = {}
    series: dict[str, list[float | None]] = {}
    live: RunningProgress | None = None
    error: str | None = None  # last line of the traceback of a failed point
    attempt: int | None = None  # id of the attempt whose numbers these are
    reused: bool = False
    finished_at: datetime | None = None


class MeasurementPage(BaseModel):
    """Rows changed after a cursor; ask again with the new one. Nothing is ever skipped."""

    rows: list[MeasurementRow]
    cursor: int
    more: bool  # there are further changes already: ask again at once
    state: ExperimentState


class Attempt(BaseModel):
    """One try at a measurement, never changed after its end: the provenance of a number."""

    id: int
    measurement: int
    repeat: int = 0  # of the same identity: 0 is the number everybody shares, the others were asked for afresh
    worker: str
    device: str
    versions: dict[str, str]
    started_at: datetime
    finished_at: datetime | None
    outcome: Literal["running", "done", "failed", "stopped", "lost"]
    metrics: dict[str, float | None] = {}
    nonfinite: dict[str, NonFinite] = {}
    traceback: str | None = None
    log: str | None = None  # the last lines that the worker logged meanwhile; times are UTC


class Provenance(BaseModel):
    """Everything about one point: what determined it, every attempt at it and at its repeats, and who else uses it."""

    id: int
    identity: str
    repeat: int = 0
    kind: str
    inputs: dict[str, Any]
    source: dict[str, Any]
    state: MeasurementState
    attempts: list[Attempt]
    experiments: list[int]


class WorkerContribution(BaseModel):
    """How many numbers of an experiment one worker gave, with which versions (`hardware` and `code` among them)."""

    worker: str
    device: str
    versions: dict[str, str]
    outcome: Literal["running", "done", "failed", "stopped", "lost"]
    num_attempts: int
    seconds: float
    first: datetime
    last: datetime


class ExperimentProvenance(BaseModel):
    """Where all numbers of an experiment come from: every attempt, and the checkpoints and texts by their hashes."""

    measured: list[WorkerContribution]
    num_failed_before: int = (
        0  # attempts that failed or were lost at points that succeeded in the end
    )
    checkpoints: list[Checkpoint]
    datasets: list[Dataset]


class WorkerInfo(BaseModel):
    """A worker process as it last said of itself."""

    name: str
    host: str
    pid: int
    device: str
    memory_gb: float
    versions: dict[str, str]
    started_at: datetime
    seen_at: datetime
    alive: bool
    measuring: list[int]  # experiments that point at what it measures now


class SuiteSubmission(BaseModel):
    """Register a suite: a folder of checkpoints (one sub-folder per revision) or a hub repository."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    path: str | None = Field(
        None,
        description="Folder with one sub-folder per revision, readable by the API and all workers.",
    )
    hub: str | None = Field(
        None, description='Hub repository "owner/name"; its refs are listed, none is invented.'
    )
    description: str = ""
    evaluation: str | None = Field(
        None, description="Evaluation set used when an experiment names none."
    )
    tokens_per_step: int | None = Field(
        None,
        gt=0,
        description="Tokens of one optimiser step, where revision names tell steps only; known repositories need none.",
    )


class DatasetSubmission(BaseModel):
    """Register a text (to evaluate or train on), examples to fine-tune on, or a preset of the hub."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    text: str | None = Field(
        None, description="Path of a UTF-8 text file, readable by the API and all workers."
    )
    train: str | None = Field(
        None,
        description="Path of examples: .tsv with a header, or .jsonl; columns sentence and label, or prompt and completion.",
    )
    validation: str | None = Field(
        None, description="Path of the examples to validate on, in the same form."
    )
    preset: Literal["wikitext-2", "sst2"] | None = None
    description: str = ""


def restored(metrics: Mapping[str, float | None], nonfinite: Mapping[str, str]) -> dict[str, float]:
    """Metrics as floats, inf and NaN where `nonfinite` says so."""
    values = {"pos_inf": math.inf, "neg_inf": -math.inf, "nan": math.nan}
    return {
        name: values[nonfinite[name]] if value is None else value for name, value in metrics.items()
    }


def frame(rows: Iterable[MeasurementRow]) -> pd.DataFrame:
    """The table of an experiment: one row per point, a column per label and metric.

    Further columns: measurement, position, state, error, reused, series (dict of lists), live (dict or None). Columns of
    metrics are missing while nothing is measured. Rows keep the plan's order.
    """
    import pandas as pd

    fixed = ["measurement", "position", "state", "error", "reused", "series", "live"]
    records = [
        {
            **row.labels,
            **restored(row.metrics, row.nonfinite),
            "measurement": row.id,
            "position": row.position,
            "state": row.state,
            "error": row.error,
            "reused": row.reused,
            "series": row.series,
            "live": row.live.model_dump() if row.live else None,
        }
        for row in sorted(rows, key=lambda row: row.position)
    ]
    return pd.DataFrame(records) if records else pd.DataFrame(columns=fixed)
