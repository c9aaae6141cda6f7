"""Delete an experiment together with the measurements that only it was waiting for.

Each function is part of one transaction. Locks are taken in the order of db.models: measurements,
then the experiment.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session


def lock_unfinished(session: Session, experiment: int) -> list[int]:
    """Lock and return the measurements of an experiment that have no result yet."""
    return list(
        session.scalars(
            text("""
                SELECT m.id FROM measurements m
                JOIN experiment_points p ON p.measurement_id = m.id
                WHERE p.experiment_id = :id AND m.state IN ('open', 'running')
                ORDER BY m.identity, m.repeat FOR UPDATE OF m"""),
            {"id": experiment},
        )
    )


def delete_experiment(session: Session, experiment: int, unfinished: list[int]) -> None:
    """Delete an experiment, and those of its unfinished measurements that no other refers to.

    A worker that is just measuring one of them loses its lease. Results stay.
    """
    session.execute(text("DELETE FROM experiments WHERE id = :id"), {"id": experiment})
    unreferenced = list(
        session.scalars(
            text("""
                SELECT id FROM unnest(CAST(:ids AS bigint[])) AS id WHERE NOT EXISTS (
                    SELECT FROM experiment_points p WHERE p.measurement_id = id)"""),
            {"ids": unfinished},
        )
    )
    for table, column in (("attempts", "measurement_id"), ("measurements", "id")):
        session.execute(
            text(f"DELETE FROM {table} WHERE {column} = ANY(:ids)"), {"ids": unreferenced}
        )
