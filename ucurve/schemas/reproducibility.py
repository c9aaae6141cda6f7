"""Numbers measured afresh beside the first ones: how far they agree, and on which machines each was measured.

report = compared(7, [Pair(...), ...])        # report.num_identical of report.num_compared agree bit for bit
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from ucurve.schemas.measurements import (
    LABELS,
    METRICS,
    NONFINITE,
    VERSIONS,
    MeasurementState,
    Metrics,
    decode_metrics,
    nonfinite_state,
)

TIME = re.compile(
    r"(^|_)seconds?(_|$)"
)  # how long it took, and rates: they never agree, and need not


class Number(BaseModel):
    """A result with the machine that gave it."""

    measurement: int = Field(description="Id of the measurement.")
    worker: str = Field(description="Name of the worker.")
    device: str = Field(description="cpu, cuda or mps.")
    versions: dict[str, str] = Field(description=VERSIONS)
    metrics: Metrics = Field(description=METRICS)
    nonfinite: dict[str, str] = Field({}, description=NONFINITE)


class Pair(BaseModel):
    """One point: the first result and the re-measured one."""

    position: int = Field(description="Position in the experiment's plan, from 0.")
    labels: dict[str, Any] = Field(description=LABELS)
    state: MeasurementState = Field(description="State of the re-measurement.")
    again: Number | None = Field(description="The re-measured result.")
    first: Number | None = Field(description="The first result; null when there was none.")
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
        """Other states first, then the largest relative difference."""
        found = self.metrics.values()
        differences = (
            math.inf if one.relative is None else one.relative for one in found if not one.states
        )
        return any(one.states for one in found), max(differences, default=0.0)


class MetricAgreement(BaseModel):
    """All points of one metric."""

    num_compared: int = Field(0, description="Points with both results.")
    num_identical: int = Field(0, description="Points that are bit-identical.")
    num_states_differ: int = Field(0, description="Points finite in one result only.")
    largest_absolute: float = Field(0.0, description="Largest absolute difference.")
    largest_relative: float = Field(0.0, description="Largest relative difference.")


class Machines(BaseModel):
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
        """What is not the same on both sides: {"hardware": ("x86_64", "NVIDIA H100")}."""
        one, other = ({"device": device, **versions} for device, versions in self._sides)
        return {
            n: (one.get(n, "-"), other.get(n, "-"))
            for n in sorted({*one, *other})
            if one.get(n) != other.get(n)
        }

    @property
    def _sides(self) -> tuple[tuple[str, dict[str, str]], tuple[str, dict[str, str]]]:
        return (self.first_device, self.first_versions), (self.again_device, self.again_versions)


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
    machines: list[Machines] = Field(description="Agreement by pair of machines.")
    points: list[PointDifference] = Field(
        description="Points that differ, worst first, as many as requested."
    )
    num_differing: int = Field(description="All points that differ.")


def compared(experiment: int, fresh: bool, pairs: Sequence[Pair], limit: int = 50) -> Agreement:
    """The report over all points of an experiment."""
    metrics: dict[str, MetricAgreement] = {}
    machines: dict[str, Machines] = {}
    differing: list[PointDifference] = []
    done = [
        (pair, pair.first, pair.again)
        for pair in pairs
        if pair.state == "done" and pair.again and pair.first
    ]
    for pair, first, again in done:
        differences = _differences(first, again)
        for name, one in differences.items():
            _count(metrics.setdefault(name, MetricAgreement()), one)
        identical = pair.same_series and not any(
            one.absolute or one.states for one in differences.values()
        )
        _note(machines, first, again, identical)
        if not identical:
            shown = {name: one for name, one in differences.items() if one.absolute or one.states}
            differing.append(
                PointDifference(
                    position=pair.position, labels=pair.labels, first=first.measurement, again=again.measurement,
                    workers=(first.worker, again.worker), same_series=pair.same_series, metrics=shown,
                )
            )  # fmt: skip
    differing.sort(key=lambda one: (*one.severity, -one.position), reverse=True)
    return Agreement(
        experiment=experiment,
        fresh=fresh,
        num_points=len(pairs),
        num_compared=len(done),
        num_identical=len(done) - len(differing),
        num_waiting=sum(pair.state in ("open", "running") for pair in pairs),
        num_failed=sum(pair.state == "failed" for pair in pairs),
        num_without_first=sum(pair.state == "done" and pair.first is None for pair in pairs),
        metrics=metrics,
        machines=sorted(machines.values(), key=lambda one: -one.num_compared),
        points=differing[:limit],
        num_differing=len(differing),
    )


def in_words(found: Agreement) -> str:
    """The report in one sentence: "18 of 20 points are identical bit for bit; 3 are not measured yet"."""
    if not found.num_compared and not found.num_waiting:
        return f"experiment {found.experiment} measured nothing a second time (submit with --fresh does)"
    parts = [f"{found.num_identical:,} of {found.num_compared:,} points are identical bit for bit"]
    for num, said in (
        (found.num_waiting, "are not measured yet"),
        (found.num_failed, "failed"),
        (found.num_without_first, "did not exist before"),
    ):
        parts += [f"{num:,} {said}"] if num else []
    return "; ".join(parts)


def _differences(first: Number, again: Number) -> dict[str, Difference]:
    one, other = (decode_metrics(number.metrics, number.nonfinite) for number in (first, again))
    names = [name for name in dict.fromkeys([*one, *other]) if not TIME.search(name)]
    return {name: difference(one.get(name), other.get(name)) for name in names}


def difference(first: float | None, again: float | None) -> Difference:
    """Of two values of a metric; None: there is none."""
    states = _state(first), _state(again)
    if states[0] != states[1]:
        values = [
            value if state == "finite" else None
            for value, state in zip((first, again), states, strict=True)
        ]
        return Difference(
            first=values[0], again=values[1], absolute=None, relative=None, states=states
        )
    if first is None or again is None or states[0] != "finite":
        return Difference(first=None, again=None, absolute=0.0, relative=0.0)
    absolute = abs(again - first)
    relative = 0.0 if absolute == 0 else absolute / abs(first) if first else None
    return Difference(first=first, again=again, absolute=absolute, relative=relative)


def _state(value: float | None) -> str:
    return "missing" if value is None else nonfinite_state(value) or "finite"


def _count(metric: MetricAgreement, one: Difference) -> None:
    metric.num_compared += 1
    metric.num_states_differ += one.states is not None
    metric.num_identical += one.absolute == 0
    metric.largest_absolute = max(metric.largest_absolute, one.absolute or 0.0)
    metric.largest_relative = max(metric.largest_relative, one.relative or 0.0)


def _note(machines: dict[str, Machines], first: Number, again: Number, identical: bool) -> None:
    """Add the point to those of its two sorts of machines."""
    key = repr(
        (first.device, sorted(first.versions.items()), again.device, sorted(again.versions.items()))
    )
    found = machines.setdefault(
        key,
        Machines(
            first_device=first.device, first_versions=first.versions, first_workers=[],
            again_device=again.device, again_versions=again.versions, again_workers=[], num_compared=0, num_identical=0,
        ),
    )  # fmt: skip
    found.num_compared += 1
    found.num_identical += identical
    for workers, worker in (
        (found.first_workers, first.worker),
        (found.again_workers, again.worker),
    ):
        if worker not in workers:
            workers.append(worker)
