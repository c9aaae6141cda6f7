"""Who calls, found out before any route: by the token in the request, or on a lab of one's own whoever started it.

UCURVE_ACCESS=open: without a token everybody on this machine is the account the service runs under, as admin; a token is
honoured. UCURVE_ACCESS=tokens: a request without a valid token is answered 401, but for what says nothing of the lab.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import tempfile
from datetime import datetime

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth.authorization import Person
from db import users
from db.session import open_session
from ucurve.schemas.experiments import Problem
from ucurve.settings import settings

OPEN_PATHS = (
    "/",
    "/docs",
    "/redoc",
    "/v1/openapi.json",
    "/health/live",
    "/health/ready",
    "/v1/sessions",
)
STATIC = "/docs/"  # the files of the page that describes the service


class UnknownError(Exception):
    """Nobody we know; the message says why and what to do."""


def local() -> Person:
    """Whoever runs the lab: UCURVE_OWNER, or the account the service runs under."""
    return Person(settings().admin, "admin")


class Identified:
    """Puts the person into the request, or answers 401 before the body is read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["path"] in OPEN_PATHS
            or scope["path"].startswith(STATIC)
        ):
            await self.app(scope, receive, send)
            return
        try:
            authorization = Headers(scope=scope).get("authorization")
            scope["ucurve.person"] = await run_in_threadpool(
                person_of, authorization, scope.get("client")
            )
        except UnknownError as error:
            problem = Problem(title=str(error), status=401)
            await JSONResponse(
                problem.model_dump(), 401, {"WWW-Authenticate": 'Bearer realm="ucurve"'}
            )(scope, receive, send)
        except (OperationalError, PoolTimeoutError):
            problem = Problem(
                title="The database does not answer; nothing was changed. Try again soon.",
                status=503,
            )
            await JSONResponse(problem.model_dump(), 503)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def person_of(authorization: str | None, client: tuple[str, int] | None) -> Person:
    """Whom an Authorization header stands for, sent from the address `client`. Raises UnknownError."""
    if not authorization:
        if settings().access == "open" and on_this_machine(client):
            return local()
        raise UnknownError(
            "This lab asks for an access token: give one with --token or UCURVE_TOKEN (Authorization: Bearer TOKEN)."
        )
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise UnknownError(
            "The Authorization header is not understood: it has to be `Bearer TOKEN`."
        )
    with open_session() as session:
        token = users.token_of(session, secret.strip())
        if token is None:
            raise UnknownError(
                "This access token is not known here: check it, or ask an admin for a new one."
            )
        if token.state == "revoked":
            raise UnknownError(
                f"The token {token.name!r} was revoked on {token.revoked_at:%Y-%m-%d}: use another one."
            )
        if token.state == "expired":
            raise UnknownError(
                f"The token {token.name!r} expired on {token.expires_at:%Y-%m-%d}: ask for a new one."
            )
        if token.blocked_at is not None:
            raise UnknownError(blocked(token.owner, token.blocked_at))
        if token.unnoted:
            users.note_use(session, token.id)
            session.commit()
    return Person(token.owner, token.role, token.id)


def blocked(name: str, since: datetime) -> str:
    return f"{name} was blocked by an admin on {since:%Y-%m-%d}: nobody is let in as {name} until an admin takes that back."


def on_this_machine(client: tuple[str, int] | None) -> bool:
    """Whether a request came over loopback (or over a socket that has no address)."""
    try:
        return client is None or ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def provide_admin() -> None:
    """Where tokens are required and no admin has a valid one, make one and write it to a file that only we can read.

    UCURVE_ADMIN_TOKEN_FILE, or `admin-token` in UCURVE_ARTEFACTS. The log names the file and never the token.
    """
    if settings().access == "open":
        return
    file = settings().admin_token_file or settings().artefacts / "admin-token"
    with open_session() as session:
        secret = users.first_admin(session, local().name)
        if secret is None:
            return
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=".admin-token", delete=False
        ) as new:  # made with mode 0600
            new.write(f"{secret}\n")
        os.replace(new.name, file)
        session.commit()
    logging.getLogger("uvicorn.error").warning(
        "The token of the first admin, %s, is in %s: keep it, then delete the file",
        local().name,
        file,
    )


def install(app: FastAPI) -> None:
    settings()  # a bad value stops the start
    app.add_middleware(Identified)
