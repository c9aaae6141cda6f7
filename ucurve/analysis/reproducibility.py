"""Agreement of re-measured numbers with the first ones.

    report = compare_pairs(7, True, [RemeasuredPair(...), ...])
    summary(report)  # "18 of 20 evaluations are bitwise identical; 3 are not measured yet"

No numpy: the API imports it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ucurve.schemas.measurements import decode_metrics, nonfinite_state
from ucurve.schemas.reproducibility import (
    Agreement,
    DevicePair,
    Difference,
    MeasuredValue,
    MetricAgreement,
    PointDifference,
    RemeasuredPair,
)

TIME = re.compile(r"(^|_)seconds?(_|$)")  # times and rates never agree, and need not


def compare_pairs(
    experiment: int, fresh: bool, pairs: Sequence[RemeasuredPair], limit: int = 50
) -> Agreement:
    """Return the report over all points of an experiment; limit: differing points to include."""
    metrics: dict[str, MetricAgreement] = {}
    machines: dict[str, DevicePair] = {}
    differing: list[PointDifference] = []
    done = [
        (pair, pair.first, pair.again)
        for pair in pairs
        if pair.state == "done" and pair.again and pair.first
    ]
    for pair, first, again in done:
        differences = _differences(first, again)
        for name, difference in differences.items():
            _count(metrics.setdefault(name, MetricAgreement()), difference)
        unequal = {name: each for name, each in differences.items() if each.absolute or each.states}
        identical = pair.same_series and not unequal
        _add(machines, first, again, identical)
        if not identical:
            differing.append(
                PointDifference(
                    position=pair.position,
                    labels=pair.labels,
                    first=first.measurement,
                    again=again.measurement,
                    workers=(first.worker, again.worker),
                    same_series=pair.same_series,
                    metrics=unequal,
                )
            )
    differing.sort(key=lambda point: (*point.severity, -point.position), reverse=True)
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
        machines=sorted(machines.values(), key=lambda machine: -machine.num_compared),
        points=differing[:limit],
        num_differing=len(differing),
    )


def summary(report: Agreement) -> str:
    """Return the report in one sentence."""
    if not report.num_compared and not report.num_waiting:
        return (
            f"experiment {report.experiment} did not re-measure any points (submit with "
            "--remeasure to do so)"
        )
    parts = [
        f"{report.num_identical:,} of {report.num_compared:,} evaluations are bitwise identical",
        *(
            f"{num:,} {text}"
            for num, text in (
                (report.num_waiting, "are not measured yet"),
                (report.num_failed, "failed"),
                (report.num_without_first, "had not been measured before"),
            )
            if num
        ),
    ]
    return "; ".join(parts)


def _differences(first: MeasuredValue, again: MeasuredValue) -> dict[str, Difference]:
    before, after = (decode_metrics(value.metrics, value.nonfinite) for value in (first, again))
    names = [name for name in dict.fromkeys([*before, *after]) if not TIME.search(name)]
    return {name: difference(before.get(name), after.get(name)) for name in names}


def difference(first: float | None, again: float | None) -> Difference:
    """Return the difference between two values of a metric; None: there is none."""
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


def _count(metric: MetricAgreement, difference: Difference) -> None:
    metric.num_compared += 1
    metric.num_states_differ += difference.states is not None
    metric.num_identical += difference.absolute == 0
    metric.largest_absolute = max(metric.largest_absolute, difference.absolute or 0.0)
    metric.largest_relative = max(metric.largest_relative, difference.relative or 0.0)


def _add(
    machines: dict[str, DevicePair], first: MeasuredValue, again: MeasuredValue, identical: bool
) -> None:
    """Add the point to the counts of its pair of machines."""
    key = repr(
        (first.device, sorted(first.versions.items()), again.device, sorted(again.versions.items()))
    )
    pair = machines.setdefault(
        key,
        DevicePair(
            first_device=first.device,
            first_versions=first.versions,
            first_workers=[],
            again_device=again.device,
            again_versions=again.versions,
            again_workers=[],
            num_compared=0,
            num_identical=0,
        ),
    )
    pair.num_compared += 1
    pair.num_identical += identical
    for workers, worker in (
        (pair.first_workers, first.worker),
        (pair.again_workers, again.worker),
    ):
        if worker not in workers:
            workers.append(worker)
