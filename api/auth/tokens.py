"""Issue access tokens and present them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from db import users
from ucurve.schemas.users import NewToken, Token


def issue_token(session: Session, owner: str, name: str, days: float | None) -> NewToken:
    """Create a token and return it with its secret; the caller commits."""
    id, secret = users.create_token(session, owner, name, days)
    return NewToken(**to_token(users.tokens(session, id=id)[0]).model_dump(), secret=secret)


def to_token(row: Row[Any]) -> Token:
    """Return a row of db.users.tokens as an answer."""
    return Token.model_validate(dict(row._mapping))
