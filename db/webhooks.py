"""Webhook deliveries that are due: claimed by one sender at a time, retried for a day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from db.models import WebhookDelivery

CLAIM_SECONDS = 60.0  # a delivery whose sender dies is due again after this
MIN_WAIT, MAX_WAIT = 2.0, 3600.0  # seconds between attempts, doubled each time
DAY = 24 * 3600.0


def claim_delivery(session: Session) -> Row[Any] | None:
    """Return a due delivery with its experiment, and postpone it so that nothing else claims it."""
    return session.execute(
        text("""
            UPDATE notices n SET num_tries = num_tries + 1,
                due_at = clock_timestamp() + make_interval(secs => :claim)
            FROM experiments e
            WHERE e.id = n.experiment_id AND n.id = (
                SELECT id FROM notices WHERE due_at <= clock_timestamp()
                ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING n.id, n.url, n.event, n.num_tries, e.id AS experiment, e.name, e.state,
                e.num_points, e.num_done, e.num_failed, e.num_reused"""),
        {"claim": CLAIM_SECONDS},
    ).first()


def record_success(session: Session, delivery: int) -> None:
    """Record that it was delivered."""
    session.execute(
        text("""
            UPDATE notices SET delivered_at = clock_timestamp(), due_at = NULL, error = NULL
            WHERE id = :id"""),
        {"id": delivery},
    )


def record_failure(session: Session, delivery: int, num_tries: int, error: str) -> None:
    """Schedule the next attempt, or give up after a day."""
    session.execute(
        text("""
            UPDATE notices SET error = :error,
                due_at = CASE WHEN created_at > clock_timestamp() - make_interval(secs => :day)
                    THEN clock_timestamp() + make_interval(secs => :wait) END
            WHERE id = :id"""),
        {
            "id": delivery,
            "error": error,
            "day": DAY,
            "wait": min(MIN_WAIT * 2.0 ** (num_tries - 1), MAX_WAIT),
        },
    )


def list_deliveries(session: Session, experiment: int) -> Sequence[WebhookDelivery]:
    """Return the last 20 deliveries of an experiment, newest first."""
    return session.scalars(
        select(WebhookDelivery)
        .where(WebhookDelivery.experiment_id == experiment)
        .order_by(WebhookDelivery.id.desc())
        .limit(20)
    ).all()
