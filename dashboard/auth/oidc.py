"""Signing in at an OpenID Connect provider: there with a code flow (PKCE, state, nonce), and back with an id token.

The API proves the token and gives one of ours for it; nothing is believed here. UCURVE_OIDC_ISSUER, UCURVE_OIDC_CLIENT_ID
and UCURVE_OIDC_CLIENT_SECRET are those of the application at the provider, whose redirect address is ours: /login/open-id/back.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ucurve.client import Client, ClientError
from ucurve.settings import settings

COOKIE = "ucurve_open_id"
MINUTES = 10  # that somebody may take at the provider


class NotSignedInError(RuntimeError):
    """The provider, or the way back from it, said no; the message says why."""


@dataclass(frozen=True)
class Provider:
    issuer: str
    client_id: str
    secret: str

    @property
    def name(self) -> str:
        """As the button says it."""
        return settings().oidc_name or urlsplit(self.issuer).netloc


def provider() -> Provider | None:
    issuer, client_id = settings().oidc_issuer, settings().oidc_client_id
    return (
        Provider(issuer, client_id, settings().oidc_client_secret) if issuer and client_id else None
    )


async def leave(request: Request, to: str) -> Response:
    """To the provider; what has to come back with the answer stays in a cookie."""
    there = _configured()
    kept = {
        "state": secrets.token_urlsafe(24),
        "nonce": secrets.token_urlsafe(24),
        "verifier": secrets.token_urlsafe(48),
        "to": to,
    }
    challenge = (
        base64.urlsafe_b64encode(hashlib.sha256(kept["verifier"].encode()).digest())
        .rstrip(b"=")
        .decode()
    )
    asked = {
        "response_type": "code",
        "scope": "openid email profile",
        "client_id": there.client_id,
        "redirect_uri": _back_to(request),
        "state": kept["state"],
        "nonce": kept["nonce"],
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    address = (await _described(there))["authorization_endpoint"]
    answer = RedirectResponse(f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}", 303)
    value = base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()
    secure = _back_to(request).startswith("https:")
    # Lax, not strict: the way back is a request that another site's page leads to.
    answer.set_cookie(
        COOKIE,
        value,
        max_age=60 * MINUTES,
        path="/login",
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return answer


async def back(request: Request) -> tuple[str, str]:
    """A token of ours, and where to go. Raises NotSignedInError."""
    there, kept, said = _configured(), _kept(request), request.query_params
    if not secrets.compare_digest(said.get("state", "").encode(), kept["state"].encode()):
        raise NotSignedInError("This answer belongs to another sign-in: begin again.")
    if "code" not in said:
        raise NotSignedInError(
            f"{there.name} said no: {said.get('error_description') or said.get('error') or 'no reason given'}"
        )
    sent = {
        "grant_type": "authorization_code",
        "code": said["code"],
        "redirect_uri": _back_to(request),
        "client_id": there.client_id,
        "code_verifier": kept["verifier"],
    }
    try:
        address = (await _described(there))["token_endpoint"]
        who = httpx.BasicAuth(there.client_id, there.secret) if there.secret else None
        async with httpx.AsyncClient(timeout=10.0, auth=who) as http:
            answer = await http.post(address, data=sent)
        id_token = answer.raise_for_status().json()["id_token"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise NotSignedInError(f"{there.name} gave no token: {error}") from error
    try:
        made = await asyncio.to_thread(
            lambda: Client(token="", timeout=20.0, retries=()).sign_in(id_token, kept["nonce"])
        )
    except ClientError as error:
        raise NotSignedInError(str(error)) from error
    return made.secret, kept["to"]


def _configured() -> Provider:
    if (there := provider()) is None:
        raise NotSignedInError(
            "No identity provider is configured: UCURVE_OIDC_ISSUER and UCURVE_OIDC_CLIENT_ID are not set."
        )
    return there


async def _described(there: Provider) -> dict[str, Any]:
    try:
        async with httpx.AsyncClient(timeout=10.0) as http:
            answer = await http.get(f"{there.issuer.rstrip('/')}/.well-known/openid-configuration")
        return dict(answer.raise_for_status().json())
    except (httpx.HTTPError, ValueError) as error:
        raise NotSignedInError(
            f"{there.name} does not answer: {error or type(error).__name__}"
        ) from error


def _kept(request: Request) -> dict[str, str]:
    try:
        kept = json.loads(base64.urlsafe_b64decode(request.cookies[COOKIE]))
        return {name: str(kept[name]) for name in ("state", "nonce", "verifier", "to")}
    except (KeyError, ValueError, TypeError) as error:
        raise NotSignedInError(
            f"This sign-in took longer than {MINUTES} minutes, or began elsewhere: begin again."
        ) from error


def _back_to(request: Request) -> str:
    """Our own address as the browser sees it."""
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    return f"{scheme}://{request.headers['host']}/login/open-id/back"
