"""What becomes of points whose workers died, and whether anything is left to measure.

Claims take over expired leases by themselves (db.leases); here is what no claim does. Each function
is the work of one transaction, which the caller commits.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.publication import publish
from db.scheduling import MAX_LOST, NUM_LOST


def expire(session: Session, worker: str) -> int:
    """End the leases of a worker whose process is dead; return how many points it held.

    The points are claimed like those of any expired lease; should the process live after all, its
    results are discarded, because a new lease has a new token.
    """
    return len(
        session.scalars(
            text("""
                UPDATE measurements SET lease_expires = clock_timestamp()
                WHERE id IN (
                    SELECT id FROM measurements WHERE lease_owner = :worker AND state = 'running'
                        AND lease_expires > clock_timestamp()
                    ORDER BY identity, repeat FOR NO KEY UPDATE)
                RETURNING id"""),
            {"worker": worker},
        ).all()
    )


def fail_repeatedly_lost(session: Session) -> int | None:
    """Fail one point on which MAX_LOST workers died; return its id, None when there is none."""
    measurement: int | None = session.scalar(
        text(f"""
            UPDATE measurements SET state = 'failed', lease_owner = NULL, lease_token = NULL,
                lease_expires = NULL, finished_at = clock_timestamp(), live = NULL,
                attempt_id = NULL, error = 'the worker process died ' || :max_lost
                    || ' times while measuring this point; see its log'
            WHERE id = (
                SELECT id FROM measurements m
                WHERE state IN ('open', 'running') AND {NUM_LOST} >= :max_lost
                    AND (state = 'open' OR lease_expires < clock_timestamp())
                LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING id"""),
        {"max_lost": MAX_LOST},
    )
    if measurement is not None:
        session.execute(
            text("""
                UPDATE attempts SET outcome = 'lost', finished_at = clock_timestamp()
                WHERE measurement_id = :id AND outcome = 'running'"""),
            {"id": measurement},
        )
        publish(session, [measurement], failed=1)
    return measurement


def open_unwanted(session: Session) -> None:
    """End expired leases of points that no active experiment needs: no claim takes these over.

    Their worker is dead or cut off; without this they would count as running until an experiment of
    theirs is resumed.
    """
    opened = list(
        session.scalars(
            text("""
                UPDATE measurements m SET state = 'open', lease_owner = NULL, lease_token = NULL,
                    lease_expires = NULL, live = NULL,
                    num_lost = num_lost + CASE WHEN EXISTS (
                        SELECT FROM attempts a
                        WHERE a.measurement_id = m.id AND a.outcome = 'running')
                    THEN 1 ELSE 0 END
                WHERE id IN (
                    SELECT id FROM measurements u
                    WHERE state = 'running' AND lease_expires < clock_timestamp() AND NOT EXISTS (
                        SELECT FROM experiment_points p JOIN experiments e ON e.id = p.experiment_id
                        WHERE p.measurement_id = u.id AND e.state = 'active')
                    ORDER BY identity, repeat FOR NO KEY UPDATE SKIP LOCKED)
                RETURNING id""")
        )
    )
    if opened:
        session.execute(
            text("""
                UPDATE attempts SET outcome = 'lost', finished_at = clock_timestamp()
                WHERE measurement_id = ANY(:ids) AND outcome = 'running'"""),
            {"ids": opened},
        )
        publish(session, opened)


def has_wanted(session: Session) -> bool:
    """Return whether an active experiment has an open point.

    Open points of paused and cancelled experiments are not wanted: no worker would claim them.
    """
    return bool(
        session.scalar(
            text("""
                SELECT EXISTS (
                    SELECT FROM experiments e
                    JOIN experiment_points p ON p.experiment_id = e.id AND NOT p.ended
                    JOIN measurements m ON m.id = p.measurement_id
                    WHERE e.state = 'active' AND m.state = 'open')""")
        )
    )
