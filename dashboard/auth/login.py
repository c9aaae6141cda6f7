"""Sign-in and sign-out as plain routes: Streamlit pages cannot set HttpOnly cookies.

GET /login?next=/new      asks for an API key, or leads to the identity provider (oidc.py)
POST /login               checks the key with the API and stores it in an HttpOnly cookie
GET /logout               deletes the cookie, and revokes the key if sign-in created it
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
COOKIE_DAYS = 30  # that a browser keeps the cookie; the key itself may expire sooner
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'",
}


async def show_form(request: Request) -> Response:
    return form(request, local_path(request.query_params.get("next")))


async def sign_in(request: Request) -> Response:
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        return HTMLResponse("Rejected: the form was sent from another site.", 403)
    fields = await request.form()
    key = str(fields.get("token") or "").strip()
    to = local_path(str(fields.get("next") or "/"))
    if not key:
        return form(request, to, "Enter an API key.", 422)
    try:
        await asyncio.to_thread(current_user, key)
    except ApiUnavailableError as error:
        return form(request, to, str(error), 503)
    except (ClientError, UnicodeError) as error:
        return form(request, to, str(error), 401)
    return signed_in(request, key, to)


async def sign_out(request: Request) -> Response:
    """Delete the cookie. A pasted key stays valid; one that sign-in created is revoked."""
    name = cookie_name(request.headers.get("host", ""))
    if key := request.cookies.get(name):
        with suppress(ClientError, UnicodeError):
            await asyncio.to_thread(
                lambda: Client(token=key, timeout=10.0, retries=(), source="dashboard").sign_out()
            )
    response = form(request, "/", "You are signed out.", 200)
    response.delete_cookie(name, path="/", httponly=True, samesite="strict")
    return response


async def to_provider(request: Request) -> Response:
    to = local_path(request.query_params.get("next"))
    try:
        return await oidc.redirect_to_provider(request, to)
    except oidc.NotSignedInError as error:
        return form(request, to, str(error), 503)


async def from_provider(request: Request) -> Response:
    try:
        key, to = await oidc.finish_sign_in(request)
    except oidc.NotSignedInError as error:
        return form(request, "/", str(error), 401)
    response = signed_in(request, key, local_path(to))
    response.delete_cookie(oidc.COOKIE, path="/login")
    return response


def current_user(key: str) -> CurrentUser:
    return Client(token=key, timeout=10.0, retries=(0.1,)).me()


def signed_in(request: Request, key: str, to: str) -> Response:
    """Redirect to the requested page, with the key in a cookie."""
    response = RedirectResponse(to, 303)
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
    response.set_cookie(
        cookie_name(request.headers.get("host", "")),
        key,
        max_age=COOKIE_DAYS * 86400,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return response


def local_path(path: str | None) -> str:
    """Return where to go after sign-in: a page of this dashboard, never another site."""
    wrong = (
        not path or not path.startswith("/") or path.startswith(("//", "/\\", "/login", "/logout"))
    )
    return "/" if wrong or path is None or any(ord(letter) < 32 for letter in path) else path


def form(request: Request, to: str, message: str = "", status: int = 200) -> Response:
    """Return the sign-in page."""
    provider = oidc.provider()
    sign_in_with = (
        f'<a class="button" href="/login/open-id?next={quote(to)}">'
        f"Sign in with {escape(provider.name)}</a>"
        if provider
        else ""
    )
    logos = "".join(
        f'<div class="{theme}">{wordmark(theme == "dark")}</div>' for theme in ("light", "dark")
    )
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in · ucurve</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:image/svg+xml,{quote(page_icon())}"><style>{STYLE}</style></head>
<body><main>{logos}<h1>Sign in</h1>{_message(message, status)}{sign_in_with}
<form method="post" action="/login"><input type="hidden" name="next" value="{escape(to)}">
<label for="token">API key</label>
<input id="token" name="token" type="password" autocomplete="current-password"
 placeholder="ucurve_…" autofocus required>
<button type="submit">Sign in</button></form>
<p class="muted">No key? Ask an admin to run
<code>ucurve tokens create NAME --user YOU</code></p></main></body></html>"""
    return HTMLResponse(page, status, HEADERS)


def _message(message: str, status: int) -> str:
    if not message:
        return ""
    role, style = ("alert", "problem") if status >= 400 else ("status", "")
    return f'<p role="{role}" class="{style}">{escape(message)}</p>'


ROUTES = [
    Route("/login", show_form, methods=["GET"]),
    Route("/login", sign_in, methods=["POST"]),
    Route("/logout", sign_out, methods=["GET"]),
    Route("/login/open-id", to_provider, methods=["GET"]),
    Route("/login/open-id/back", from_provider, methods=["GET"]),
]
