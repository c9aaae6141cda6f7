"""Users: the current user, roles and limits of all users, and API keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from sqlalchemy import Row

from api.auth.authorization import Admin, Principal, Viewer
from api.auth.quotas import Quota, lab_limits, quota
from api.auth.tokens import issue_token, to_token
from api.errors import ApiError, invalid, not_found
from db import users
from db.session import open_session
from ucurve.schemas.users import (
    NAME,
    CurrentUser,
    NewToken,
    Token,
    TokenSubmission,
    User,
    UserChange,
)
from ucurve.settings import settings

router = APIRouter(prefix="/v1", tags=["people"])
UserName = Annotated[str, Path(pattern=NAME, description="Name of the user.")]


@router.get("/me", summary="Get the current user")
def me(user: Viewer) -> CurrentUser:
    """The user of this request with role and limits, how the lab admits users, and the access token
    in use.
    """
    with open_session() as session:
        limits = quota(session, user.name)
        rows = users.users(session, user.name)
        tokens = users.tokens(session, id=user.token) if user.token is not None else []
    record = _to_user(rows[0]) if rows else _unsaved_user(user, limits)
    return CurrentUser(
        user=record.model_copy(update={"role": user.role}),
        access=settings().access,
        token=to_token(tokens[0]) if tokens else None,
    )


def _unsaved_user(user: Principal, limits: Quota) -> User:
    """Return the local account before it has submitted anything."""
    return User(
        name=user.name,
        role=user.role,
        most_planned=limits.max_points_per_experiment,
        most_queued=limits.max_queued_points,
        num_queued=0,
        created_at=None,
    )


@router.get("/users", summary="List users with roles and limits")
def list_users(user: Viewer) -> list[User]:
    """All users by name, with the number of points that each has queued."""
    with open_session() as session:
        return [_to_user(row) for row in users.users(session)]


@router.put("/users/{name}", summary="Create or change a user; block and unblock")
def set_user(name: UserName, change: UserChange, user: Admin) -> User:
    """Set role and limits; the user is created where missing. 409 where it would leave the lab
    without an admin.
    """
    values = change.model_dump(include=change.model_fields_set)
    for field in ("role", "blocked"):
        if values.get(field) is None:
            values.pop(field, None)
    with open_session() as session:
        if "blocked" in values and not users.users(session, name):
            raise not_found(f"user {name}")
        if not users.change_user(session, name, values):
            raise ApiError(
                409, f"{name} is the only admin who is not blocked: make another user admin first."
            )
        session.commit()
        return _to_user(users.users(session, name)[0])


@router.get("/tokens", summary="List access tokens")
def list_tokens(user: Viewer) -> list[Token]:
    """Your own tokens, newest first; those of all users for an admin. Secrets are not shown."""
    with open_session() as session:
        rows = users.tokens(session, None if user.has("admin") else user.name)
        return [to_token(row) for row in rows]


@router.post("/tokens", status_code=201, summary="Create an access token")
def create_token(submission: TokenSubmission, user: Viewer, response: Response) -> NewToken:
    """The secret is shown only once, in this response."""
    owner = submission.owner or user.name
    if owner != user.name and not user.has("admin"):
        raise ApiError(403, "Only an admin can create a token for another user.")
    if submission.name.strip() in ("", users.SIGN_IN):
        raise invalid("/name", "Give the token a name that says where it is used, such as laptop.")
    with open_session() as session:
        if owner == user.name:
            users.add_user(session, owner, user.role)
        elif not users.users(session, owner):
            raise invalid(
                "/owner",
                f"There is no user {owner}. Create it first: "
                f"ucurve users set {owner} --role submitter",
            )
        token = issue_token(session, owner, submission.name.strip(), submission.days)
        session.commit()
    response.headers["Cache-Control"] = "no-store"
    return token


@router.delete("/tokens/{id}", summary="Revoke an access token")
def revoke_token(id: Annotated[int, Path(description="Id of the token.")], user: Viewer) -> Token:
    """Permanent: requests with this token are answered 401."""
    with open_session() as session:
        rows = users.tokens(session, id=id)
        if not rows or not (user.has("admin") or rows[0].owner == user.name):
            raise not_found(f"token {id} of yours")
        users.revoke_token(session, id)
        session.commit()
        return to_token(users.tokens(session, id=id)[0])


def _to_user(row: Row[Any]) -> User:
    max_planned, max_queued = lab_limits()
    lab = {"most_planned": max_planned, "most_queued": max_queued}
    own = {name: getattr(row, name) for name in lab if getattr(row, name) is not None}
    return User.model_validate({**row._mapping, **lab, **own, "own_limits": list(own)})
