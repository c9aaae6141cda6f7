"""Trials of structures: a worker builds and runs each model once before anything is planned.

Postgres holds the queue. A claim lasts LEASE_SECONDS; the structure of a worker that died is
claimed again, and after MAX_TRIES deaths it has failed. Finishing twice is harmless: both trials
end the same way. Registration and finishing lock the row of the structure before checkpoints, so
that no checkpoint is entered between the outcome and its spreading. The caller commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from db.models import Checkpoint, Json, Structure

LEASE_SECONDS = 60
RETRY_SECONDS = 30  # after a hub that did not answer
MAX_TRIES = 3


def enter(session: Session, columns: Mapping[str, Any], waiting: str) -> Json:
    """Return the columns of a checkpoint as its structure's trial leaves them.

    waiting: what `unresolved` says until a worker has tried it.
    """
    if columns.get("structure") is None:
        return dict(columns)
    row = session.execute(
        text("""
            INSERT INTO structures (sha256) VALUES (:sha256)
            ON CONFLICT (sha256) DO UPDATE SET sha256 = excluded.sha256
            RETURNING state, reason, facts"""),
        {"sha256": columns["structure"]},
    ).one()
    unresolved = {"waiting": waiting, "failed": row.reason}.get(row.state)
    return {**columns, **_learned(row.facts), "unresolved": unresolved}


def retry(session: Session, suite: str) -> None:
    """Try the failed structures of a suite again."""
    session.execute(
        text("""
            UPDATE structures SET state = 'waiting', tries = 0, next_try = NULL
            WHERE state = 'failed' AND sha256 IN
                (SELECT structure FROM checkpoints WHERE suite = :suite)"""),
        {"suite": suite},
    )


def is_waiting(session: Session) -> bool:
    """Return whether any structure waits for a worker."""
    return bool(session.scalar(select(select(Structure).where(_WAITING).exists())))


def claim(session: Session, worker: str) -> Checkpoint | None:
    """Return the smallest checkpoint of a structure to try, None when there is none."""
    row = session.execute(
        text("""
            UPDATE structures SET tries = tries + 1, worker = :worker,
                next_try = clock_timestamp() + make_interval(secs => :lease)
            WHERE sha256 = (
                SELECT sha256 FROM structures
                WHERE state = 'waiting' AND coalesce(next_try < clock_timestamp(), true)
                ORDER BY next_try NULLS FIRST LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING sha256, tries"""),
        {"worker": worker, "lease": LEASE_SECONDS},
    ).one_or_none()
    if row is None:
        return None
    if row.tries > MAX_TRIES:
        finish(
            session,
            row.sha256,
            f"cannot be used: {MAX_TRIES} workers died while trying it, perhaps out of memory; "
            "register it again for another try",
        )
        return claim(session, worker)
    checkpoint = session.scalar(
        select(Checkpoint)
        .where(Checkpoint.structure == row.sha256)
        .order_by(Checkpoint.size_bytes, Checkpoint.id)
        .limit(1)
    )
    if checkpoint is None:  # the suite was deleted
        session.execute(delete(Structure).where(Structure.sha256 == row.sha256))
        return claim(session, worker)
    return checkpoint


def finish(session: Session, sha256: str, reason: str | None, facts: Json | None = None) -> None:
    """Record the outcome of a trial for all checkpoints with this structure.

    reason: why they cannot be used; None where they can.
    """
    row = session.get(Structure, sha256, with_for_update=True)
    if row is None:
        return
    row.state, row.reason = ("failed", reason) if reason else ("passed", None)
    row.facts, row.next_try = facts, None
    session.flush()
    changes = {"architecture": None, "initializer_std": None, **_learned(facts)}
    session.execute(
        text("""
            UPDATE checkpoints SET unresolved = :reason, architecture = :architecture,
                initializer_std = :initializer_std
            WHERE structure = :sha256"""),
        {"sha256": sha256, "reason": reason, **changes},
    )


def postpone(session: Session, sha256: str, message: str) -> None:
    """Try again in RETRY_SECONDS; `message` is what the checkpoints wait for."""
    session.execute(
        text("""
            UPDATE structures SET tries = tries - 1,
                next_try = clock_timestamp() + make_interval(secs => :wait)
            WHERE sha256 = :sha256 AND state = 'waiting'"""),
        {"sha256": sha256, "wait": RETRY_SECONDS},
    )
    session.execute(
        text("UPDATE checkpoints SET unresolved = :message WHERE structure = :sha256"),
        {"sha256": sha256, "message": message},
    )


def expire(session: Session, worker: str) -> None:
    """Free what a dead worker was trying."""
    session.execute(
        text("UPDATE structures SET next_try = NULL WHERE worker = :worker AND state = 'waiting'"),
        {"worker": worker},
    )


def _learned(facts: Json | None) -> Json:
    return {name: facts[name] for name in ("architecture", "initializer_std")} if facts else {}


_WAITING = Structure.state == "waiting"
