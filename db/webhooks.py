"""Webhook calls that are due: taken by one sender at a time, tried again until delivered or a day old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from db.models import WebhookDelivery

TAKEN_SECONDS = 60.0  # a sender that dies leaves the notice to the next after this
FIRST_WAIT, LONGEST_WAIT = 2.0, 3600.0  # seconds between tries; doubled from one to the other
DAY = 24 * 3600.0


def claim_delivery(session: Session) -> Row[Any] | None:
    """One notice that is due, with what it says; its next try is put off, so that nobody else takes it meanwhile."""
    return session.execute(
        text("""
            UPDATE notices n SET num_tries = num_tries + 1, due_at = clock_timestamp() + make_interval(secs => :taken)
            FROM experiments e
            WHERE e.id = n.experiment_id AND n.id = (
                SELECT id FROM notices WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING n.id, n.url, n.event, n.num_tries, e.id AS experiment, e.name, e.state, e.num_points, e.num_done,
                e.num_failed, e.num_reused"""),
        {"taken": TAKEN_SECONDS},
    ).first()


def record_success(session: Session, notice: int) -> None:
    session.execute(
        text(
            "UPDATE notices SET delivered_at = clock_timestamp(), due_at = NULL, error = NULL WHERE id = :id"
        ),
        {"id": notice},
    )


def record_failure(session: Session, notice: int, num_tries: int, error: str) -> None:
    """Try again later, or give up after a day."""
    session.execute(
        text("""
            UPDATE notices SET error = :error,
                due_at = CASE WHEN created_at > clock_timestamp() - make_interval(secs => :day)
                    THEN clock_timestamp() + make_interval(secs => :wait) END
            WHERE id = :id"""),
        {
            "id": notice,
            "error": error,
            "day": DAY,
            "wait": min(FIRST_WAIT * 2.0 ** (num_tries - 1), LONGEST_WAIT),
        },
    )


def list_deliveries(session: Session, experiment: int) -> Sequence[WebhookDelivery]:
    """The newest first."""
    return session.scalars(
        select(WebhookDelivery)
        .where(WebhookDelivery.experiment_id == experiment)
        .order_by(WebhookDelivery.id.desc())
        .limit(20)
    ).all()
