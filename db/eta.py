"""Progress, rate and remaining time of experiments: computed from the rows, never stored."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from db.models import Experiment, Worker

NO_WORKER = (
    "No worker is running. Start one: `ucurve up` on this machine, or `docker compose up worker`."
)
ALIVE_SECONDS = 15.0  # a worker that has not reported for this long counts as dead
RATE_SECONDS = 60.0
CACHE_SECONDS = 1.0  # for which the amount of remaining work is not read again
_backlogs: dict[str, Backlog] = {}  # of this process, by database URL
_reading = threading.Lock()


@dataclass(frozen=True)
class Estimate:
    """Current progress of an active experiment."""

    num_running: int = 0
    points_per_second: float | None = None
    eta_seconds: float | None = None
    waits_for: str | None = None


def alive_workers(session: Session) -> list[Row[Any]]:
    """Return live workers with their device and memory, and whether each is busy."""
    return list(
        session.execute(
            text("""
                SELECT name, device, memory_gb, waits_for, EXISTS (
                    SELECT FROM measurements m WHERE m.lease_owner = w.name
                        AND m.lease_token IS NOT NULL AND m.lease_expires > clock_timestamp())
                    AS busy
                FROM workers w
                WHERE seen_at > clock_timestamp() - make_interval(secs => :alive)"""),
            {"alive": ALIVE_SECONDS},
        )
    )


def speed_of(session: Session, kind: str) -> float:
    """Return measured / planned seconds of the latest points of a type; 1 without any."""
    speed = session.scalar(
        text("""
            SELECT sum(extract(epoch FROM finished_at - started_at)) / nullif(sum(seconds), 0)
            FROM (
                SELECT a.finished_at, a.started_at, m.seconds
                FROM measurements m JOIN attempts a ON a.id = m.attempt_id
                WHERE m.kind = :kind AND m.state = 'done'
                ORDER BY m.finished_at DESC LIMIT 100) latest"""),
        {"kind": kind},
    )
    return float(speed) if speed else 1.0


@dataclass(frozen=True)
class Backlog:
    """Remaining work of all active experiments, as of a moment ago."""

    expires: float  # on the monotonic clock
    work: dict[int, list[Row[Any]]]  # a row per requirement
    left: dict[int, float]  # seconds
    ahead: dict[int, float]  # seconds of the owner's experiments that come first
    num_owners: int


def estimates(session: Session, experiments: Sequence[Experiment]) -> dict[int, Estimate]:
    """Return an estimate per active experiment.

    Users share the workers evenly, and a user's experiments run one after the other: those ahead
    count as time to wait. Running points are read now; the remaining work, which means reading all
    of it, is cached for a moment.
    """
    active = [experiment for experiment in experiments if experiment.state == "active"]
    if not active:
        return {}
    ids = [experiment.id for experiment in active]
    backlog = _backlog(session, ids)
    workers = alive_workers(session)
    running, rates = _running(session, ids), _rates(session, ids)
    result = {}
    for experiment in active:
        rows = backlog.work.get(experiment.id, [])
        requirements = [(row.requires_device, row.requires_memory_gb) for row in rows]
        eligible = [worker for worker in workers if can_run(worker, requirements)]
        share = min(len(eligible), experiment.num_points) / max(1, backlog.num_owners)
        longest = max((row.longest_left for row in rows), default=0.0)
        seconds = backlog.ahead.get(experiment.id, 0.0) + backlog.left.get(experiment.id, 0.0)
        result[experiment.id] = Estimate(
            num_running=running.get(experiment.id, 0),
            points_per_second=rates.get(experiment.id),
            eta_seconds=max(seconds / max(1.0, share), longest) if eligible else None,
            waits_for=None if running.get(experiment.id) else reason_to_wait(workers, requirements),
        )
    return result


def _backlog(session: Session, experiments: list[int]) -> Backlog:
    """Return the backlog, cached for a second, or longer where reading it took long.

    Reading thus uses at most a tenth of the time. It is read again for an experiment that became
    active since.
    """
    url = str(session.get_bind().engine.url)
    with _reading:
        cached = _backlogs.get(url)
        complete = cached is not None and cached.left.keys() >= set(experiments)
        if cached is None or not complete or cached.expires < time.monotonic():
            cached = _backlogs[url] = _read_backlog(session)
        return cached


def _read_backlog(session: Session) -> Backlog:
    began = time.monotonic()
    active = session.execute(
        select(Experiment.id, Experiment.owner, Experiment.kind)
        .where(Experiment.state == "active")
        .order_by(Experiment.priority.desc(), Experiment.id)
    ).all()
    work = _work_left(session, [experiment.id for experiment in active])
    speeds = {kind: speed_of(session, kind) for kind in {experiment.kind for experiment in active}}
    left, ahead, before = {}, {}, dict.fromkeys({experiment.owner for experiment in active}, 0.0)
    for experiment in active:
        seconds = sum(
            row.reported_left + (row.open_seconds + row.silent_seconds) * speeds[experiment.kind]
            for row in work.get(experiment.id, [])
        )
        left[experiment.id], ahead[experiment.id] = seconds, before[experiment.owner]
        before[experiment.owner] += seconds
    took = time.monotonic() - began
    return Backlog(began + max(CACHE_SECONDS, 10 * took), work, left, ahead, len(before))


def can_run(worker: Row[Any], requirements: Iterable[tuple[str, float]]) -> bool:
    """Return whether the worker meets one of the requirements: (device, memory in GiB) each."""
    return any(
        device in ("any", worker.device) and memory_gb <= worker.memory_gb
        for device, memory_gb in requirements
    )


def reason_to_wait(
    workers: Sequence[Row[Any]], requirements: Collection[tuple[str, float]]
) -> str | None:
    """Return why none of this work runs, and what to do; None when it is about to start."""
    if not workers:
        return NO_WORKER
    eligible = [worker for worker in workers if can_run(worker, requirements)]
    if not eligible and requirements:
        device, memory_gb = min(requirements, key=lambda requirement: requirement[1])
        needed = "a GPU" if device == "cuda" else "a device"
        available = ", ".join(
            sorted({f"{worker.device} with {worker.memory_gb:.0f} GB" for worker in workers})
        )
        return (
            f"Needs a worker that has {needed} with {memory_gb:.1f} GB; live workers: {available}."
        )
    waiting = [worker.waits_for for worker in eligible if worker.waits_for]
    if waiting and len(waiting) == len(eligible):
        return f"Queued: no worker measures now. {waiting[0]}"
    if eligible and all(worker.busy for worker in eligible):
        workers_are = (
            f"all {len(eligible)} eligible workers are"
            if len(eligible) > 1
            else "the only eligible worker is"
        )
        return f"Queued: {workers_are} busy with other experiments."
    return None


def _work_left(session: Session, experiments: list[int]) -> dict[int, list[Row[Any]]]:
    """Return a row per experiment and requirement: open and running work, in planned seconds."""
    rows = session.execute(
        text("""
                SELECT experiment_id, requires_device, requires_memory_gb,
                    coalesce(sum(seconds) FILTER (WHERE NOT leased), 0) AS open_seconds,
                    coalesce(sum(reported) FILTER (WHERE leased), 0) AS reported_left,
                    coalesce(sum(seconds) FILTER (WHERE leased AND reported IS NULL), 0)
                        AS silent_seconds,
                    coalesce(max(reported) FILTER (WHERE leased), 0) AS longest_left
                FROM (SELECT p.experiment_id, m.requires_device, m.requires_memory_gb, m.seconds,
                        m.state = 'running' AND m.lease_expires > clock_timestamp() AS leased,
                        CAST(m.live->>'seconds_left' AS float) AS reported
                    FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
                    WHERE p.experiment_id = ANY(:ids)
                        AND m.state IN ('open', 'running')) points
                GROUP BY experiment_id, requires_device, requires_memory_gb"""),
        {"ids": experiments},
    )
    work: dict[int, list[Row[Any]]] = {}
    for row in rows:
        work.setdefault(row.experiment_id, []).append(row)
    return work


def _running(session: Session, experiments: list[int]) -> dict[int, int]:
    rows = session.execute(
        text("""
            SELECT p.experiment_id, count(*) AS num
            FROM measurements m JOIN experiment_points p ON p.measurement_id = m.id
            WHERE m.lease_token IS NOT NULL AND m.lease_expires > clock_timestamp()
                AND p.experiment_id = ANY(:ids)
            GROUP BY p.experiment_id"""),
        {"ids": experiments},
    )
    return {row.experiment_id: row.num for row in rows}


def _rates(session: Session, experiments: list[int]) -> dict[int, float]:
    """Return points per second over the last minute.

    Reads the latest points, which are few, not those of the experiments, which may be many.
    """
    rows = session.execute(
        text("""
            WITH latest AS MATERIALIZED (
                SELECT m.* FROM (SELECT DISTINCT kind FROM experiments) used, LATERAL (
                    SELECT id, finished_at FROM measurements
                    WHERE state = 'done' AND kind = used.kind
                        AND finished_at > now() - make_interval(secs => :window)
                    ORDER BY finished_at DESC) m)
            SELECT e.id AS experiment_id, count(*) / least(:window, greatest(1, extract(
                epoch FROM clock_timestamp() - coalesce(e.started_at, e.created_at)))) AS rate
            FROM latest m JOIN experiment_points p ON p.measurement_id = m.id
            JOIN experiments e ON e.id = p.experiment_id
            WHERE e.id = ANY(:ids) AND NOT p.reused AND m.finished_at > e.created_at
            GROUP BY e.id"""),
        {"ids": experiments, "window": RATE_SECONDS},
    )
    return {row.experiment_id: float(row.rate) for row in rows}


def seen_workers(session: Session) -> list[tuple[Worker, bool, list[int]]]:
    """Return workers seen in the last 24 hours, whether alive, and their current experiments."""
    rows = session.execute(
        text("""
            SELECT w.name,
                w.seen_at > clock_timestamp() - make_interval(secs => :alive) AS alive,
                array(
                    SELECT DISTINCT p.experiment_id
                    FROM measurements m JOIN experiment_points p ON p.measurement_id = m.id
                    JOIN experiments e ON e.id = p.experiment_id AND e.state = 'active'
                    WHERE m.lease_owner = w.name AND m.lease_token IS NOT NULL
                        AND m.lease_expires > clock_timestamp()) AS measuring
            FROM workers w WHERE seen_at > clock_timestamp() - interval '1 day'
            ORDER BY alive DESC, w.name"""),
        {"alive": ALIVE_SECONDS},
    ).all()
    workers = {worker.name: worker for worker in session.query(Worker)}
    return [(workers[row.name], row.alive, row.measuring) for row in rows]
