"""Which requests are let in before any route sees them: by the Host that was asked for, and never from another site's page.

A page of any site can make a browser send requests to 127.0.0.1. It may not name us (DNS rebinding: UCURVE_HOSTS lists the
names we go by) and may not change anything (a browser says in Origin which site a POST comes from).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ucurve.schemas.experiments import Problem
from ucurve.settings import settings


class SameOrigin:
    """Refuses what would change something and comes from a page of another origin."""

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
            problem = Problem(
                title="Refused: the request comes from a page of another site.", status=403
            )
            await JSONResponse(problem.model_dump(), 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def install(app: FastAPI) -> None:
    app.add_middleware(SameOrigin)
    hosts = list(settings().hosts)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
