"""Stored answers of requests with an Idempotency-Key."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

KEEP = "interval '24 hours'"


def stored_answer(session: Session, owner: str, key_sha256: str) -> Row[Any] | None:
    """Return request_sha256 and answer of a user's key, None where it is new or expired."""
    return session.execute(
        text(f"""
            SELECT request_sha256, answer FROM idempotent_requests
            WHERE owner = :owner AND key_sha256 = :key
                AND created_at > clock_timestamp() - {KEEP}"""),
        {"owner": owner, "key": key_sha256},
    ).first()


def store_answer(
    session: Session, owner: str, key_sha256: str, request_sha256: str, answer: bytes
) -> None:
    """Store an answer in the place of an expired one; the caller commits."""
    session.execute(
        text("""
            INSERT INTO idempotent_requests (owner, key_sha256, request_sha256, answer)
            VALUES (:owner, :key, :request, :answer)
            ON CONFLICT (owner, key_sha256) DO UPDATE SET request_sha256 = excluded.request_sha256,
                answer = excluded.answer, created_at = excluded.created_at"""),
        {"owner": owner, "key": key_sha256, "request": request_sha256, "answer": answer},
    )


def delete_expired(session: Session) -> None:
    """Delete answers that are older than a day."""
    session.execute(
        text(f"DELETE FROM idempotent_requests WHERE created_at < clock_timestamp() - {KEEP}")
    )
