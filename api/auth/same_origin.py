"""Reject requests for other hosts and from pages of other sites before any route sees them.

A page of any site can make a browser send requests to 127.0.0.1. The Host header must be one of
UCURVE_HOSTS (against DNS rebinding), and a request that changes something must not come from a page
of another origin (against CSRF).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import ProblemResponse
from ucurve.schemas.problems import problem_of
from ucurve.settings import settings


class SameOrigin:
    """Middleware that rejects changes requested by a page of another origin."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin = headers.get("origin")
        if (
            origin
            and scope["method"] not in ("GET", "HEAD", "OPTIONS")
            and urlsplit(origin).netloc != headers.get("host")
        ):
            detail = "Rejected: the request comes from a page of another site."
            response = ProblemResponse(problem_of(403, detail, instance=scope["path"]))
            await response(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def install(app: FastAPI) -> None:
    """Add both checks to the app."""
    app.add_middleware(SameOrigin)
    hosts = list(settings().hosts)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
