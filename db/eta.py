"""How far experiments are, how fast, and how long they will take: read off the rows, never stored."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from db.models import Experiment, Worker

ALIVE_SECONDS = 15.0  # a worker that said nothing for this long is taken for dead
RATE_SECONDS = 60.0
KEPT_SECONDS = 1.0  # for which the amount of work left is not read again
_queues: dict[str, Queue] = {}  # of this process, by database
_looking = threading.Lock()


@dataclass(frozen=True)
class Estimate:
    """What an active experiment is doing now."""

    num_running: int = 0
    points_per_second: float | None = None
    eta_seconds: float | None = None
    waits_for: str | None = None


def alive_workers(session: Session) -> list[Row[Any]]:
    return list(
        session.execute(
            text("""
                SELECT name, device, memory_gb, EXISTS (SELECT FROM measurements m WHERE m.lease_owner = w.name
                    AND m.lease_token IS NOT NULL AND m.lease_expires > clock_timestamp()) AS busy
                FROM workers w WHERE seen_at > clock_timestamp() - make_interval(secs => :alive)"""),
            {"alive": ALIVE_SECONDS},
        )
    )


def speed_of(session: Session, kind: str) -> float:
    """Measured / planned seconds of the latest points of a kind; 1 while nothing was measured."""
    found = session.scalar(
        text("""
            SELECT sum(extract(epoch FROM finished_at - started_at)) / nullif(sum(seconds), 0) FROM (
                SELECT a.finished_at, a.started_at, m.seconds FROM measurements m JOIN attempts a ON a.id = m.attempt_id
                WHERE m.kind = :kind AND m.state = 'done' ORDER BY m.finished_at DESC LIMIT 100) latest"""),
        {"kind": kind},
    )
    return float(found) if found else 1.0


@dataclass(frozen=True)
class Queue:
    """All active work as it was a moment ago: what is left of each experiment, and what its owner's others before it will take."""

    until: float  # monotonic: when it is looked at again
    work: dict[int, list[Row[Any]]]
    left: dict[int, float]  # seconds
    ahead: dict[int, float]
    num_owners: int


def estimates(session: Session, experiments: Sequence[Experiment]) -> dict[int, Estimate]:
    """An estimate per active experiment; those that are not active have none.

    Users share the workers evenly, and a user's experiments are measured one after the other: what is ahead counts as time to wait.
    What is running is read now; how much work is left, which means reading all of it, is kept for a moment.
    """
    active = [experiment for experiment in experiments if experiment.state == "active"]
    if not active:
        return {}
    ids = [experiment.id for experiment in active]
    queue = _queue(session, ids)
    workers = alive_workers(session)
    running, rates = _running(session, ids), _rates(session, ids)
    found = {}
    for experiment in active:
        rows = queue.work.get(experiment.id, [])
        needs = [(row.requires_device, row.requires_memory_gb) for row in rows]
        able = [worker for worker in workers if can_run(worker, needs)]
        hands = max(1.0, min(len(able), experiment.num_points) / max(1, queue.num_owners))
        longest = max((row.longest_left for row in rows), default=0.0)
        seconds = queue.ahead.get(experiment.id, 0.0) + queue.left.get(experiment.id, 0.0)
        found[experiment.id] = Estimate(
            num_running=running.get(experiment.id, 0),
            points_per_second=rates.get(experiment.id),
            eta_seconds=max(seconds / hands, longest) if able else None,
            waits_for=None if running.get(experiment.id) else reason_to_wait(workers, needs),
        )
    return found


def _queue(session: Session, asked: list[int]) -> Queue:
    """Kept for a second, or for longer where it took long, so that looking costs at most a tenth of the time; looked at anew for
    an experiment that became active since.
    """
    where = str(session.get_bind().engine.url)
    with _looking:
        kept = _queues.get(where)
        if kept is None or kept.until < time.monotonic() or not kept.left.keys() >= set(asked):
            kept = _queues[where] = _look(session)
        return kept


def _look(session: Session) -> Queue:
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
    return Queue(began + max(KEPT_SECONDS, 10 * took), work, left, ahead, len(before))


def can_run(worker: Row[Any], needs: Iterable[tuple[str, float]]) -> bool:
    """Whether the worker has what at least one of the points requires: (device, memory in GiB) each."""
    return any(
        device in ("any", worker.device) and memory_gb <= worker.memory_gb
        for device, memory_gb in needs
    )


def reason_to_wait(workers: Sequence[Row[Any]], needs: Collection[tuple[str, float]]) -> str | None:
    """Why nothing of this work runs, with the remedy; None when it is about to start."""
    if not workers:
        return "No worker is running. Start one: `ucurve up` on this machine, or `docker compose up worker`."
    able = [worker for worker in workers if can_run(worker, needs)]
    if not able and needs:
        device, memory_gb = min(needs, key=lambda need: need[1])
        what = "a GPU" if device == "cuda" else "a device"
        have = ", ".join(
            sorted({f"{worker.device} with {worker.memory_gb:.0f} GB" for worker in workers})
        )
        return f"Waits for a worker that has {what} with {memory_gb:.1f} GB; alive now: {have}."
    if able and all(worker.busy for worker in able):
        who = (
            f"all {len(able)} workers that can run it are"
            if len(able) > 1
            else "the one worker that can run it is"
        )
        return f"Waits for its turn: {who} measuring for other experiments."
    return None


def _work_left(session: Session, experiments: list[int]) -> dict[int, list[Row[Any]]]:
    """Per experiment a row per requirement: what is open and what is running, in planned seconds."""
    rows = session.execute(
        text("""
                SELECT experiment_id, requires_device, requires_memory_gb,
                    coalesce(sum(seconds) FILTER (WHERE NOT held), 0) AS open_seconds,
                    coalesce(sum(reported) FILTER (WHERE held), 0) AS reported_left,
                    coalesce(sum(seconds) FILTER (WHERE held AND reported IS NULL), 0) AS silent_seconds,
                    coalesce(max(reported) FILTER (WHERE held), 0) AS longest_left
                FROM (SELECT p.experiment_id, m.requires_device, m.requires_memory_gb, m.seconds,
                        m.state = 'running' AND m.lease_expires > clock_timestamp() AS held,
                        CAST(m.live->>'seconds_left' AS float) AS reported
                    FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
                    WHERE p.experiment_id = ANY(:ids) AND m.state IN ('open', 'running')) points
                GROUP BY experiment_id, requires_device, requires_memory_gb"""),
        {"ids": experiments},
    )
    found: dict[int, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(row.experiment_id, []).append(row)
    return found


def _running(session: Session, experiments: list[int]) -> dict[int, int]:
    rows = session.execute(
        text("""
            SELECT p.experiment_id, count(*) AS num FROM measurements m JOIN experiment_points p ON p.measurement_id = m.id
            WHERE m.lease_token IS NOT NULL AND m.lease_expires > clock_timestamp() AND p.experiment_id = ANY(:ids)
            GROUP BY p.experiment_id"""),
        {"ids": experiments},
    )
    return {row.experiment_id: row.num for row in rows}


def _rates(session: Session, experiments: list[int]) -> dict[int, float]:
    """Points per second in the last minute: from the latest points, which are few, not from the experiments', which may be many."""
    rows = session.execute(
        text("""
            WITH latest AS MATERIALIZED (
                SELECT m.* FROM (SELECT DISTINCT kind FROM experiments) asked, LATERAL (
                    SELECT id, finished_at FROM measurements WHERE state = 'done' AND kind = asked.kind
                        AND finished_at > now() - make_interval(secs => :window)
                    ORDER BY finished_at DESC) m)
            SELECT e.id AS experiment_id, count(*) / least(:window,
                greatest(1, extract(epoch FROM clock_timestamp() - coalesce(e.started_at, e.created_at)))) AS rate
            FROM latest m JOIN experiment_points p ON p.measurement_id = m.id JOIN experiments e ON e.id = p.experiment_id
            WHERE e.id = ANY(:ids) AND NOT p.reused AND m.finished_at > e.created_at
            GROUP BY e.id"""),
        {"ids": experiments, "window": RATE_SECONDS},
    )
    return {row.experiment_id: float(row.rate) for row in rows}


def seen_workers(session: Session) -> list[tuple[Worker, bool, list[int]]]:
    """Workers seen in the last day, whether alive, and the experiments that point at what each measures now."""
    rows = session.execute(
        text("""
            SELECT w.name, w.seen_at > clock_timestamp() - make_interval(secs => :alive) AS alive,
                array(SELECT DISTINCT p.experiment_id FROM measurements m JOIN experiment_points p ON p.measurement_id = m.id
                    JOIN experiments e ON e.id = p.experiment_id AND e.state = 'active'
                    WHERE m.lease_owner = w.name AND m.lease_token IS NOT NULL AND m.lease_expires > clock_timestamp()) AS measuring
            FROM workers w WHERE seen_at > clock_timestamp() - interval '1 day' ORDER BY alive DESC, w.name"""),
        {"alive": ALIVE_SECONDS},
    ).all()
    workers = {worker.name: worker for worker in session.query(Worker)}
    return [(workers[row.name], row.alive, row.measuring) for row in rows]
