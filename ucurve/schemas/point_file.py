"""One number as a file: what determines it, where its files are, and what was recorded. `ucurve measure` repeats it elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel


class RecordedResult(BaseModel):
    """The number as it was measured, and where."""

    worker: str
    device: str
    versions: dict[str, str]
    finished_at: datetime | None
    metrics: dict[str, float | None]
    nonfinite: dict[str, str] = {}


class PointFile(BaseModel):
    """A point with everything that another machine needs; `source` names files by hash, which are checked when they are read."""

    format: Literal["ucurve-point/1"] = "ucurve-point/1"
    measurement: int
    identity: str
    kind: str
    inputs: dict[str, Any]
    source: dict[str, Any]
    labels: dict[str, Any]
    group: str
    recorded: RecordedResult | None
