"""Host names and headers of every response of the dashboard: pages, files, routes, websocket.

The rule of hosts is that of the API, UCURVE_HOSTS. A page of another site can neither reach the
dashboard by a name of its own (DNS rebinding) nor show it in a frame (clickjacking).
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ucurve.settings import settings

MAX_BODY_BYTES = 64 * 2**10  # of every route but the upload, which Streamlit limits
UPLOAD = "/_stcore/upload_file/"
HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
POLICY = "frame-ancestors 'none'"


class BrowserSafety:
    """Middleware that refuses unknown hosts and large bodies, and adds the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not is_known_host(headers.get("host", "")):
            await _refuse(400, "Unknown host: add it to UCURVE_HOSTS.", scope, receive, send)
        elif scope["type"] == "http" and _too_large(scope, headers):
            await _refuse(413, "The request is too large.", scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send))


def is_known_host(host: str) -> bool:
    """Return whether a Host header names this lab; patterns are those of Starlette for the API."""
    name = host.lower() if host.endswith("]") else host.lower().rsplit(":", 1)[0]
    return any(
        allowed in ("*", name) or (allowed.startswith("*.") and name.endswith(allowed[1:]))
        for allowed in settings().hosts
    )


def _too_large(scope: Scope, headers: Headers) -> bool:
    """Return whether a body is larger than the route needs, or of unknown size."""
    if scope["path"].startswith(UPLOAD):
        return False
    size = headers.get("content-length", "0")
    chunked = "transfer-encoding" in headers
    return chunked or not size.isdigit() or int(size[:19]) > MAX_BODY_BYTES


async def _refuse(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": detail})
        return
    response = PlainTextResponse(detail, status, HEADERS | {"Connection": "close"})
    await response(scope, receive, send)


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Content-Security-Policy", POLICY)
            message = {**message, "headers": headers.raw}
        await send(message)

    return with_headers


MIDDLEWARE = [Middleware(BrowserSafety)]
