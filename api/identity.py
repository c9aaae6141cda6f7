"""Who calls, found out before any route: by the token in the request, or on a lab of one's own whoever started it.

UCURVE_ACCESS=open (a lab on loopback): without a token everybody is the account the service runs under, as admin; a token
is honoured. UCURVE_ACCESS=tokens: a request without a valid token is answered 401, but for what says nothing of the lab.
"""

from __future__ import annotations

import getpass
import os
from typing import Literal

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.access import Person
from db import people
from db.session import open_session
from ucurve.records import Problem

OPEN_PATHS = ("/", "/docs", "/docs/oauth2-redirect", "/redoc", "/v1/openapi.json", "/health/live", "/health/ready")


class UnknownError(Exception):
    """Nobody we know; the message says why and what to do."""


def access() -> Literal["open", "tokens"]:
    """UCURVE_ACCESS. Without it a token is required: whoever opens a lab to all has to say so."""
    found = os.environ.get("UCURVE_ACCESS", "tokens")
    if found not in ("open", "tokens"):
        raise RuntimeError(f"UCURVE_ACCESS is {found!r}: use open (everybody is admin, loopback only) or tokens")
    return "open" if found == "open" else "tokens"


def local() -> Person:
    """Whoever runs the lab: UCURVE_OWNER, or the account the service runs under."""
    return Person(os.environ.get("UCURVE_OWNER") or getpass.getuser(), "admin")


class Identified:
    """Puts the person into the request, or answers 401 before the body is read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        try:
            scope["ucurve.person"] = await run_in_threadpool(person_of, Headers(scope=scope).get("authorization"))
        except UnknownError as error:
            problem = Problem(title=str(error), status=401)
            await JSONResponse(problem.model_dump(), 401, {"WWW-Authenticate": 'Bearer realm="ucurve"'})(scope, receive, send)
        except (OperationalError, PoolTimeoutError):
            problem = Problem(title="The database does not answer; nothing was changed. Try again soon.", status=503)
            await JSONResponse(problem.model_dump(), 503)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def person_of(authorization: str | None) -> Person:
    """Whom an Authorization header stands for. Raises UnknownError."""
    if not authorization:
        if access() == "open":
            return local()
        raise UnknownError(
            "This lab asks for an access token: give one with --token or UCURVE_TOKEN (Authorization: Bearer TOKEN)."
        )
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise UnknownError("The Authorization header is not understood: it has to be `Bearer TOKEN`.")
    with open_session() as session:
        token = people.token_of(session, secret.strip())
        if token is None:
            raise UnknownError("This access token is not known here: check it, or ask an admin for a new one.")
        if token.revoked_at is not None:
            raise UnknownError(f"The token {token.name!r} was revoked on {token.revoked_at:%Y-%m-%d}: use another one.")
        if token.expired:
            raise UnknownError(f"The token {token.name!r} expired on {token.expires_at:%Y-%m-%d}: ask for a new one.")
        if token.unnoted:
            people.note_use(session, token.id)
            session.commit()
    return Person(token.owner, token.role, token.id)


def install(app: FastAPI) -> None:
    access()
    app.add_middleware(Identified)
