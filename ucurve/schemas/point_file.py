"""A point as a file: what determines its result, where its files are, and what was recorded.

`ucurve measure` reproduces it on another machine.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from ucurve.schemas.measurements import LABELS, METRICS, NONFINITE, VERSIONS, Metrics


class RecordedResult(BaseModel):
    """The recorded result and the machine that gave it."""

    worker: str = Field(description="Name of the worker.")
    device: str = Field(description="cpu, cuda or mps.")
    versions: dict[str, str] = Field(description=VERSIONS)
    finished_at: datetime | None = Field(description="Time when it ended.")
    metrics: Metrics = Field(description=METRICS)
    nonfinite: dict[str, str] = Field({}, description=NONFINITE)


class PointFile(BaseModel):
    """A point with everything that another machine needs to reproduce it."""

    format: Literal["ucurve-point/1"] = Field("ucurve-point/1", description="Version of the file.")
    measurement: int = Field(description="Id of the measurement.")
    identity: str = Field(description="SHA-256 of `inputs`.")
    kind: str = Field(description="Experiment type that measures it.")
    inputs: dict[str, Any] = Field(description="Everything that determines the result.")
    source: dict[str, Any] = Field(
        description="Checkpoint and dataset with locations and hashes, which are verified on load."
    )
    labels: dict[str, Any] = Field(description=LABELS)
    group: str = Field(description="Points of the same group share a loaded checkpoint.")
    recorded: RecordedResult | None = Field(description="The result; null before there is one.")
