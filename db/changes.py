"""Changes of an experiment: rows after a cursor, and the version of its finished points."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db.bits_per_byte import evaluated
from db.models import Json

MOST_ROWS = 1_000_000


def changes_after(
    session: Session,
    experiment: int,
    cursor: int,
    limit: int = MOST_ROWS,
    sparse: Mapping[str, Json] | None = None,
) -> list[Row[Any]]:
    """Return rows changed after `cursor`, oldest change first, with the result shown.

    sparse: {series: labels of the rows that include it}; other series are included with all rows.
    None: no series at all.
    """
    series, params = series_of(sparse)
    return list(
        session.execute(
            text(f"""
                SELECT m.id, m.identity, p.position, p.labels, p.reused, p.version,
                    m.metrics, m.nonfinite, m.error,
                    CASE WHEN m.state = 'running' AND m.lease_expires < clock_timestamp()
                        THEN 'open' ELSE m.state END AS state,
                    m.live, m.attempt_id AS attempt, m.finished_at, {series} AS series,
                    evaluated.tokens_per_byte
                FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
                LEFT JOIN attempts a ON a.id = m.attempt_id {evaluated()}
                WHERE p.experiment_id = :experiment AND p.version > :cursor
                ORDER BY p.version, p.position LIMIT :limit"""),
            {"experiment": experiment, "cursor": cursor, "limit": limit, **params},
        )
    )


def series_of(sparse: Mapping[str, Json] | None) -> tuple[str, Json]:
    """Return SQL for the series of attempt `a` at point `p`, and its parameters (changes_after)."""
    series, params = "CAST('{}' AS jsonb)" if sparse is None else "a.series", Json()
    for number, (name, labels) in enumerate((sparse or {}).items()):
        series += f""" - CASE WHEN p.labels @> CAST(:labels{number} AS jsonb)
            THEN '' ELSE CAST(:series{number} AS text) END"""
        params |= {f"labels{number}": json.dumps(labels), f"series{number}": name}
    return f"coalesce({series}, '{{}}')", params


def ended(session: Session, experiment: int) -> tuple[int, int]:
    """Return the number of finished points and their latest version.

    While both stay the same, so do the verdicts.
    """
    row = session.execute(
        text("""
            SELECT count(*), coalesce(max(p.version), 0)
            FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
            WHERE p.experiment_id = :experiment AND m.state IN ('done', 'failed')"""),
        {"experiment": experiment},
    ).one()
    return row[0], row[1]
