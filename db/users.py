"""Users and their access tokens, and how many points each user has queued.

A token is `ucurve_` and 32 random bytes. Only its SHA-256 is stored, which needs no salt because
tokens cannot be guessed, and an index finds it without comparing secrets byte by byte. Each
function is part of a transaction, which the caller commits.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

PREFIX = "ucurve_"
SIGN_IN = "sign-in"  # name of the tokens that signing in with a provider creates
TOUCH_SECONDS = 60.0  # the time of last use is updated at most this often
STATE = """
    CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked'
        WHEN t.expires_at <= clock_timestamp() THEN 'expired' ELSE 'valid' END"""
TOKEN = f"""
    t.id, t.owner, t.name, t.created_at, t.expires_at, t.used_at, t.revoked_at, {STATE} AS state"""


def token_of(session: Session, secret: str) -> Row[Any] | None:
    """Return the token with its owner's role, whatever its state: one lookup in a unique index."""
    return session.execute(
        text(f"""
            SELECT {TOKEN}, u.role, u.blocked_at,
                coalesce(t.used_at < clock_timestamp() - make_interval(secs => :seconds), true)
                    AS needs_touch
            FROM tokens t JOIN users u ON u.name = t.owner WHERE t.sha256 = :sha256"""),
        {"sha256": _hash(secret), "seconds": TOUCH_SECONDS},
    ).first()


def touch_token(session: Session, token: int) -> None:
    """Update the time of last use."""
    session.execute(
        text("UPDATE tokens SET used_at = clock_timestamp() WHERE id = :id"), {"id": token}
    )


def create_token(session: Session, owner: str, name: str, days: float | None) -> tuple[int, str]:
    """Create a token of an existing user; return its id and its secret, which is not stored."""
    secret = PREFIX + secrets.token_urlsafe(32)
    id = session.scalar(
        text("""
            INSERT INTO tokens (owner, name, sha256, expires_at)
            VALUES (:owner, :name, :sha256, clock_timestamp() + make_interval(secs => :seconds))
            RETURNING id"""),
        {
            "owner": owner,
            "name": name,
            "sha256": _hash(secret),
            "seconds": None if days is None else days * 86400,
        },
    )
    assert id is not None, "INSERT ... RETURNING returns a row"
    return id, secret


def delete_expired_sign_ins(session: Session, owner: str) -> None:
    """Delete sign-in tokens that expired a month ago."""
    session.execute(
        text("""
            DELETE FROM tokens WHERE owner = :owner AND name = :name
                AND expires_at < clock_timestamp() - interval '30 days'"""),
        {"owner": owner, "name": SIGN_IN},
    )


def tokens(session: Session, owner: str | None = None, id: int | None = None) -> Sequence[Row[Any]]:
    """Return tokens, newest first: of one user, of all, or the one with this id."""
    return session.execute(
        text(f"""
            SELECT {TOKEN} FROM tokens t
            WHERE (CAST(:owner AS text) IS NULL OR t.owner = :owner)
                AND (CAST(:id AS bigint) IS NULL OR t.id = :id)
            ORDER BY t.id DESC"""),
        {"owner": owner, "id": id},
    ).all()


def revoke_token(session: Session, id: int) -> None:
    """Revoke a token for good; the time of the first revocation is kept."""
    session.execute(
        text("""
            UPDATE tokens SET revoked_at = coalesce(revoked_at, clock_timestamp())
            WHERE id = :id"""),
        {"id": id},
    )


def first_admin(session: Session, name: str) -> str | None:
    """Create a token for the admin `name`; None where an admin has a valid one.

    Concurrent calls are serialised by a lock.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('ucurve first admin'))"))
    has_admin = session.scalar(
        text("""
            SELECT true FROM tokens t JOIN users u ON u.name = t.owner
            WHERE u.role = 'admin' AND u.blocked_at IS NULL AND t.revoked_at IS NULL
                AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp()) LIMIT 1""")
    )
    if has_admin:
        return None
    change_user(session, name, {"role": "admin", "blocked": False})
    return create_token(session, name, "first admin token", None)[1]


def add_user(session: Session, name: str, role: str) -> None:
    """Create the user where missing; an existing user keeps their role."""
    session.execute(
        text("INSERT INTO users (name, role) VALUES (:name, :role) ON CONFLICT DO NOTHING"),
        {"name": name, "role": role},
    )


def change_user(session: Session, name: str, values: dict[str, Any]) -> bool:
    """Set role, most_queued, most_planned or blocked; the user is created where missing.

    False, and nothing changed, where no unblocked admin would be left. Blocking keeps tokens and
    experiments: they are the user's again when unblocked.
    """
    if values.get("role", "admin") != "admin" or values.get("blocked"):
        admins = text("""
            SELECT name FROM users WHERE role = 'admin' AND blocked_at IS NULL
            ORDER BY name FOR NO KEY UPDATE""")
        if list(session.scalars(admins)) == [name]:
            return False
    add_user(session, name, "submitter")
    if "blocked" in values:
        since = "coalesce(blocked_at, clock_timestamp())" if values["blocked"] else "NULL"
        session.execute(
            text(f"UPDATE users SET blocked_at = {since} WHERE name = :name"), {"name": name}
        )
    for column in ("role", "most_queued", "most_planned"):
        if column in values:
            session.execute(
                text(f"UPDATE users SET {column} = :value WHERE name = :name"),
                {"name": name, "value": values[column]},
            )
    return True


def users(session: Session, name: str | None = None) -> Sequence[Row[Any]]:
    """Return all users, or one, with the queued points of their unfinished experiments."""
    return session.execute(
        text("""
            SELECT u.name, u.role, u.most_queued, u.most_planned, u.blocked_at, u.created_at, (
                SELECT coalesce(sum(e.num_points - e.num_done - e.num_failed), 0)
                FROM experiments e WHERE e.owner = u.name AND e.state IN ('active', 'paused'))
                AS num_queued
            FROM users u WHERE CAST(:name AS text) IS NULL OR u.name = :name ORDER BY u.name"""),
        {"name": name},
    ).all()


def lock_user(session: Session, name: str) -> None:
    """Serialise the submissions of a user. The last of all locks to be taken (db.models)."""
    session.execute(text("SELECT FROM users WHERE name = :name FOR NO KEY UPDATE"), {"name": name})


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
