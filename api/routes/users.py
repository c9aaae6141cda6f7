"""People: who the caller is, everybody's role and limits, and the tokens that they show."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from sqlalchemy import Row
from sqlalchemy.orm import Session

from api.auth.authorization import Admin, Person, Viewer
from api.auth.quotas import lab_limits, quota
from api.errors import ProblemError, invalid, not_found
from db import users
from db.session import open_session
from ucurve.schemas.users import NAME, Me, NewToken, Token, TokenSubmission, User, UserChange
from ucurve.settings import settings

router = APIRouter(prefix="/v1", tags=["people"])
UserName = Annotated[str, Path(pattern=NAME)]


@router.get("/me", summary="Whom the API takes you for")
def me(person: Viewer) -> Me:
    with open_session() as session:
        own = quota(session, person.name)
        known = users.users(session, person.name)
        shown = users.tokens(session, id=person.token) if person.token is not None else []
    user = _user(known[0]) if known else _unwritten(person, own.most_planned, own.most_queued)
    return Me(
        user=user.model_copy(update={"role": person.role}),
        access=settings().access,
        token=_token(shown[0]) if shown else None,
    )


def _unwritten(person: Person, most_planned: int, most_queued: int) -> User:
    """The account a lab of one's own runs under, before it has asked for anything."""
    return User(
        name=person.name,
        role=person.role,
        most_planned=most_planned,
        most_queued=most_queued,
        num_queued=0,
        created_at=None,
    )


@router.get("/users", summary="Everybody, with role and limits")
def list_users(person: Viewer) -> list[User]:
    with open_session() as session:
        return [_user(row) for row in users.users(session)]


@router.put(
    "/users/{name}",
    summary="Set a person's role and limits, making them where missing; block and unblock",
)
def set_user(name: UserName, change: UserChange, person: Admin) -> User:
    values = change.model_dump(include=change.model_fields_set)
    for name_of in ("role", "blocked"):
        if values.get(name_of) is None:
            values.pop(name_of, None)
    with open_session() as session:
        if "blocked" in values and not users.users(session, name):
            raise not_found(f"user {name}")
        if not users.change_user(session, name, values):
            raise ProblemError(
                409, f"{name} is the only admin who is let in: make somebody else an admin first."
            )
        session.commit()
        return _user(users.users(session, name)[0])


@router.get("/tokens", summary="Your tokens; everybody's for an admin")
def list_tokens(person: Viewer) -> list[Token]:
    with open_session() as session:
        return [
            _token(row)
            for row in users.tokens(session, None if person.has("admin") else person.name)
        ]


@router.post(
    "/tokens", status_code=201, summary="Make a token; this answer shows it, and no other ever will"
)
def create_token(submission: TokenSubmission, person: Viewer, response: Response) -> NewToken:
    owner = submission.owner or person.name
    if owner != person.name and not person.has("admin"):
        raise ProblemError(403, "Only an admin may make a token for somebody else.")
    if submission.name.strip() in ("", users.SIGN_IN):
        raise invalid("/name", "Say what it is for, such as: laptop.")
    with open_session() as session:
        if owner == person.name:
            users.add_user(session, owner, person.role)
        elif not users.users(session, owner):
            raise invalid(
                "/owner",
                f"There is no user {owner}. Make them first: ucurve users set {owner} --role submitter",
            )
        made = new_token(session, owner, submission.name.strip(), submission.days)
        session.commit()
    response.headers["Cache-Control"] = "no-store"
    return made


def new_token(session: Session, owner: str, name: str, days: float | None) -> NewToken:
    """Made, not committed, with its secret."""
    id, secret = users.create_token(session, owner, name, days)
    return NewToken(**_token(users.tokens(session, id=id)[0]).model_dump(), secret=secret)


@router.delete("/tokens/{id}", summary="Revoke a token for good")
def revoke_token(id: int, person: Viewer) -> Token:
    with open_session() as session:
        found = users.tokens(session, id=id)
        if not found or not (person.has("admin") or found[0].owner == person.name):
            raise not_found(f"token {id} of yours")
        users.revoke_token(session, id)
        session.commit()
        return _token(users.tokens(session, id=id)[0])


def _token(row: Row[Any]) -> Token:
    return Token.model_validate(dict(row._mapping))


def _user(row: Row[Any]) -> User:
    most_planned, most_queued = lab_limits()
    lab = {"most_planned": most_planned, "most_queued": most_queued}
    own = {name: getattr(row, name) for name in lab if getattr(row, name) is not None}
    return User.model_validate({**row._mapping, **lab, **own, "own_limits": list(own)})
