"""Fair scheduling: which user is next, and which of their points.

Users by share: the one with the least weighted work so far. Within a user: priority, then the older
experiment, then the plan's stages, and inside a stage the group whose checkpoint the worker has
loaded. A claim costs the same however many points there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db.models import Json

MAX_LOST = 3  # workers that may die on a point before it fails
LOOKAHEAD = 500  # next points of an experiment among which the loaded group is preferred

# Workers that died on a point, including one whose lease has just expired during an attempt.
NUM_LOST = """
    m.num_lost + CASE WHEN m.state = 'running' AND EXISTS (
        SELECT FROM attempts a WHERE a.measurement_id = m.id AND a.outcome = 'running')
        THEN 1 ELSE 0 END"""

# Open or abandoned (lease expired), and within the capabilities of this worker.
CLAIMABLE = f"""
    {NUM_LOST} < :max_lost
    AND (m.state = 'open' OR (m.state = 'running' AND m.lease_expires < clock_timestamp()))
    AND m.requires_device IN ('any', :device) AND m.requires_memory_gb <= :memory_gb
"""


def owners_by_share(session: Session) -> Sequence[str]:
    """Return users with active experiments, the least served first."""
    return session.scalars(
        text("""
            SELECT u.name FROM users u WHERE EXISTS (
                SELECT FROM experiments e WHERE e.owner = u.name AND e.state = 'active')
            ORDER BY u.turn, u.name""")
    ).all()


def experiments_of(session: Session, owner: str) -> Sequence[Row[Any]]:
    """Return the user's active experiments in their order."""
    return session.execute(
        text("""
            SELECT id, priority, num_points FROM experiments
            WHERE owner = :owner AND state = 'active'
            ORDER BY priority DESC, id"""),
        {"owner": owner},
    ).all()


def next_points(
    session: Session, experiment: Row[Any], loaded: str, capabilities: Json
) -> Sequence[Row[Any]]:
    """Return at most 64 claimable points, locked, those of the loaded group first.

    Considers the next LOOKAHEAD points, more only where none of these is claimable.
    """
    lookahead = LOOKAHEAD
    rows = _next_claimable(session, experiment.id, loaded, lookahead, capabilities)
    while not rows and lookahead < experiment.num_points:
        lookahead *= 20
        rows = _next_claimable(session, experiment.id, loaded, lookahead, capabilities)
    return rows


def _next_claimable(
    session: Session, experiment: int, loaded: str, lookahead: int, capabilities: Json
) -> Sequence[Row[Any]]:
    return session.execute(
        text(f"""
            WITH nearest AS MATERIALIZED (
                SELECT measurement_id, stage, position FROM experiment_points
                WHERE experiment_id = :experiment AND NOT ended
                ORDER BY stage, position LIMIT :lookahead)
            SELECT m.id, m.kind, m.identity, m.repeat, m.inputs, m.source, m.group_key, m.seconds
            FROM nearest JOIN measurements m ON m.id = nearest.measurement_id
            WHERE {CLAIMABLE} AND EXISTS (
                SELECT FROM experiments WHERE id = :experiment AND state = 'active')
            ORDER BY nearest.stage, (m.group_key = :loaded) DESC, nearest.position
            LIMIT 64 FOR UPDATE OF m SKIP LOCKED"""),
        {**capabilities, "experiment": experiment, "loaded": loaded, "lookahead": lookahead},
    ).all()
