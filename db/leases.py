"""Transitions of workers: claim a slice, begin a point, renew the lease, finish or release.

Each function is the work of one transaction, which the caller commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from db import scheduling
from db.models import Attempt, Json
from db.publication import publish
from db.scheduling import MAX_LOST
from ucurve.settings import settings


@dataclass(frozen=True)
class ClaimedPoint:
    """A point that this worker has leased."""

    id: int
    kind: str
    identity: str
    repeat: int
    inputs: Json
    source: Json
    group_key: str
    seconds: float
    experiment: int | None = None  # one of those that want it


def claim(
    session: Session,
    worker: str,
    device: str,
    memory_gb: float,
    loaded: str | None,
    speed: float,
    slice_seconds: float = 2.0,
) -> tuple[str, list[ClaimedPoint]]:
    """Lease a slice: points of one user and group worth about `slice_seconds`, at least one.

    Returns the lease's token and the points ([] when there is nothing to do). The order is that of
    db.scheduling. loaded: the group whose checkpoint the worker has in memory. speed: measured /
    planned seconds.
    """
    capabilities: Json = {"device": device, "memory_gb": memory_gb, "max_lost": MAX_LOST}
    for owner in scheduling.owners_by_share(session):
        for experiment in scheduling.experiments_of(session, owner):
            rows = scheduling.next_points(session, experiment, loaded or "", capabilities)
            if rows:
                points, seconds = _slice(rows, experiment.id, speed, slice_seconds)
                token = str(uuid.uuid4())
                _lease(session, [point.id for point in points], token, worker)
                _charge(session, owner, seconds, experiment.priority)
                return token, points
    return "", []


def _slice(
    rows: Sequence[Row[Any]], experiment: int, speed: float, slice_seconds: float
) -> tuple[list[ClaimedPoint], float]:
    """Return the first rows of one group within the time, at least one, and their seconds."""
    points: list[ClaimedPoint] = []
    budget = slice_seconds
    for row in rows:
        if points and (row.group_key != rows[0].group_key or budget < row.seconds * speed):
            break
        points.append(ClaimedPoint(**row._mapping, experiment=experiment))
        budget -= row.seconds * speed
    return points, slice_seconds - budget


def _lease(session: Session, ids: list[int], token: str, worker: str) -> None:
    """Lease locked rows; attempts that an earlier holder had begun on them are lost."""
    lost = session.scalars(
        text("""
            UPDATE attempts SET outcome = 'lost', finished_at = clock_timestamp()
            WHERE measurement_id = ANY(:ids) AND outcome = 'running' RETURNING measurement_id"""),
        {"ids": ids},
    ).all()
    session.execute(
        text("""
            UPDATE measurements SET state = 'running', lease_owner = :worker,
                lease_token = CAST(:token AS uuid), live = NULL,
                lease_expires = clock_timestamp() + make_interval(secs => :lease),
                num_lost = num_lost + CASE WHEN id = ANY(:lost) THEN 1 ELSE 0 END
            WHERE id = ANY(:ids)"""),
        {
            "ids": ids,
            "lost": list(lost),
            "token": token,
            "worker": worker,
            "lease": settings().lease_seconds,
        },
    )


def _charge(session: Session, owner: str, seconds: float, priority: int) -> None:
    """Advance the user's virtual time by the work received; a higher priority costs less."""
    session.execute(
        text("UPDATE users SET turn = turn + :cost WHERE name = :owner"),
        {"owner": owner, "cost": max(seconds, 0.01) / 2 ** (priority / 2)},
    )


def begin(
    session: Session, measurement: int, token: str, worker: str, device: str, versions: Json
) -> int | None:
    """Start an attempt and return its id; None when the lease is lost or the point not wanted."""
    # A server that crashes may forget this record: `finish` refuses a result without it.
    session.execute(text("SET LOCAL synchronous_commit = off"))
    leased = session.execute(
        text("""
            UPDATE measurements m SET live = NULL
            WHERE id = :id AND lease_token = CAST(:token AS uuid) AND EXISTS (
                SELECT FROM experiment_points p JOIN experiments e ON e.id = p.experiment_id
                WHERE p.measurement_id = m.id AND e.state = 'active')
            RETURNING id"""),
        {"id": measurement, "token": token},
    ).first()
    if leased is None:
        return None
    attempt = Attempt(measurement_id=measurement, worker=worker, device=device, versions=versions)
    session.add(attempt)
    session.flush()
    publish(session, [measurement])
    return attempt.id


def is_retry(session: Session, measurement: int, attempt: int) -> bool:
    """Return whether the measurement was attempted before this attempt."""
    return bool(
        session.scalar(
            text(
                "SELECT EXISTS (SELECT FROM attempts WHERE measurement_id = :id AND id < :attempt)"
            ),
            {"id": measurement, "attempt": attempt},
        )
    )


def renew(session: Session, token: str) -> dict[int, bool]:
    """Extend the lease; return {measurement: whether it is still wanted} for what is still leased.

    Locks the worker's own points only, never an experiment: a lease must not expire because
    the transaction of another process is stuck.
    """
    session.execute(text("SET LOCAL synchronous_commit = off"))
    leased = session.execute(
        text("""
            UPDATE measurements m
            SET lease_expires = clock_timestamp() + make_interval(secs => :lease)
            WHERE id IN (SELECT id FROM measurements WHERE lease_token = CAST(:token AS uuid)
                         ORDER BY identity, repeat FOR NO KEY UPDATE)
            RETURNING id, EXISTS (
                SELECT FROM experiment_points p JOIN experiments e ON e.id = p.experiment_id
                WHERE p.measurement_id = m.id AND e.state = 'active')"""),
        {"token": token, "lease": settings().lease_seconds},
    ).all()
    return {row[0]: row[1] for row in leased}


def publish_live(session: Session, measurement: int, token: str, live: Json) -> None:
    """Store what the running point reports. Raises an error of the database rather than wait."""
    session.execute(text("SET LOCAL synchronous_commit = off"))
    session.execute(text("SET LOCAL lock_timeout = '1s'"))
    leased = session.execute(
        text("""
            UPDATE measurements SET live = :live
            WHERE id = :id AND lease_token = CAST(:token AS uuid) RETURNING id""").bindparams(
            bindparam("live", type_=JSONB)
        ),
        {"id": measurement, "token": token, "live": live},
    ).first()
    if leased is not None:
        publish(session, [measurement])


def keep_log(session: Session, measurement: int, log: str) -> None:
    """Store what the worker logged so far, in case it dies. Call it right after `renew`."""
    session.execute(
        text("UPDATE attempts SET log = :log WHERE measurement_id = :id AND outcome = 'running'"),
        {"id": measurement, "log": log},
    )


def finish(session: Session, measurement: int, token: str, attempt: int, outcome: Json) -> bool:
    """Store the result (outcome: metrics, nonfinite, series) or failure (traceback), and the log.

    False, and nothing stored, when the lease or the record of the attempt has been lost.
    """
    failed = outcome.get("traceback")
    state = "failed" if failed else "done"
    values = {"metrics": outcome.get("metrics", {}), "nonfinite": outcome.get("nonfinite", {})}
    leased = session.execute(
        text("""
            UPDATE measurements SET state = :state, metrics = :metrics, nonfinite = :nonfinite,
                error = :error, attempt_id = :attempt, finished_at = clock_timestamp(),
                live = NULL, num_lost = 0, lease_owner = NULL, lease_token = NULL,
                lease_expires = NULL
            WHERE id = :id AND lease_token = CAST(:token AS uuid) AND EXISTS (
                SELECT FROM attempts
                WHERE id = :attempt AND measurement_id = :id AND outcome = 'running')
            RETURNING id""").bindparams(
            bindparam("metrics", type_=JSONB), bindparam("nonfinite", type_=JSONB)
        ),
        {
            **values,
            "state": state,
            "error": outcome.get("error") or (failed.strip().splitlines()[-1] if failed else None),
            "attempt": attempt,
            "id": measurement,
            "token": token,
        },
    ).first()
    if leased is None:
        return False
    session.execute(
        text("""
            UPDATE attempts SET outcome = :state, finished_at = clock_timestamp(),
                metrics = :metrics, nonfinite = :nonfinite, series = :series,
                traceback = :traceback, log = :log
            WHERE id = :attempt""").bindparams(
            *(bindparam(name, type_=JSONB) for name in ("metrics", "nonfinite", "series"))
        ),
        {
            **values,
            "state": state,
            "series": outcome.get("series", {}),
            "traceback": failed,
            "log": outcome.get("log"),
            "attempt": attempt,
        },
    )
    publish(session, [measurement], done=int(not failed), failed=int(bool(failed)))
    return True


def release(
    session: Session,
    token: str,
    measurement: int | None = None,
    lost: str | None = None,
    log: str | None = None,
) -> None:
    """Return a point (None: all of the lease) unfinished; its running attempt ends as stopped.

    lost: the traceback of a worker that broke on it. That counts as a death of the worker, or such
    a point would be claimed forever.
    """
    ids = list(
        session.scalars(
            text("""
                UPDATE measurements SET state = 'open', live = NULL, lease_owner = NULL,
                    lease_token = NULL, lease_expires = NULL, num_lost = num_lost + :lost
                WHERE id IN (
                    SELECT id FROM measurements WHERE lease_token = CAST(:token AS uuid)
                        AND id = coalesce(CAST(:id AS bigint), id)
                    ORDER BY identity, repeat FOR NO KEY UPDATE)
                RETURNING id"""),
            {"token": token, "id": measurement, "lost": int(lost is not None)},
        )
    )
    session.execute(
        text("""
            UPDATE attempts SET outcome = :outcome, finished_at = clock_timestamp(),
                traceback = :lost, log = coalesce(:log, log)
            WHERE measurement_id = ANY(:ids) AND outcome = 'running'"""),
        {
            "ids": ids,
            "outcome": "stopped" if lost is None else "lost",
            "lost": lost,
            "log": log,
        },
    )
    publish(session, ids)
