"""Whose turn it is, and which of their points come next. A claim costs the same however many points there are.

Users in turn: the one whose weighted work so far is least. Within a user: priority, then the older experiment, then the plan's
stages, and inside a stage what the worker has loaded already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db.models import Json

MAX_LOST = 3  # workers that may die over a point before it is called poison
LOOKED_AT = 500  # next points of an experiment among which those of the loaded group are preferred

# Workers that died over a point, the one included whose lease has just run out in the middle of an attempt.
NUM_LOST = """
    m.num_lost + CASE WHEN m.state = 'running' AND EXISTS (
        SELECT FROM attempts a WHERE a.measurement_id = m.id AND a.outcome = 'running') THEN 1 ELSE 0 END"""

# Open, or left by a worker that stopped renewing, and within what this worker can run.
CLAIMABLE = f"""
    {NUM_LOST} < :max_lost
    AND (m.state = 'open' OR (m.state = 'running' AND m.lease_expires < clock_timestamp()))
    AND m.requires_device IN ('any', :device) AND m.requires_memory_gb <= :memory_gb
"""


def owners_in_turn(session: Session) -> Sequence[str]:
    """Users with active experiments, the least served first."""
    return session.scalars(
        text("""
            SELECT u.name FROM users u WHERE EXISTS (SELECT FROM experiments e WHERE e.owner = u.name AND e.state = 'active')
            ORDER BY u.turn, u.name""")
    ).all()


def experiments_of(session: Session, owner: str) -> Sequence[Row[Any]]:
    """The user's active experiments in their order."""
    return session.execute(
        text("""
            SELECT id, priority, num_points FROM experiments WHERE owner = :owner AND state = 'active'
            ORDER BY priority DESC, id"""),
        {"owner": owner},
    ).all()


def next_points(
    session: Session, experiment: Row[Any], loaded: str, who: Json
) -> Sequence[Row[Any]]:
    """At most 64 claimable points, locked. The next LOOKED_AT points are looked at, more only where none of these is claimable:
    among them those of the loaded group go first.
    """
    rows, looked_at = _among(session, experiment.id, loaded, LOOKED_AT, who), LOOKED_AT
    while not rows and looked_at < experiment.num_points:
        looked_at *= 20
        rows = _among(session, experiment.id, loaded, looked_at, who)
    return rows


def _among(
    session: Session, experiment: int, loaded: str, looked_at: int, who: Json
) -> Sequence[Row[Any]]:
    return session.execute(
        text(f"""
            WITH nearest AS MATERIALIZED (
                SELECT measurement_id, stage, position FROM experiment_points
                WHERE experiment_id = :experiment AND NOT ended ORDER BY stage, position LIMIT :looked_at)
            SELECT m.id, m.kind, m.identity, m.repeat, m.inputs, m.source, m.group_key, m.seconds
            FROM nearest JOIN measurements m ON m.id = nearest.measurement_id
            WHERE {CLAIMABLE} AND EXISTS (SELECT FROM experiments WHERE id = :experiment AND state = 'active')
            ORDER BY nearest.stage, (m.group_key = :loaded) DESC, nearest.position
            LIMIT 64 FOR UPDATE OF m SKIP LOCKED"""),
        {**who, "experiment": experiment, "loaded": loaded, "looked_at": looked_at},
    ).all()
