"""Numbers measured afresh beside the first ones: how far they agree, and on which machines each was measured.

report = compared(7, [Pair(...), ...])        # report.num_identical of report.num_compared agree bit for bit
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from ucurve.schemas.measurements import decode_metrics

TIME = re.compile(
    r"(^|_)seconds?(_|$)"
)  # how long it took, and rates: they never agree, and need not


class Number(BaseModel):
    """A measurement's number with the machine that gave it."""

    measurement: int
    worker: str
    device: str
    versions: dict[str, str]  # of libraries, `code` (ours) and `hardware`
    metrics: dict[str, float | None]
    nonfinite: dict[str, str] = {}


class Pair(BaseModel):
    """One point: the first number and the fresh one, as far as there are."""

    position: int
    labels: dict[str, Any]
    state: Literal["open", "running", "done", "failed"]  # of the fresh one
    again: Number | None
    first: Number | None  # None: nothing was there before
    same_series: bool = True


class Difference(BaseModel):
    """One metric of one point. first and again are null where `states` says why: ("finite", "pos_inf")."""

    first: float | None
    again: float | None
    absolute: float | None
    relative: float | None  # to the first; null where that is zero
    states: tuple[str, str] | None = None  # where they differ


class PointDifference(BaseModel):
    """One point whose numbers are not the same."""

    position: int
    labels: dict[str, Any]
    first: int  # measurements
    again: int
    workers: tuple[str, str]
    same_series: bool
    metrics: dict[str, Difference]

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

    num_compared: int = 0
    num_identical: int = 0
    num_states_differ: int = 0
    largest_absolute: float = 0.0
    largest_relative: float = 0.0


class Machines(BaseModel):
    """The points that one sort of machine measured first and another, or the same, measured again."""

    first_device: str
    first_versions: dict[str, str]
    first_workers: list[str]
    again_device: str
    again_versions: dict[str, str]
    again_workers: list[str]
    num_compared: int
    num_identical: int

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
    """What measuring again showed. Times and rates are left out: they need not agree."""

    experiment: int
    fresh: bool
    num_points: int
    num_compared: int
    num_identical: int  # bit for bit, in every metric and curve
    num_waiting: int
    num_failed: int
    num_without_first: int  # did not exist before: nothing to compare with
    metrics: dict[str, MetricAgreement]
    machines: list[Machines]
    points: list[PointDifference]  # those that differ, the worst first, as many as were asked for
    num_differing: int


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
    if value is None:
        return "missing"
    if math.isnan(value):
        return "nan"
    return "finite" if math.isfinite(value) else "pos_inf" if value > 0 else "neg_inf"


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
