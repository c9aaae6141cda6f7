"""Earlier results of an experiment's points: as of a past moment, and the first ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db.bits_per_byte import evaluated
from db.changes import MOST_ROWS, series_of
from db.models import Json


def table_as_of(
    session: Session,
    experiment: int,
    moment: datetime,
    start: int = 0,
    limit: int = MOST_ROWS,
    sparse: Mapping[str, Json] | None = None,
) -> list[Row[Any]]:
    """Return rows from position `start` on, each with its last attempt that had ended by then.

    A row without such an attempt is open. A point that failed because its workers died has no
    attempt: its own row says so. sparse: see db.changes.
    """
    series, params = series_of(sparse)
    return list(
        session.execute(
            text(f"""
                SELECT m.id, m.identity, p.position, p.labels, p.reused,
                    coalesce(a.metrics, '{{}}') AS metrics,
                    coalesce(a.nonfinite, '{{}}') AS nonfinite,
                    {series} AS series, a.id AS attempt,
                    CASE WHEN a.id IS NULL AND NOT died.is THEN 'open'
                        ELSE coalesce(a.outcome, 'failed') END AS state,
                    CASE WHEN died.is THEN m.error ELSE regexp_replace(
                        rtrim(a.traceback, chr(10) || ' '), '^.*\\n', '') END AS error,
                    coalesce(a.finished_at, CASE WHEN died.is THEN m.finished_at END)
                        AS finished_at, evaluated.tokens_per_byte
                FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
                LEFT JOIN LATERAL (
                    SELECT * FROM attempts a WHERE a.measurement_id = m.id
                        AND a.outcome IN ('done', 'failed') AND a.finished_at <= :moment
                    ORDER BY a.outcome, a.id IS DISTINCT FROM m.attempt_id, a.finished_at DESC
                    LIMIT 1) a ON true
                CROSS JOIN LATERAL (
                    SELECT m.state = 'failed' AND m.attempt_id IS NULL
                        AND m.finished_at <= :moment AS is) died
                {evaluated("a.metrics")}
                WHERE p.experiment_id = :experiment AND p.position >= :start
                ORDER BY p.position LIMIT :limit"""),
            {
                "experiment": experiment,
                "moment": moment,
                "start": start,
                "limit": limit,
                **params,
            },
        )
    )


def with_original(session: Session, experiment: int) -> list[Row[Any]]:
    """Return the points in the plan's order, re-measured ones with the first result too.

    Losses in blocks of text or of validation data do not count: early results have none, and their
    means are metrics, which are compared.
    """
    blocks = "ARRAY['block_loss', 'id_block_loss', 'block_accuracy']"
    sides = ", ".join(
        f"{m}.id AS {name}_id, {m}.metrics AS {name}_metrics, "
        f"{m}.nonfinite AS {name}_nonfinite, {a}.worker AS {name}_worker, "
        f"{a}.device AS {name}_device, {a}.versions AS {name}_versions"
        for name, m, a in (("again", "m", "a"), ("first", "f", "b"))
    )
    return list(
        session.execute(
            text(f"""
                SELECT p.position, p.labels, m.state,
                    a.series - {blocks} = b.series - {blocks} AS same_series, {sides}
                FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
                LEFT JOIN attempts a ON a.id = m.attempt_id
                LEFT JOIN measurements f ON f.identity = m.identity AND f.repeat = 0
                    AND m.repeat > 0 AND f.state = 'done'
                LEFT JOIN attempts b ON b.id = f.attempt_id
                WHERE p.experiment_id = :experiment ORDER BY p.position"""),
            {"experiment": experiment},
        )
    )
