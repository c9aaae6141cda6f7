"""Sign-in with an OpenID Connect provider: code flow with PKCE, state and nonce.

The API verifies the ID token and exchanges it for an API key; nothing is trusted here. The
settings UCURVE_OIDC_ISSUER, UCURVE_OIDC_CLIENT_ID and UCURVE_OIDC_CLIENT_SECRET are those of
the application at the provider, with the redirect address /login/open-id/back.
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
MINUTES = 10  # until a sign-in at the provider expires


class NotSignedInError(RuntimeError):
    """The provider refused, or its answer is not valid; the message says why."""


@dataclass(frozen=True)
class Provider:
    issuer: str
    client_id: str
    secret: str

    @property
    def name(self) -> str:
        """The provider's name on the sign-in button."""
        return settings().oidc_name or urlsplit(self.issuer).netloc


def provider() -> Provider | None:
    issuer, client_id = settings().oidc_issuer, settings().oidc_client_id
    return (
        Provider(issuer, client_id, settings().oidc_client_secret) if issuer and client_id else None
    )


async def redirect_to_provider(request: Request, to: str) -> Response:
    """Redirect to the provider; a cookie keeps what its answer is checked against."""
    identity_provider = _configured()
    flow = {
        "state": secrets.token_urlsafe(24),
        "nonce": secrets.token_urlsafe(24),
        "verifier": secrets.token_urlsafe(48),
        "to": to,
    }
    digest = hashlib.sha256(flow["verifier"].encode()).digest()
    params = {
        "response_type": "code",
        "scope": "openid email profile",
        "client_id": identity_provider.client_id,
        "redirect_uri": _redirect_uri(request),
        "state": flow["state"],
        "nonce": flow["nonce"],
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    endpoint = (await _discover(identity_provider))["authorization_endpoint"]
    separator = "&" if "?" in endpoint else "?"
    response = RedirectResponse(f"{endpoint}{separator}{urlencode(params)}", 303)
    response.set_cookie(
        COOKIE,
        base64.urlsafe_b64encode(json.dumps(flow).encode()).decode(),
        max_age=60 * MINUTES,
        path="/login",
        secure=_redirect_uri(request).startswith("https:"),
        httponly=True,
        samesite="lax",  # not strict: another site's page leads back here
    )
    return response


async def finish_sign_in(request: Request) -> tuple[str, str]:
    """Return an API key and the page to go to. Raises NotSignedInError."""
    identity_provider, flow, params = _configured(), _flow(request), request.query_params
    state = params.get("state", "").encode()
    if not secrets.compare_digest(state, flow["state"].encode()):
        raise NotSignedInError("This sign-in has expired. Please try again.")
    if "code" not in params:
        reason = params.get("error_description") or params.get("error") or "no reason given"
        raise NotSignedInError(f"{identity_provider.name} refused the sign-in: {reason}")
    id_token = await _id_token(identity_provider, request, params["code"], flow["verifier"])
    try:
        key = await asyncio.to_thread(
            lambda: Client(token="", timeout=20.0, retries=(), source="dashboard").sign_in(
                id_token, flow["nonce"]
            )
        )
    except ClientError as error:
        raise NotSignedInError(str(error)) from error
    return key.secret, flow["to"]


async def _id_token(identity_provider: Provider, request: Request, code: str, verifier: str) -> str:
    """Exchange the code for an ID token at the provider's token endpoint."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": _redirect_uri(request),
        "client_id": identity_provider.client_id,
        "code_verifier": verifier,
    }
    auth = (
        httpx.BasicAuth(identity_provider.client_id, identity_provider.secret)
        if identity_provider.secret
        else None
    )
    try:
        endpoint = (await _discover(identity_provider))["token_endpoint"]
        async with httpx.AsyncClient(timeout=10.0, auth=auth) as http:
            response = await http.post(endpoint, data=form)
        return str(response.raise_for_status().json()["id_token"])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise NotSignedInError(f"{identity_provider.name} sent no ID token: {error}") from error


def _configured() -> Provider:
    if (identity_provider := provider()) is None:
        raise NotSignedInError(
            "No identity provider is configured: set UCURVE_OIDC_ISSUER and UCURVE_OIDC_CLIENT_ID."
        )
    return identity_provider


async def _discover(identity_provider: Provider) -> dict[str, Any]:
    """Return the provider's discovery document."""
    url = f"{identity_provider.issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        async with httpx.AsyncClient(timeout=10.0) as http:
            response = await http.get(url)
        return dict(response.raise_for_status().json())
    except (httpx.HTTPError, ValueError) as error:
        reason = error or type(error).__name__
        raise NotSignedInError(f"{identity_provider.name} does not respond: {reason}") from error


def _flow(request: Request) -> dict[str, str]:
    """Return what the cookie keeps of the sign-in that this browser started."""
    try:
        flow = json.loads(base64.urlsafe_b64decode(request.cookies[COOKIE]))
        return {name: str(flow[name]) for name in ("state", "nonce", "verifier", "to")}
    except (KeyError, ValueError, TypeError) as error:
        raise NotSignedInError(
            f"This sign-in took longer than {MINUTES} minutes or started in another browser. "
            "Please try again."
        ) from error


def _redirect_uri(request: Request) -> str:
    """Return the address of our callback as the browser sees it."""
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    return f"{scheme}://{request.headers['host']}/login/open-id/back"
