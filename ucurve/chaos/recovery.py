"""Seconds from each fault to the next result of anybody, counted while there was work.

A result is an attempt that ended as done or failed, by the database's clock. Where no point waited
or ran during the whole time, the fault had nothing to delay; it is counted and said so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ucurve.chaos.faults import Fault


@dataclass(frozen=True)
class Recovery:
    """One fault with its recovery; seconds is None when there was no work, or no result came."""

    fault: Fault
    seconds: float | None
    had_work: bool


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    kind: str
    count: int
    no_work: int
    median: float | None
    p95: float | None
    worst: float | None


def recoveries(
    faults: Sequence[Fault], results: Sequence[float], samples: Sequence[tuple[float, int]]
) -> list[Recovery]:
    """Return the recovery of every fault; results: times of commits, samples: work over time."""
    ordered, times = sorted(results), [at for at, _ in samples]
    found = []
    for fault in faults:
        index = bisect_right(ordered, fault.at)
        until = ordered[index] if index < len(ordered) else None
        idle, had_work = _idle(fault.at, until, times, samples)
        seconds = max(0.0, until - fault.at - idle) if until is not None and had_work else None
        found.append(Recovery(fault, seconds, had_work))
    return found


def _idle(
    since: float, until: float | None, times: Sequence[float], samples: Sequence[tuple[float, int]]
) -> tuple[float, bool]:
    """Return the seconds without work in a time, and whether there was any work.

    Between samples, and while the database did not answer, the last known count stands.
    """
    first = max(0, bisect_right(times, since) - 1)
    last = len(times) if until is None else bisect_right(times, until)
    inside = list(samples[first:last])
    if not inside:
        return 0.0, True
    ends = [at for at, _ in inside[1:]] + [until if until is not None else inside[-1][0]]
    idle = sum(
        max(0.0, end - max(at, since))
        for (at, count), end in zip(inside, ends, strict=True)
        if count == 0
    )
    return idle, any(count > 0 for _, count in inside)


def table(recoveries: Sequence[Recovery]) -> list[Line]:
    """Return a line per kind of fault, one for faults during recovery, and one for all."""
    kinds = sorted({recovery.fault.kind for recovery in recoveries})
    lines = [_line(kind, [r for r in recoveries if r.fault.kind == kind]) for kind in kinds]
    second = [recovery for recovery in recoveries if recovery.fault.during_recovery]
    return [*lines, _line("of these, within 1 s of another", second), _line("all", recoveries)]


def _line(kind: str, recoveries: Sequence[Recovery]) -> Line:
    seconds = sorted(r.seconds for r in recoveries if r.seconds is not None)
    return Line(
        kind,
        len(recoveries),
        sum(not recovery.had_work for recovery in recoveries),
        quantile(seconds, 0.5),
        quantile(seconds, 0.95),
        quantile(seconds, 1.0),
    )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least this share does not exceed."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]
