"""Disks of the lab, and its readiness."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class DiskInfo(BaseModel):
    """A disk that the lab writes to."""

    name: str = Field(description="What is on it: artefacts or database.")
    state: Literal["ok", "low", "full"] = Field(
        description="low: below UCURVE_LOW_DISK_GB; full: below UCURVE_MIN_DISK_GB, or a write "
        "failed."
    )
    free_bytes: int | None = Field(description="Free space; null where the server cannot see it.")
    total_bytes: int | None = Field(description="Size of the disk; null as above.")
    message: str | None = Field(description="What to do; null while all is well.")


class Readiness(BaseModel):
    """Answer of a process that can serve requests."""

    status: Literal["ok"] = Field("ok", description="Always ok; otherwise the status is 503.")
    warnings: list[str] = Field([], description="What will soon stop the lab, and what to do.")
