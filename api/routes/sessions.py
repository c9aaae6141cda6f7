"""Sign in with an identity provider, and sign out.

UCURVE_OIDC_ROLE is the role of users who sign in for the first time; without it only users whom an
admin created can sign in.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.auth.authentication import blocked_message
from api.auth.authorization import Public, Viewer
from api.auth.oidc import verified_user
from api.auth.tokens import issue_token
from api.errors import ApiError
from db import users
from db.session import open_session
from ucurve.schemas.users import ROLES, NewToken, SignIn
from ucurve.settings import settings

router = APIRouter(prefix="/v1", tags=["people"])


@router.post(
    "/sessions",
    status_code=201,
    dependencies=[Public],
    summary="Sign in with an ID token of the identity provider",
)
def sign_in(submission: SignIn, response: Response) -> NewToken:
    """Exchange a valid ID token for an access token of this lab, which lasts UCURVE_OIDC_HOURS."""
    name = verified_user(submission.id_token, submission.nonce)
    role = settings().oidc_role
    with open_session() as session:
        rows = users.users(session, name)
        if rows and rows[0].blocked_at is not None:
            raise ApiError(403, blocked_message(name, rows[0].blocked_at))
        if not rows:
            if role not in ROLES:
                raise ApiError(
                    403,
                    f"There is no user {name} in this lab: ask an admin (ucurve users set {name} "
                    "--role submitter).",
                )
            users.add_user(session, name, role)
        users.delete_expired_sign_ins(session, name)
        token = issue_token(session, name, users.SIGN_IN, settings().oidc_hours / 24)
        session.commit()
    response.headers["Cache-Control"] = "no-store"
    return token


@router.delete("/sessions/current", status_code=204, summary="Sign out")
def sign_out(user: Viewer) -> None:
    """Revoke the access token of this request if signing in created it."""
    with open_session() as session:
        for token in users.tokens(session, id=user.token) if user.token is not None else ():
            if token.name == users.SIGN_IN:
                users.revoke_token(session, token.id)
        session.commit()
