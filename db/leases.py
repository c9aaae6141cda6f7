"""A worker's transitions: claim a slice, begin a point, renew the lease, finish or release.

Each function is one transaction's work and answers what happened; the caller commits.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from db import scheduling
from db.models import Attempt, Json
from db.scheduling import MAX_LOST, NUM_LOST
from ucurve.settings import settings


@dataclass(frozen=True)
class Claimed:
    """A point in this worker's hands."""

    id: int
    kind: str
    identity: str
    repeat: int
    inputs: Json
    source: Json
    group_key: str
    seconds: float


def claim(
    session: Session,
    worker: str,
    device: str,
    memory_gb: float,
    loaded: str | None,
    speed: float,
    slice_seconds: float = 2.0,
) -> tuple[str, list[Claimed]]:
    """Take a slice: points of one user and one group worth about `slice_seconds`, and at least one.

    Users in turn: the one whose weighted work so far is least. Within a user: priority, then the older experiment, then
    the plan's stages, and inside a stage the group already `loaded` first. `speed` is measured / planned seconds. Returns
    the lease's token and the points ([] when there is nothing to do).
    """
    who: Json = {"device": device, "memory_gb": memory_gb, "max_lost": MAX_LOST}
    for owner in scheduling.owners_in_turn(session):
        for experiment in scheduling.experiments_of(session, owner):
            rows = scheduling.next_points(session, experiment, loaded or "", who)
            if rows:
                budget = slice_seconds
                chosen: list[Claimed] = []
                for row in rows:
                    if chosen and (
                        row.group_key != rows[0].group_key or budget < row.seconds * speed
                    ):
                        break
                    chosen.append(Claimed(**row._mapping))
                    budget -= row.seconds * speed
                token = str(uuid.uuid4())
                _take(session, [point.id for point in chosen], token, worker)
                _charge(session, owner, slice_seconds - budget, experiment.priority)
                return token, chosen
    return "", []


def _take(session: Session, ids: list[int], token: str, worker: str) -> None:
    """The claimed rows are locked already; what an earlier holder had begun on them is lost."""
    lost = session.scalars(
        text("""
            UPDATE attempts SET outcome = 'lost', finished_at = clock_timestamp()
            WHERE measurement_id = ANY(:ids) AND outcome = 'running' RETURNING measurement_id"""),
        {"ids": ids},
    ).all()
    session.execute(
        text("""
            UPDATE measurements SET state = 'running', lease_owner = :worker, lease_token = CAST(:token AS uuid),
                lease_expires = clock_timestamp() + make_interval(secs => :lease), live = NULL,
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
    """Advance the user's turn by the work given; a higher priority makes it cost less of the turn."""
    session.execute(
        text("UPDATE users SET turn = turn + :cost WHERE name = :owner"),
        {"owner": owner, "cost": max(seconds, 0.01) / 2 ** (priority / 2)},
    )


def begin(
    session: Session, measurement: int, token: str, worker: str, device: str, versions: Json
) -> int | None:
    """Open an attempt; its id, or None when the point is no longer this worker's or nobody wants it."""
    session.execute(
        text("SET LOCAL synchronous_commit = off")
    )  # losing this record to a power cut loses no number
    held = session.execute(
        text("""
            UPDATE measurements m SET live = NULL WHERE id = :id AND lease_token = CAST(:token AS uuid) AND EXISTS (
                SELECT FROM experiment_points p JOIN experiments e ON e.id = p.experiment_id
                WHERE p.measurement_id = m.id AND e.state = 'active')
            RETURNING id"""),
        {"id": measurement, "token": token},
    ).first()
    if held is None:
        return None
    attempt = Attempt(measurement_id=measurement, worker=worker, device=device, versions=versions)
    session.add(attempt)
    session.flush()
    publish(session, [measurement])
    return attempt.id


def renew(session: Session, token: str, live: dict[int, Json]) -> dict[int, bool]:
    """Extend the lease on all its points and write what they report; {measurement: still wanted} of those still held."""
    session.execute(text("SET LOCAL synchronous_commit = off"))
    held = session.execute(
        text("""
            UPDATE measurements m SET lease_expires = clock_timestamp() + make_interval(secs => :lease)
            WHERE id IN (SELECT id FROM measurements WHERE lease_token = CAST(:token AS uuid)
                         ORDER BY identity, repeat FOR NO KEY UPDATE)
            RETURNING id, EXISTS (SELECT FROM experiment_points p JOIN experiments e ON e.id = p.experiment_id
                                  WHERE p.measurement_id = m.id AND e.state = 'active')"""),
        {"token": token, "lease": settings().lease_seconds},
    ).all()
    wanted: dict[int, bool] = {row[0]: row[1] for row in held}
    for measurement in sorted(live.keys() & wanted.keys()):
        session.execute(
            text("UPDATE measurements SET live = :live WHERE id = :id").bindparams(
                bindparam("live", type_=JSONB)
            ),
            {"id": measurement, "live": live[measurement]},
        )
        publish(session, [measurement])
    return wanted


def keep_log(session: Session, measurement: int, log: str) -> None:
    """What the worker logged so far, for the case that it dies. Only for who has just renewed the lease."""
    session.execute(
        text("UPDATE attempts SET log = :log WHERE measurement_id = :id AND outcome = 'running'"),
        {"id": measurement, "log": log},
    )


def finish(session: Session, measurement: int, token: str, attempt: int, outcome: Json) -> bool:
    """Write the number (outcome: metrics, nonfinite, series) or the failure (outcome: traceback), and what was logged (log).
    False, and nothing written, when the lease is somebody else's by now.
    """
    failed = outcome.get("traceback")
    state = "failed" if failed else "done"
    values = {"metrics": outcome.get("metrics", {}), "nonfinite": outcome.get("nonfinite", {})}
    held = session.execute(
        text("""
            UPDATE measurements SET state = :state, metrics = :metrics, nonfinite = :nonfinite, error = :error,
                attempt_id = :attempt, finished_at = clock_timestamp(), live = NULL, num_lost = 0,
                lease_owner = NULL, lease_token = NULL, lease_expires = NULL
            WHERE id = :id AND lease_token = CAST(:token AS uuid) RETURNING id""").bindparams(
            bindparam("metrics", type_=JSONB), bindparam("nonfinite", type_=JSONB)
        ),
        {
            **values, "state": state, "error": failed.strip().splitlines()[-1] if failed else None,
            "attempt": attempt, "id": measurement, "token": token,
        },
    ).first()  # fmt: skip
    if held is None:
        return False
    session.execute(
        text("""
            UPDATE attempts SET outcome = :state, finished_at = clock_timestamp(), metrics = :metrics, nonfinite = :nonfinite,
                series = :series, traceback = :traceback, log = :log WHERE id = :attempt""").bindparams(
            *(bindparam(name, type_=JSONB) for name in ("metrics", "nonfinite", "series"))
        ),
        {
            **values, "state": state, "series": outcome.get("series", {}), "traceback": failed, "log": outcome.get("log"),
            "attempt": attempt,
        },
    )  # fmt: skip
    publish(session, [measurement], done=int(not failed), failed=int(bool(failed)))
    return True


def release(
    session: Session,
    token: str,
    measurement: int | None = None,
    lost: str | None = None,
    log: str | None = None,
) -> None:
    """Give back a point (all of the lease's when None) unfinished; an attempt begun on it ends as stopped.

    lost: the traceback of a worker that breaks over it; that counts as if the worker had died, or such a point would come for ever.
    """
    ids = list(
        session.scalars(
            text("""
                UPDATE measurements SET state = 'open', live = NULL, lease_owner = NULL, lease_token = NULL,
                    lease_expires = NULL, num_lost = num_lost + :lost
                WHERE id IN (SELECT id FROM measurements WHERE lease_token = CAST(:token AS uuid)
                             AND id = coalesce(CAST(:id AS bigint), id) ORDER BY identity, repeat FOR NO KEY UPDATE)
                RETURNING id"""),
            {"token": token, "id": measurement, "lost": int(lost is not None)},
        )
    )
    session.execute(
        text("""
            UPDATE attempts SET outcome = :outcome, finished_at = clock_timestamp(), traceback = :lost, log = coalesce(:log, log)
            WHERE measurement_id = ANY(:ids) AND outcome = 'running'"""),
        {"ids": ids, "outcome": "stopped" if lost is None else "lost", "lost": lost, "log": log},
    )
    publish(session, ids)


def publish(session: Session, measurements: list[int], done: int = 0, failed: int = 0) -> None:
    """Tell every experiment that points at these measurements that they changed, and settle those with nothing open.

    done and failed are added to the counts of each such experiment (give one measurement then). The counter is advanced under the
    experiment's row lock, taken in the order of ids.
    """
    experiments = list(
        session.scalars(
            text("""
                SELECT id FROM experiments WHERE id IN (
                    SELECT experiment_id FROM experiment_points WHERE measurement_id = ANY(:ids))
                ORDER BY id FOR UPDATE"""),
            {"ids": measurements},
        )
    )
    session.execute(
        text("""
            WITH counted AS (
                UPDATE experiments SET version = version + 1, num_done = num_done + :done, num_failed = num_failed + :failed,
                    started_at = coalesce(started_at, clock_timestamp())
                WHERE id = ANY(:experiments) RETURNING id, version)
            UPDATE experiment_points p SET version = counted.version, ended = p.ended OR :over FROM counted
            WHERE p.experiment_id = counted.id AND p.measurement_id = ANY(:ids)"""),
        {
            "experiments": experiments,
            "ids": measurements,
            "done": done,
            "failed": failed,
            "over": bool(done or failed),
        },
    )
    if done or failed:
        settle(session, experiments)


def settle(session: Session, experiments: list[int]) -> None:
    """An experiment is done when nothing is open and at least one point finished, failed when none did; its webhook is due then."""
    session.execute(
        text("""
            WITH settled AS (
                UPDATE experiments SET state = CASE WHEN num_done > 0 THEN 'done' ELSE 'failed' END,
                    finished_at = clock_timestamp(), version = version + 1
                WHERE id = ANY(:experiments) AND state IN ('active', 'paused') AND num_done + num_failed >= num_points
                RETURNING id, state, webhook)
            INSERT INTO notices (experiment_id, url, event) SELECT id, webhook, state FROM settled WHERE webhook IS NOT NULL"""),
        {"experiments": experiments},
    )


def fail_repeatedly_lost(session: Session) -> int | None:
    """Fail one point over which MAX_LOST workers died; its id, None when there is none. Part of the API's sweep."""
    poison: int | None = session.scalar(
        text(f"""
            UPDATE measurements SET state = 'failed', lease_owner = NULL, lease_token = NULL, lease_expires = NULL,
                finished_at = clock_timestamp(), live = NULL, attempt_id = NULL,
                error = 'the worker process died ' || :max_lost || ' times while measuring this point; see its log'
            WHERE id = (
                SELECT id FROM measurements m WHERE state IN ('open', 'running') AND {NUM_LOST} >= :max_lost
                    AND (state = 'open' OR lease_expires < clock_timestamp())
                LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING id"""),
        {"max_lost": MAX_LOST},
    )
    if poison is not None:
        session.execute(
            text("""
                UPDATE attempts SET outcome = 'lost', finished_at = clock_timestamp()
                WHERE measurement_id = :id AND outcome = 'running'"""),
            {"id": poison},
        )
        publish(session, [poison], failed=1)
    return poison
