"""Signing in and out, outside of Streamlit: a page cannot set a cookie that its own scripts may not read; these routes can.

GET /login?next=/new      asks for a token, or leads to the identity provider (open_id.py)
POST /login               tries the token with the API and keeps it in a cookie: HttpOnly, never sent from other sites' pages
GET /logout               forgets it, and revokes it where it was made by signing in
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from html import escape
from pathlib import Path
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from dashboard.auth import oidc
from dashboard.auth.session import cookie_name
from dashboard.components.theme import page_icon, wordmark
from ucurve.client import ApiUnavailableError, Client, ClientError
from ucurve.schemas.users import CurrentUser

STYLE = (Path(__file__).parent / "login.css").read_text()
DAYS = 30  # that a browser keeps the cookie; the token itself may end sooner


async def ask(request: Request) -> Response:
    return form(request, local_path(request.query_params.get("next")))


async def sign_in(request: Request) -> Response:
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        return HTMLResponse("Refused: the form comes from a page of another site.", 403)
    sent = await request.form()
    token, to = str(sent.get("token") or "").strip(), local_path(str(sent.get("next") or "/"))
    if not token:
        return form(request, to, "Paste your access token.", 422)
    try:
        await asyncio.to_thread(who, token)
    except ApiUnavailableError as error:
        return form(request, to, str(error), 503)
    except (ClientError, UnicodeError) as error:
        return form(request, to, str(error), 401)
    return signed_in(request, token, to)


async def sign_out(request: Request) -> Response:
    """A token that somebody pasted stays valid elsewhere; one that signing in made has no further use."""
    name = cookie_name(request.headers.get("host", ""))
    if token := request.cookies.get(name):
        with suppress(ClientError, UnicodeError):
            await asyncio.to_thread(
                lambda: Client(token=token, timeout=10.0, retries=()).sign_out()
            )
    answer = form(request, "/", "You are signed out.", 200)
    answer.delete_cookie(name, path="/", httponly=True, samesite="strict")
    return answer


async def to_provider(request: Request) -> Response:
    to = local_path(request.query_params.get("next"))
    try:
        return await oidc.leave(request, to)
    except oidc.NotSignedInError as error:
        return form(request, to, str(error), 503)


async def from_provider(request: Request) -> Response:
    try:
        token, to = await oidc.back(request)
    except oidc.NotSignedInError as error:
        return form(request, "/", str(error), 401)
    answer = signed_in(request, token, local_path(to))
    answer.delete_cookie(oidc.COOKIE, path="/login")
    return answer


def who(token: str) -> CurrentUser:
    return Client(token=token, timeout=10.0, retries=(0.1,)).me()


def signed_in(request: Request, token: str, to: str) -> Response:
    """To where somebody wanted to go, with the token in the browser's keeping."""
    answer = RedirectResponse(to, 303)
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
    answer.set_cookie(
        cookie_name(request.headers.get("host", "")),
        token,
        max_age=DAYS * 86400,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return answer


def local_path(path: str | None) -> str:
    """Where to go afterwards: a page of ours, never another site."""
    wrong = (
        not path or not path.startswith("/") or path.startswith(("//", "/\\", "/login", "/logout"))
    )
    return "/" if wrong or path is None or any(ord(letter) < 32 for letter in path) else path


def form(request: Request, to: str, remark: str = "", status: int = 200) -> Response:
    """The page that asks who is there."""
    said = f'<p role="{"alert" if status >= 400 else "status"}" class="{"problem" if status >= 400 else ""}">{escape(remark)}</p>'
    provider = oidc.provider()
    other = (
        f'<a class="button" href="/login/open-id?next={quote(to)}">Sign in with {escape(provider.name)}</a>'
        if provider
        else ""
    )
    marks = "".join(
        f'<div class="{theme}">{wordmark(theme == "dark")}</div>' for theme in ("light", "dark")
    )
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in · ucurve</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:image/svg+xml,{quote(page_icon())}"><style>{STYLE}</style></head>
<body><main>{marks}<h1>Sign in</h1>{said if remark else ""}{other}
<form method="post" action="/login"><input type="hidden" name="next" value="{escape(to)}">
<label for="token">Access token</label>
<input id="token" name="token" type="password" autocomplete="current-password" placeholder="ucurve_…" autofocus required>
<button type="submit">Sign in</button></form>
<p class="quiet">An admin makes one for you: <code>ucurve tokens create NAME --user YOU</code></p></main></body></html>""",
        status,
        {
            "Cache-Control": "no-store",
            "Referrer-Policy": "same-origin",
            "X-Frame-Options": "DENY",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
        },
    )


ROUTES = [
    Route("/login", ask, methods=["GET"]),
    Route("/login", sign_in, methods=["POST"]),
    Route("/logout", sign_out, methods=["GET"]),
    Route("/login/open-id", to_provider, methods=["GET"]),
    Route("/login/open-id/back", from_provider, methods=["GET"]),
]
