"""What the lab does now: a few queries, each over rows that an index finds and a limit bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db import submissions
from db.eta import estimates
from db.models import Experiment

MAX_RUNNING = 500  # points; more workers than that are not listed one by one
MAX_FAILURES = 2000  # latest failed points that are grouped
FAILURE_DAYS = 7
MAX_EXPERIMENTS = 5000  # active ones whose remaining time is estimated


def running_points(session: Session) -> Sequence[Row[Any]]:
    """Return the running attempt of each worker that holds a lease, with its experiments."""
    return session.execute(
        text("""
            SELECT m.lease_owner AS worker, m.id AS measurement, m.kind, m.live, a.started_at,
                ARRAY(
                    SELECT jsonb_build_object('id', e.id, 'name', e.name, 'owner', e.owner)
                    FROM experiment_points p JOIN experiments e ON e.id = p.experiment_id
                    WHERE p.measurement_id = m.id AND e.state = 'active'
                    ORDER BY e.id LIMIT 5) AS experiments
            FROM measurements m
            JOIN attempts a ON a.measurement_id = m.id AND a.outcome = 'running'
            WHERE m.lease_token IS NOT NULL AND m.lease_expires > clock_timestamp()
            LIMIT :max"""),
        {"max": MAX_RUNNING},
    ).all()


def queues(session: Session) -> list[dict[str, Any]]:
    """Return the unfinished work of each user with active experiments, the longest first."""
    active = (
        session.query(Experiment)
        .filter(Experiment.state == "active")
        .order_by(Experiment.id)
        .limit(MAX_EXPERIMENTS)
        .all()
    )
    progress = estimates(session, active)
    users: dict[str, dict[str, Any]] = {}
    for experiment in active:
        estimate = progress[experiment.id]
        queue = users.setdefault(
            experiment.owner,
            {
                "owner": experiment.owner,
                "experiments": 0,
                "queued": 0,
                "running": 0,
                "eta_seconds": 0.0,
                "waits_for": None,
            },
        )
        left = experiment.num_points - experiment.num_done - experiment.num_failed
        queue["experiments"] += 1
        queue["running"] += estimate.num_running
        queue["queued"] += max(0, left - estimate.num_running)
        queue["waits_for"] = queue["waits_for"] or estimate.waits_for
        if estimate.eta_seconds is None or queue["eta_seconds"] is None:
            queue["eta_seconds"] = None
        else:
            queue["eta_seconds"] = max(queue["eta_seconds"], estimate.eta_seconds)
    for queue in users.values():
        if queue["running"]:
            queue["waits_for"] = None
    return sorted(users.values(), key=lambda queue: (-queue["queued"], queue["owner"]))


def failed_points(session: Session) -> Sequence[Row[Any]]:
    """Return the latest failed points, once per experiment that needs them, the latest first.

    Archiving an experiment takes its failures off the list.
    """
    return session.execute(
        text("""
            WITH latest AS MATERIALIZED (
                SELECT id, error, finished_at FROM measurements
                WHERE state = 'failed' AND finished_at > now() - make_interval(days => :days)
                ORDER BY finished_at DESC LIMIT :max)
            SELECT latest.id, latest.error, latest.finished_at,
                e.id AS experiment, e.name, e.owner
            FROM latest JOIN experiment_points p ON p.measurement_id = latest.id
            JOIN experiments e ON e.id = p.experiment_id
            WHERE e.state <> 'cancelled' AND NOT e.archived
            ORDER BY latest.finished_at DESC, e.id DESC LIMIT 5 * :max"""),
        {"days": FAILURE_DAYS, "max": MAX_FAILURES},
    ).all()


def retry_points(
    session: Session, measurements: list[int], experiments: dict[str, list[int]]
) -> list[int]:
    """Queue these failed points again; return those that had failed indeed.

    experiments: those of each owner that get points back.
    """
    failed = list(
        session.scalars(
            text("""
                SELECT id FROM measurements WHERE id = ANY(:ids) AND state = 'failed'
                ORDER BY identity, repeat FOR NO KEY UPDATE"""),
            {"ids": measurements},
        )
    )
    submissions.reopen(session, failed)
    for owner, ids in sorted(experiments.items()):
        submissions.join_queue(session, owner, ids)
    return failed


def totals(session: Session) -> dict[str, Any]:
    """Return counts that no other query gives: experiments by state, lost attempts, webhooks."""
    states = session.execute(text("SELECT state, count(*) AS num FROM experiments GROUP BY state"))
    return {
        "experiments": {row.state: row.num for row in states},
        "lease_expiries": session.scalar(
            text("SELECT count(*) FROM attempts WHERE outcome = 'lost'")
        ),
        "pending_webhooks": session.scalar(
            text("SELECT count(*) FROM notices WHERE due_at IS NOT NULL")
        ),
    }
