"""Measurements: rows of an experiment, attempts, provenance, and the codec of non-finite numbers.

JSON has no inf and no NaN. A metric that is not finite is null, and `nonfinite` holds its state:
"pos_inf", "neg_inf" or "nan". `encode_metrics` and `decode_metrics` are the only conversions.

>>> encode_metrics({"nll_mean": math.inf, "seconds": 2.0})
({'nll_mean': None, 'seconds': 2.0}, {'nll_mean': 'pos_inf'})
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.schemas.experiments import ExperimentState

MeasurementState = Literal["open", "running", "done", "failed"]
Outcome = Literal["running", "done", "failed", "stopped", "lost"]
NonFinite = Literal["pos_inf", "neg_inf", "nan"]
Metrics = dict[str, float | None]
VALUES: dict[str, float] = {"pos_inf": math.inf, "neg_inf": -math.inf, "nan": math.nan}
METRICS = "Values by name, such as nll_mean; null where `nonfinite` says which state it has."
DERIVED = " bits_per_byte is derived from nll_mean, for texts whose size is known."
NONFINITE = "State of each metric that is not finite: pos_inf, neg_inf or nan."
REPEAT = "0: the shared result of this identity; from 1: re-measured with `fresh`."
VERSIONS = "Library versions, `code` (of ucurve) and `hardware`."
LABELS = "What the point varies, such as gamma, draw and tokens, by name."
OUTCOME = "done, failed, stopped (not needed any more), lost (its worker died), or running."


def nonfinite_state(value: float) -> NonFinite | None:
    """Return the state of a number that is not finite, None where it is."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "pos_inf" if value > 0 else "neg_inf"
    return None


def finite_or_none(value: float) -> float | None:
    """Return the number, None where it is not finite."""
    return value if math.isfinite(value) else None


def encode_metrics(values: Mapping[str, float]) -> tuple[Metrics, dict[str, NonFinite]]:
    """Return metrics for JSON, and the states of those that are not finite."""
    numbers = {name: float(value) for name, value in values.items()}
    states = {name: state for name, value in numbers.items() if (state := nonfinite_state(value))}
    return {name: finite_or_none(value) for name, value in numbers.items()}, states


def decode_metrics(
    metrics: Mapping[str, float | None], nonfinite: Mapping[str, str]
) -> dict[str, float]:
    """Return metrics as floats, with inf and NaN where `nonfinite` says so."""
    return {
        name: VALUES[nonfinite[name]] if value is None else float(value)
        for name, value in metrics.items()
    }


class RunningProgress(BaseModel):
    """What a running point reports."""

    done: float = Field(0.0, description="Finished units of work, such as steps or windows.")
    total: float = Field(0.0, description="All units of work.")
    rate: float | None = Field(None, description="Units per second.")
    seconds_left: float | None = Field(None, description="Estimated time left.")
    series: dict[str, list[float | None]] = Field(
        {}, description="Live curves, at most a few hundred values; `done` is their x axis."
    )


class MeasurementRow(BaseModel):
    """A point of an experiment with its state and result."""

    id: int = Field(description="Id of the measurement.")
    identity: str = Field(description="SHA-256 of everything that determines the result.")
    position: int = Field(description="Position in the experiment's plan, from 0.")
    state: MeasurementState = Field(description="open: waiting for a worker.")
    labels: dict[str, Any] = Field(description=LABELS)
    metrics: Metrics = Field({}, description=METRICS + DERIVED)
    nonfinite: dict[str, NonFinite] = Field({}, description=NONFINITE)
    series: dict[str, list[float | None]] = Field({}, description="Curves by name.")
    live: RunningProgress | None = Field(None, description="Progress of a running point.")
    error: str | None = Field(None, description="Last line of a failed point's traceback.")
    attempt: int | None = Field(None, description="Id of the attempt that gave the result.")
    reused: bool = Field(False, description="Whether it was finished before the submission.")
    finished_at: datetime | None = Field(None, description="Time when it ended.")


class MeasurementPage(BaseModel):
    """Rows changed after a cursor. No change is ever skipped."""

    rows: list[MeasurementRow] = Field(description="Changed rows, oldest change first.")
    cursor: int = Field(description="`after` of the next request.")
    more: bool = Field(description="Whether further changes are available now.")
    state: ExperimentState = Field(description="Current state of the experiment.")


class Attempt(BaseModel):
    """One attempt at a measurement. It never changes after its end."""

    id: int = Field(description="Id of the attempt.")
    measurement: int = Field(description="Id of the measurement.")
    repeat: int = Field(0, description=REPEAT)
    worker: str = Field(description="Name of the worker.")
    device: str = Field(description="cpu, cuda or mps.")
    versions: dict[str, str] = Field(description=VERSIONS)
    started_at: datetime = Field(description="Time of its start.")
    finished_at: datetime | None = Field(description="Time of its end; null while it runs.")
    outcome: Outcome = Field(description=OUTCOME)
    metrics: Metrics = Field({}, description=METRICS)
    nonfinite: dict[str, NonFinite] = Field({}, description=NONFINITE)
    traceback: str | None = Field(None, description="Python traceback of a failure.")
    log: str | None = Field(None, description="Last log lines of the worker; times are UTC.")


class Provenance(BaseModel):
    """Everything about one measurement."""

    id: int = Field(description="Id of the measurement.")
    identity: str = Field(description="SHA-256 of `inputs`.")
    repeat: int = Field(0, description=REPEAT)
    kind: str = Field(description="Experiment type that measures it.")
    inputs: dict[str, Any] = Field(description="Everything that determines the result.")
    source: dict[str, Any] = Field(description="Checkpoint and dataset with their locations.")
    state: MeasurementState = Field(description="open: waiting for a worker.")
    attempts: list[Attempt] = Field(
        description="Attempts at it and at its repetitions, oldest first."
    )
    experiments: list[int] = Field(description="Ids of the experiments that use it.")


class WorkerContribution(BaseModel):
    """Attempts of one worker with the same versions and outcome."""

    worker: str = Field(description="Name of the worker.")
    device: str = Field(description="cpu, cuda or mps.")
    versions: dict[str, str] = Field(description=VERSIONS)
    outcome: Outcome = Field(description=OUTCOME)
    num_attempts: int = Field(description="Number of attempts.")
    seconds: float = Field(description="Total duration.")
    first: datetime = Field(description="Start of the first attempt.")
    last: datetime = Field(description="End of the last attempt.")


class ExperimentProvenance(BaseModel):
    """Where all results of an experiment come from."""

    measured: list[WorkerContribution] = Field(description="Attempts, grouped by worker.")
    num_failed_before: int = Field(
        0, description="Failed or lost attempts at points that succeeded later."
    )
    checkpoints: list[Checkpoint] = Field(description="Checkpoints with their hashes.")
    datasets: list[Dataset] = Field(description="Datasets with their hashes.")
    remarks: list[str] = Field(
        [], description="What the weights of the checkpoints say against their names."
    )
