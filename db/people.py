"""People and their tokens: made, shown once, found by their hash, revoked.

A token is `ucurve_` and 32 random bytes; only its SHA-256 is kept, which needs no salt since nobody can guess the token, and
which an index finds without comparing secrets byte by byte. Each function is one transaction's work; its caller commits.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

PREFIX = "ucurve_"
NOTED_SECONDS = 60.0  # the time of last use is written at most this often


def token_of(session: Session, secret: str) -> Row[Any] | None:
    """The token with its owner's role, valid or not: one look into a unique index."""
    return session.execute(
        text("""
            SELECT t.id, t.owner, t.name, u.role, t.revoked_at, t.expires_at,
                coalesce(t.expires_at <= clock_timestamp(), false) AS expired,
                coalesce(t.used_at < clock_timestamp() - make_interval(secs => :seconds), true) AS unnoted
            FROM tokens t JOIN users u ON u.name = t.owner WHERE t.sha256 = :sha256"""),
        {"sha256": _hash(secret), "seconds": NOTED_SECONDS},
    ).first()


def note_use(session: Session, token: int) -> None:
    session.execute(text("UPDATE tokens SET used_at = clock_timestamp() WHERE id = :id"), {"id": token})


def create_token(session: Session, owner: str, name: str, days: float | None) -> tuple[int, str]:
    """A new token of a user who exists: its number, and the secret, which is never to be had again."""
    secret = PREFIX + secrets.token_urlsafe(32)
    id = session.scalar(
        text("""
            INSERT INTO tokens (owner, name, sha256, expires_at)
            VALUES (:owner, :name, :sha256, clock_timestamp() + make_interval(secs => :seconds)) RETURNING id"""),
        {"owner": owner, "name": name, "sha256": _hash(secret), "seconds": None if days is None else days * 86400},
    )
    assert id is not None, "an INSERT with RETURNING answers a row"
    return id, secret


def add_user(session: Session, name: str, role: str) -> None:
    """Make the user where missing; who exists keeps the role they have."""
    session.execute(
        text("INSERT INTO users (name, role) VALUES (:name, :role) ON CONFLICT DO NOTHING"), {"name": name, "role": role}
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
