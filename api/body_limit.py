"""Limits of a request before it is read: who may send it, how large, how slow, and which text.

A body that is too large is a 413, announced or streamed; one that takes too long is a 408. Only
users with the role of a route may send it a body. NUL is a character that Postgres cannot store.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import parse_qsl

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth.authorization import READ_METHODS, Principal, refusal
from api.errors import ProblemResponse
from api.route_table import MatchedRoute, RouteTable
from ucurve.formatting import file_size
from ucurve.schemas.catalogue import MAX_UPLOAD_BYTES
from ucurve.schemas.problems import INVALID_INPUT, FieldError, problem_of

KIB, MIB = 2**10, 2**20
DEFAULT_BYTES = 64 * KIB
MAX_BYTES = {  # by route
    "/v1/sessions": 32 * KIB,
    "/v1/plan": MIB,
    "/v1/experiments": MIB,
    "/v1/experiments/{id}": 256 * KIB,
    "/v1/experiments/{id}/extend": MIB,
    "/v1/studies": 4 * MIB,
    "/v1/references": 32 * MIB,
    "/v1/suites": 4 * MIB,
    "/v1/suites/preview": 4 * MIB,
    "/v1/uploads": MAX_UPLOAD_BYTES,
    "/v1/import/catalogue": 256 * MIB,
    "/v1/import/measurements": 256 * MIB,  # a batch with its curves is a tenth of this
    "/v1/import/experiments": 256 * MIB,
}
# A client has IDLE_SECONDS for each part of a body, and for all of it START_SECONDS and the time
# that it takes at SLOWEST_BYTES per second. A response has SEND_SECONDS for each part.
IDLE_SECONDS, START_SECONDS, SLOWEST_BYTES, SEND_SECONDS = 15.0, 30.0, 20_000, 60.0
NUL = "Must not contain NUL (\\u0000)."


class RequestLimits:
    """Middleware that refuses what is too large, too slow or not permitted before it is read."""

    def __init__(self, app: ASGIApp, routes: RouteTable) -> None:
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = self.routes.match(scope)
        scope["ucurve.has_route"] = route is not None
        response = _text_problem(scope, route) or _role_problem(scope, route)
        limit = MAX_BYTES.get(route.path if route else "", DEFAULT_BYTES)
        announced = Headers(scope=scope).get("content-length", "")
        too_large = announced.isascii() and announced.isdigit() and int(announced[:19]) > limit
        if response is None and too_large:
            response = _problem(scope, 413, _too_large(limit))
        if response:
            await response(scope, receive, send)
        else:
            await self.app(scope, Body(receive, limit).receive, _with_deadline(send))


class Body:
    """The body of one request, as far as it has arrived."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self._num_received, self._start, self._complete = 0, time.monotonic(), False

    async def receive(self) -> Message:
        """Return the next part. Raises HTTPException with 408 or 413."""
        if self._complete:  # the app waits for the client to leave
            return await self._receive()
        allowed = START_SECONDS + self._num_received / SLOWEST_BYTES
        left = min(IDLE_SECONDS, self._start + allowed - time.monotonic())
        try:
            async with asyncio.timeout(max(left, 0.0)):
                message = await self._receive()
        except TimeoutError as error:
            detail = "The body took too long to arrive: send it faster, or in several requests."
            raise HTTPException(408, detail, {"Connection": "close"}) from error
        self._num_received += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._num_received > self._limit:
            raise HTTPException(413, _too_large(self._limit), {"Connection": "close"})
        return message


def _with_deadline(send: Send) -> Send:
    """Return `send` for a client that has to take each part of the response in time."""

    async def timed(message: Message) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await send(message)

    return timed


def _too_large(limit: int) -> str:
    return f"The body is larger than {file_size(limit)}, the most that this route accepts."


def _role_problem(scope: Scope, route: MatchedRoute | None) -> ProblemResponse | None:
    user = scope.get("ucurve.user")
    if scope["method"] in READ_METHODS or route is None or route.role == "public":
        return None
    if not isinstance(user, Principal) or user.has(route.role):
        return None
    return _problem(scope, 403, refusal(user, route.role))


def _text_problem(scope: Scope, route: MatchedRoute | None) -> ProblemResponse | None:
    """Return a 422 that names the parameters of path and query that contain NUL."""
    query = scope["query_string"].decode("latin-1")
    if "\0" not in scope["path"] and "%00" not in query and "\0" not in query:
        return None
    values = [*(route.parameters.items() if route else ()), *parse_qsl(query)]
    names = dict.fromkeys(name for name, value in values if "\0" in name + value)
    errors = [FieldError(pointer=f"/{name}".replace("\0", "\\u0000"), detail=NUL) for name in names]
    return _problem(scope, 422, INVALID_INPUT, errors or [FieldError(pointer="", detail=NUL)])


def _problem(
    scope: Scope, status: int, detail: str, errors: list[FieldError] | None = None
) -> ProblemResponse:
    return ProblemResponse(problem_of(status, detail, errors, scope["path"]))


def install(app: FastAPI) -> None:
    """Add the limits to the app."""
    app.add_middleware(RequestLimits, routes=RouteTable(lambda: app))
