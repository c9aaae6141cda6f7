"""Authenticate requests in middleware: by the access token, or as the local user.

UCURVE_ACCESS=open: requests of this machine without a token are those of the account the service
runs under, as admin; a token is honoured. UCURVE_ACCESS=tokens: a request without a valid token is
answered 401, except for the paths that say nothing about the lab.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import tempfile
from datetime import datetime

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth.authorization import Principal
from api.auth.rate_limits import WrongTokens
from api.errors import ProblemResponse, database_problem
from db import audit, users
from db.session import open_session
from ucurve.disk_space import is_disk_full
from ucurve.logs import log_context
from ucurve.schemas.problems import problem_of
from ucurve.schemas.users import SUPERVISOR
from ucurve.settings import settings

PUBLIC_PATHS = (
    "/",
    "/docs",
    "/redoc",
    "/v1/openapi.json",
    "/health/live",
    "/health/ready",
    "/v1/sessions",
)
STATIC = "/docs/"  # the files of the page /docs


log = logging.getLogger(__name__)


class UnauthenticatedError(Exception):
    """A request without a valid token; the message says why and what to do."""


class UnknownTokenError(UnauthenticatedError):
    """A token that was never valid, or whose sign-in has ended."""


def local_user() -> Principal:
    """Return the user who runs the lab: UCURVE_OWNER, or the account the service runs under."""
    return Principal(settings().admin, "admin")


class AuthenticationMiddleware:
    """Put the user into the request, or answer 401 before the body is read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._wrong_tokens = WrongTokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path in PUBLIC_PATHS or path.startswith(STATIC):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        authorization = headers.get("authorization")
        try:
            user = await run_in_threadpool(authenticate, authorization, scope.get("client"))
            if user.role == "admin" and headers.get("user-agent") != SUPERVISOR:
                delete_admin_token(authorization)
            scope["ucurve.user"] = user
        except UnauthenticatedError as error:
            problem = problem_of(401, str(error), instance=path)
            response = ProblemResponse(problem, {"WWW-Authenticate": 'Bearer realm="ucurve"'})
            if isinstance(error, UnknownTokenError):
                response = await self._wrong_tokens.refusal(scope) or response
            await response(scope, receive, send)
        except (OperationalError, InternalError, PoolTimeoutError) as error:
            problem = problem_of(*database_problem(error), instance=path)
            await ProblemResponse(problem)(scope, receive, send)
        else:
            with log_context(user=scope["ucurve.user"].name):
                await self.app(scope, receive, send)


def authenticate(authorization: str | None, client: tuple[str, int] | None) -> Principal:
    """Return the user of an Authorization header sent from the address `client`.

    Raises UnauthenticatedError.
    """
    if not authorization:
        if settings().access == "open" and is_local(client):
            return local_user()
        raise UnauthenticatedError(
            "This lab requires an access token: pass it with --token-file or UCURVE_TOKEN "
            "(Authorization: Bearer TOKEN)."
        )
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise UnauthenticatedError(
            "The Authorization header is not valid: it has to be `Bearer TOKEN`."
        )
    with open_session() as session:
        token = users.token_of(session, secret.strip())
        if token is None:
            raise UnknownTokenError(
                "This access token is unknown: check it, or ask an admin for a new one."
            )
        if token.state == "revoked":
            raise UnauthenticatedError(
                f"The token {token.name!r} was revoked on {token.revoked_at:%Y-%m-%d}: "
                "use another one."
            )
        if token.state == "expired":
            raise UnauthenticatedError(
                f"The token {token.name!r} expired on {token.expires_at:%Y-%m-%d}: "
                "create a new one."
            )
        if token.blocked_at is not None:
            raise UnauthenticatedError(blocked_message(token.owner, token.blocked_at))
        if token.needs_touch:
            _touch(session, token.id)
    return Principal(token.owner, token.role, token.id)


def _touch(session: Session, token: int) -> None:
    """Update the token's time of last use; reading must go on while the database's disk is full."""
    try:
        users.touch_token(session, token)
        session.commit()
    except OperationalError as error:
        if not is_disk_full(error):
            raise
        session.rollback()


def blocked_message(name: str, since: datetime) -> str:
    """Return why a blocked user is not admitted."""
    return f"The user {name} was blocked on {since:%Y-%m-%d}: ask an admin to unblock the account."


def is_local(client: tuple[str, int] | None) -> bool:
    """Return whether a request came over loopback (or over a socket without an address)."""
    try:
        return client is None or ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def ensure_admin_token() -> None:
    """Where tokens are required and no admin has a valid one, create one and write it to a file.

    The file, UCURVE_ADMIN_TOKEN_FILE or `admin-token` in UCURVE_ARTEFACTS, is readable only by this
    account. The log names the file, never the token.
    """
    if settings().access == "open":
        return
    file = settings().admin_token
    with open_session() as session:
        secret = users.first_admin(session, local_user().name)
        if secret is None:
            return
        audit.record(session, local_user().name, "create", "first admin token", "lab")
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=".admin-token", delete=False
        ) as new:  # created with mode 0600
            new.write(f"{secret}\n")
        os.replace(new.name, file)
        session.commit()
    logging.getLogger("uvicorn.error").warning(
        "The token of the first admin, %s, is in %s: store it; the file ends with its first use",
        local_user().name,
        file,
    )


def delete_admin_token(authorization: str | None) -> None:
    """Delete the file of the first admin's key once a person has used the key in it."""
    file = settings().admin_token
    try:
        if (
            authorization
            and file.exists()
            and file.read_text().strip() == authorization[7:].strip()
        ):
            file.unlink(missing_ok=True)
    except OSError as error:
        log.warning("the file of the first admin's key cannot be deleted: %s", error)


def install(app: FastAPI) -> None:
    """Add authentication to the app; an invalid setting stops the start."""
    settings()
    app.add_middleware(AuthenticationMiddleware)
