"""Reject request bodies that are too large, announced or streamed, with 413."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ProblemResponse
from ucurve.schemas.problems import problem_of

MAX_BODY_BYTES = 256 * 2**20  # a batch of an import with its curves is a tenth of this
DETAIL = f"The body is larger than {MAX_BODY_BYTES // 2**20} MiB: send it in several requests."


class BodyLimit:
    """Middleware that reads at most MAX_BODY_BYTES of a request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > MAX_BODY_BYTES:
            problem = problem_of(413, DETAIL, instance=scope["path"])
            await ProblemResponse(problem)(scope, receive, send)
            return
        num_received = 0

        async def limited() -> Message:
            nonlocal num_received
            message = await receive()
            num_received += len(message.get("body", b""))
            if num_received > MAX_BODY_BYTES:
                raise HTTPException(413, DETAIL)
            return message

        await self.app(scope, limited, send)


def install(app: FastAPI) -> None:
    """Add the limit to the app."""
    app.add_middleware(BodyLimit)
