"""The state of the lab at one moment: workers, queue, recent failures, disks."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from ucurve.schemas.workers import WorkerInfo

WorkerState = Literal["running", "idle", "stalled", "lost"]


class ExperimentRef(BaseModel):
    """An experiment by id, with what a list needs to link to it."""

    id: int = Field(description="Id of the experiment.")
    name: str = Field(description="Its name.")
    owner: str = Field(description="Its owner.")


class RunningPoint(BaseModel):
    """The point that a worker measures now."""

    measurement: int = Field(description="Id of the measurement.")
    kind: str = Field(description="Experiment type.")
    experiments: list[ExperimentRef] = Field(description="Active experiments that need it.")
    started_at: datetime = Field(description="Start of this attempt.")
    done: float | None = Field(description="Work done, in the units of `total`.")
    total: float | None = Field(description="All work of this point.")
    rate: float | None = Field(description="Work per second.")
    seconds_left: float | None = Field(description="Estimated time left, in seconds.")


class MeasurementCount(BaseModel):
    """Attempts of one experiment type that ended alike."""

    kind: str = Field(description="Experiment type.")
    outcome: Literal["done", "failed", "stopped"] = Field(description="How they ended.")
    num: int = Field(description="Number of attempts.")


class WorkerStatus(WorkerInfo):
    """A worker, what it does now, and its counters since its start."""

    state: WorkerState = Field(
        description="`stalled`: its point has reported no progress for two minutes. `lost`: no "
        "sign of life; its points go to other workers."
    )
    heartbeat_age: float = Field(description="Seconds since its last report.")
    running: RunningPoint | None = Field(description="The point that it measures now.")
    points_per_second: float = Field(description="Points over the last five minutes.")
    tokens_per_second: float = Field(description="Tokens over the last five minutes.")
    memory_used_bytes: int | None = Field(
        description="Memory in use by the process: of its GPU, or main memory on a CPU."
    )
    silent_seconds: float | None = Field(
        description="Seconds since the running point last reported progress."
    )
    measurements: list[MeasurementCount] = Field(description="Attempts since its start.")
    seconds: dict[str, float] = Field(description="Seconds of measuring, by experiment type.")
    retries: int = Field(description="Attempts that were not the first at their point.")
    tokens: int = Field(description="Tokens since its start.")


class UserQueue(BaseModel):
    """The unfinished work of one user."""

    owner: str = Field(description="The user.")
    experiments: int = Field(description="Active experiments.")
    queued: int = Field(description="Points that wait.")
    running: int = Field(description="Points that workers have claimed and measure in turn.")
    eta_seconds: float | None = Field(description="Estimated time left; null: unknown.")
    waits_for: str | None = Field(description="Why nothing of it runs; null while it does.")


class FailureGroup(BaseModel):
    """Recent failures with the same cause."""

    id: str = Field(description="Id of the cause, for retrying.")
    cause: str = Field(description="Exception and message, numbers and names left out.")
    example: str = Field(description="The latest message in full.")
    num: int = Field(description="Failed points.")
    last_at: datetime = Field(description="Time of the latest one.")
    experiments: list[ExperimentRef] = Field(description="At most 10 of their experiments.")
    num_experiments: int = Field(description="Number of their experiments.")
    owners: list[str] = Field(description="Owners of these experiments.")


class DiskSpace(BaseModel):
    """Space on the disk of a folder."""

    folder: str = Field(description="What the folder holds.")
    free_bytes: int = Field(description="Space left for the lab.")
    total_bytes: int = Field(description="Size of the disk.")


class LabStatus(BaseModel):
    """The lab at one moment; at most two seconds old."""

    at: datetime = Field(description="The moment.")
    workers: list[WorkerStatus] = Field(description="Workers of the last 24 hours.")
    queue: list[UserQueue] = Field(description="Unfinished work, by user.")
    failures: list[FailureGroup] = Field(
        description="Failures of the last seven days, the latest first; those of archived and "
        "cancelled experiments are left out."
    )
    points_per_second: float = Field(description="Of all live workers, over five minutes.")
    tokens_per_second: float = Field(description="Of all live workers, over five minutes.")
    experiments: dict[str, int] = Field(description="Number of experiments by state.")
    lease_expiries: int = Field(description="Attempts lost with their worker, ever.")
    pending_webhooks: int = Field(description="Webhook deliveries that are due or scheduled.")
    disks: list[DiskSpace] = Field(description="Disks that the API writes to.")


class RetriedFailures(BaseModel):
    """The outcome of retrying a cause."""

    retried: int = Field(description="Points that are queued again.")
    experiments: list[int] = Field(description="Their experiments.")
    not_yours: int = Field(description="Points left alone: of experiments of other users only.")
