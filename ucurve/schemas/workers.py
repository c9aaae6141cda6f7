"""Workers as they last reported."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class WorkerInfo(BaseModel):
    """Last reported state of a worker."""

    name: str = Field(description="Name of the worker, unique in the lab.")
    host: str = Field(description="Host name of its machine.")
    pid: int = Field(description="Process id.")
    device: str = Field(description="cpu, cuda or mps.")
    memory_gb: float = Field(description="Memory of the device in GiB.")
    versions: dict[str, str] = Field(
        description="Library versions, `code` (of ucurve) and `hardware`."
    )
    started_at: datetime = Field(description="Time of its start.")
    seen_at: datetime = Field(description="Time of its last report.")
    alive: bool = Field(description="Whether it reported within the last seconds.")
    waits_for: str | None = Field(
        None, description="Why it measures nothing, and what to do; null when nothing is amiss."
    )
    measuring: list[int] = Field(description="Ids of the experiments that its current point is of.")
