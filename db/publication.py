"""What experiments record of their measurements: that these changed, how many ended, and the end.

Readers follow the versions of an experiment; they are advanced under its row lock.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session


def publish(session: Session, measurements: list[int], done: int = 0, failed: int = 0) -> None:
    """Record in every experiment of these measurements that they changed; finish what is complete.

    done and failed are added to the counts of each such experiment (pass one measurement then). The
    version is advanced under the experiment's row lock, taken in the order of ids.
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
                UPDATE experiments SET version = version + 1, num_done = num_done + :done,
                    num_failed = num_failed + :failed,
                    started_at = coalesce(started_at, clock_timestamp())
                WHERE id = ANY(:experiments) RETURNING id, version)
            UPDATE experiment_points p SET version = counted.version, ended = p.ended OR :ended
            FROM counted
            WHERE p.experiment_id = counted.id AND p.measurement_id = ANY(:ids)"""),
        {
            "experiments": experiments,
            "ids": measurements,
            "done": done,
            "failed": failed,
            "ended": bool(done or failed),
        },
    )
    if done or failed:
        finish_experiments(session, experiments)


def finish_experiments(session: Session, experiments: list[int]) -> None:
    """Finish the experiments that have no open point, and queue their webhooks.

    done: at least one point succeeded; failed: none did.
    """
    session.execute(
        text("""
            WITH settled AS (
                UPDATE experiments SET state = CASE WHEN num_done > 0 THEN 'done' ELSE 'failed' END,
                    finished_at = clock_timestamp(), version = version + 1
                WHERE id = ANY(:experiments) AND state IN ('active', 'paused')
                    AND num_done + num_failed >= num_points
                RETURNING id, state, webhook)
            INSERT INTO notices (experiment_id, url, event)
            SELECT id, webhook, state FROM settled WHERE webhook IS NOT NULL"""),
        {"experiments": experiments},
    )
