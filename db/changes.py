"""What readers ask of an experiment's rows: changes after a cursor, and whether anything ended since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db.models import Json

MOST_ROWS = 1_000_000


def changes_after(
    session: Session,
    experiment: int,
    cursor: int,
    limit: int = MOST_ROWS,
    sparse: Mapping[str, Json] | None = None,
) -> list[Row[Any]]:
    """Rows of the experiment changed after `cursor`, oldest change first, with the numbers of the shown attempt.

    sparse: series that come only with rows of these labels; None: no row has any series.
    """
    series, given = series_of(sparse)
    return list(
        session.execute(
            text(f"""
                SELECT m.id, m.identity, p.position, p.labels, p.reused, p.version, m.metrics, m.nonfinite, m.error,
                    CASE WHEN m.state = 'running' AND m.lease_expires < clock_timestamp() THEN 'open' ELSE m.state END AS state,
                    m.live, m.attempt_id AS attempt, m.finished_at, {series} AS series
                FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
                LEFT JOIN attempts a ON a.id = m.attempt_id
                WHERE p.experiment_id = :experiment AND p.version > :cursor
                ORDER BY p.version, p.position LIMIT :limit"""),
            {"experiment": experiment, "cursor": cursor, "limit": limit, **given},
        )
    )


def series_of(sparse: Mapping[str, Json] | None) -> tuple[str, Json]:
    """The SQL for the series of attempt `a` at point `p`, and its parameters; sparse: see `changes_after`."""
    series, given = "CAST('{}' AS jsonb)" if sparse is None else "a.series", Json()
    for number, (name, labels) in enumerate((sparse or {}).items()):
        series += f" - CASE WHEN p.labels @> CAST(:labels{number} AS jsonb) THEN '' ELSE CAST(:series{number} AS text) END"
        given |= {f"labels{number}": json.dumps(labels), f"series{number}": name}
    return f"coalesce({series}, '{{}}')", given


def ended(session: Session, experiment: int) -> tuple[int, int]:
    """How many of its points have ended, and the latest change of one of these: while both stay, so does every verdict."""
    row = session.execute(
        text("""
            SELECT count(*), coalesce(max(p.version), 0)
            FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
            WHERE p.experiment_id = :experiment AND m.state IN ('done', 'failed')"""),
        {"experiment": experiment},
    ).one()
    return row[0], row[1]
