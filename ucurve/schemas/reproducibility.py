"""Re-measured numbers beside the first ones: how closely they agree, and on which machines.

`ucurve.analysis.reproducibility` makes the report.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, Field

from ucurve.schemas.measurements import (
    LABELS,
    METRICS,
    NONFINITE,
    VERSIONS,
    MeasurementState,
    Metrics,
)


class MeasuredValue(BaseModel):
    """A result with the machine that gave it."""

    measurement: int = Field(description="Id of the measurement.")
    worker: str = Field(description="Name of the worker.")
    device: str = Field(description="cpu, cuda or mps.")
    versions: dict[str, str] = Field(description=VERSIONS)
    metrics: Metrics = Field(description=METRICS)
    nonfinite: dict[str, str] = Field({}, description=NONFINITE)


class RemeasuredPair(BaseModel):
    """One point: the first result and the re-measured one."""

    position: int = Field(description="Position in the experiment's plan, from 0.")
    labels: dict[str, Any] = Field(description=LABELS)
    state: MeasurementState = Field(description="State of the re-measurement.")
    again: MeasuredValue | None = Field(description="The re-measured result.")
    first: MeasuredValue | None = Field(description="The first result; null when there was none.")
    same_series: bool = Field(True, description="Whether all curves are bit-identical.")


class Difference(BaseModel):
    """One metric of one point."""

    first: float | None = Field(description="First value; null when not finite or missing.")
    again: float | None = Field(description="Re-measured value; null when not finite or missing.")
    absolute: float | None = Field(description="Absolute difference.")
    relative: float | None = Field(
        description="Difference relative to the first value; null when that is zero."
    )
    states: tuple[str, str] | None = Field(
        None,
        description="States of both values where they differ, such as finite and pos_inf.",
    )


class PointDifference(BaseModel):
    """One point whose results differ."""

    position: int = Field(description="Position in the experiment's plan, from 0.")
    labels: dict[str, Any] = Field(description=LABELS)
    first: int = Field(description="Id of the first measurement.")
    again: int = Field(description="Id of the re-measurement.")
    workers: tuple[str, str] = Field(description="Workers of both.")
    same_series: bool = Field(description="Whether all curves are bit-identical.")
    metrics: dict[str, Difference] = Field(description="Metrics that differ.")

    @property
    def severity(self) -> tuple[bool, float]:
        """Return the sort key: other states first, then the largest relative difference."""
        differences = self.metrics.values()
        relative = [
            math.inf if d.relative is None else d.relative for d in differences if not d.states
        ]
        return any(d.states for d in differences), max(relative, default=0.0)


class MetricAgreement(BaseModel):
    """All points of one metric."""

    num_compared: int = Field(0, description="Points with both results.")
    num_identical: int = Field(0, description="Points that are bit-identical.")
    num_states_differ: int = Field(0, description="Points finite in one result only.")
    largest_absolute: float = Field(0.0, description="Largest absolute difference.")
    largest_relative: float = Field(0.0, description="Largest relative difference.")


class DevicePair(BaseModel):
    """Points measured first on one kind of machine and again on another, or the same."""

    first_device: str = Field(description="Device of the first results.")
    first_versions: dict[str, str] = Field(description=VERSIONS)
    first_workers: list[str] = Field(description="Workers of the first results.")
    again_device: str = Field(description="Device of the re-measured results.")
    again_versions: dict[str, str] = Field(description=VERSIONS)
    again_workers: list[str] = Field(description="Workers of the re-measured results.")
    num_compared: int = Field(description="Points with both results.")
    num_identical: int = Field(description="Points that are bit-identical.")

    @property
    def differing(self) -> dict[str, tuple[str, str]]:
        """Return what differs: {"hardware": ("x86_64", "NVIDIA H100")}."""
        first = {"device": self.first_device, **self.first_versions}
        again = {"device": self.again_device, **self.again_versions}
        return {
            name: (first.get(name, "-"), again.get(name, "-"))
            for name in sorted({*first, *again})
            if first.get(name) != again.get(name)
        }


class Agreement(BaseModel):
    """Re-measured results compared with the first. Times and rates are not compared."""

    experiment: int = Field(description="Number of the experiment.")
    fresh: bool = Field(description="Whether it was submitted with `fresh`.")
    num_points: int = Field(description="All points.")
    num_compared: int = Field(description="Points with both results.")
    num_identical: int = Field(description="Points bit-identical in every metric and curve.")
    num_waiting: int = Field(description="Points not re-measured yet.")
    num_failed: int = Field(description="Points whose re-measurement failed.")
    num_without_first: int = Field(description="Points that had no earlier result.")
    metrics: dict[str, MetricAgreement] = Field(description="Agreement by metric.")
    machines: list[DevicePair] = Field(description="Agreement by pair of machines.")
    points: list[PointDifference] = Field(
        description="Points that differ, worst first, as many as requested."
    )
    num_differing: int = Field(description="All points that differ.")
