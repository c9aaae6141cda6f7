"""Requests that change something are one transaction: change, audit record and stored answer.

A route ends its part with session.commit(). The transaction is committed here, after the answer was
made and before it is sent: a success is stored for certain, and an error means that nothing was
changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import audit
from api.auth.authorization import READ_METHODS, Principal
from api.errors import ApiError, ProblemResponse, database_problem
from api.idempotency import (
    HEADER,
    RETRY_AFTER,
    Answer,
    IdempotencyKey,
    RequestInProgressError,
)
from db.session import engine
from db.unit_of_work import UnitOfWork
from ucurve.schemas.problems import problem_of

# They hold a connection while they wait for a thread: enough must be left for reading.
MAX_AT_ONCE = 20
# Answered as reads are: no row changes, and an upload is stored under its hash while it arrives.
CHANGES_NOTHING = frozenset({"/v1/plan", "/v1/suites/preview", "/v1/uploads"})


class ChangingRequests:
    """Middleware that gives each changing request a unit of work."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._limiter: anyio.CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] in READ_METHODS
            or not scope.get("ucurve.has_route", True)  # the app answers 404 or 405
            or scope["path"] in CHANGES_NOTHING
        ):
            await self.app(scope, receive, send)
            return
        try:
            body = await _read(receive)
            if body is None:
                return  # the client left
            key = _key_of(scope, body)
            if self._limiter is None:
                self._limiter = anyio.CapacityLimiter(MAX_AT_ONCE)
            unit = UnitOfWork(lambda: engine().connect())
            async with self._limiter:
                answer = await self._answer(scope, body, unit, key)
        except RequestInProgressError as error:
            await _refuse(scope, send, 409, str(error), {"Retry-After": str(RETRY_AFTER)})
        except ApiError as error:
            await _refuse(scope, send, error.status, error.detail)
        except HTTPException as error:
            headers = dict(error.headers or {})
            await _refuse(scope, send, error.status_code, error.detail, headers)
        except (OperationalError, InternalError, PoolTimeoutError) as error:
            await _refuse(scope, send, *database_problem(error))
        else:
            await _send(answer, send)
            await run_in_threadpool(unit.run_actions)

    async def _answer(
        self, scope: Scope, body: bytes, unit: UnitOfWork, key: IdempotencyKey | None
    ) -> Answer:
        """Return the stored answer, or that of the app after its change is committed."""
        try:
            if key and (stored := await run_in_threadpool(key.begin, unit)):
                return stored
            with unit.active():
                answer = await _call(self.app, scope, body)
            if answer.status < 400:
                await run_in_threadpool(_commit, scope, body, unit, key, answer)
            return answer
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(unit.close)


def _commit(
    scope: Scope, body: bytes, unit: UnitOfWork, key: IdempotencyKey | None, answer: Answer
) -> None:
    audit.record(unit, scope, body, answer.body)
    if key:
        key.store(unit, answer)
    unit.commit()


def _key_of(scope: Scope, body: bytes) -> IdempotencyKey | None:
    value = Headers(scope=scope).get(HEADER)
    if value is None:
        return None
    user = scope.get("ucurve.user")
    owner = user.name if isinstance(user, Principal) else ""
    path = scope["path"].encode()
    return IdempotencyKey.of(
        owner, value, scope["method"].encode(), path, scope.get("query_string", b""), body
    )


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body (limited by api.body_limit), None where the client disconnects."""
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _call(app: ASGIApp, scope: Scope, body: bytes) -> Answer:
    """Call the app and return its response instead of sending it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    messages: list[Message] = []

    async def receive() -> Message:
        return pending.pop() if pending else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start = messages[0]
    content = b"".join(message.get("body", b"") for message in messages[1:])
    return Answer(start["status"], list(start.get("headers", ())), content)


async def _send(answer: Answer, send: Send) -> None:
    headers: Sequence[tuple[bytes, bytes]] = answer.headers
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _refuse(
    scope: Scope, send: Send, status: int, detail: str, headers: dict[str, str] | None = None
) -> None:
    response = ProblemResponse(problem_of(status, detail, instance=scope["path"]), headers)
    await response(scope, _no_body, send)


async def _no_body() -> Message:
    return {"type": "http.disconnect"}


def install(app: FastAPI) -> None:
    """Add the transactions; install what limits or refuses requests after this."""
    app.add_middleware(ChangingRequests)
