"""Verify ID tokens of an OpenID Connect provider.

UCURVE_OIDC_ISSUER and UCURVE_OIDC_CLIENT_ID name the trusted provider and the audience.
UCURVE_OIDC_CLAIM is the claim that holds the user name (email, which the provider must have
verified).
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from api.errors import ApiError
from ucurve.schemas.users import NAME
from ucurve.settings import settings

# Asymmetric only: never a shared secret, never none.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
KEY_CACHE_SECONDS = 3600.0
LEEWAY = 60  # seconds by which the provider's clock may differ from ours


def verified_user(id_token: str, nonce: str) -> str:
    """Return the user name of a valid ID token; ApiError 401, 404 or 503 otherwise."""
    return _user_name(_verified_claims(id_token, nonce))


def _verified_claims(id_token: str, nonce: str) -> dict[str, Any]:
    """Return the claims of a token of our issuer, for us, not expired, with our nonce."""
    issuer, client = settings().oidc_issuer, settings().oidc_client_id
    if not issuer or not client:
        raise ApiError(
            404,
            "This lab has no identity provider: set UCURVE_OIDC_ISSUER and UCURVE_OIDC_CLIENT_ID.",
        )
    registry = jwt.JWTClaimsRegistry(
        leeway=LEEWAY,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        claims = _decode(issuer, id_token).claims
        registry.validate(claims)
    except ExpiredTokenError as error:
        raise _rejected("The identity provider's token has expired: sign in again.") from error
    except (JoseError, ValueError) as error:
        raise _rejected(f"The identity provider's token is not valid: {error}.") from error
    except httpx.HTTPError as error:
        raise ApiError(
            503, f"The identity provider does not respond: {error or type(error).__name__}."
        ) from error
    if claims.get("azp", client) != client:
        raise _rejected("The identity provider's token was issued for another application.")
    return dict(claims)


def _decode(issuer: str, id_token: str) -> jwt.Token:
    """Verify the signature with the cached keys; reload them for a key that is not among them."""
    hour = int(time.monotonic() // KEY_CACHE_SECONDS)
    try:
        return jwt.decode(id_token, _keys(issuer, hour), ALGORITHMS)
    except InvalidKeyIdError:
        _keys.cache_clear()
        return jwt.decode(id_token, _keys(issuer, hour), ALGORITHMS)


@lru_cache(maxsize=2)
def _keys(issuer: str, hour: int) -> KeySet:
    with httpx.Client(timeout=10.0, follow_redirects=False) as http:
        discovery = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        configuration = http.get(discovery).raise_for_status().json()
        if configuration.get("issuer") != issuer:
            raise ValueError(f"{issuer} describes itself as {configuration.get('issuer')}")
        keys = http.get(configuration["jwks_uri"]).raise_for_status().json()
        return KeySet.import_key_set(keys)


def _user_name(claims: dict[str, Any]) -> str:
    claim = settings().oidc_claim
    name = claims.get(claim)
    if claim == "email" and claims.get("email_verified") is not True:
        raise _rejected("The identity provider has not verified the e-mail address.")
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise _rejected(
            f"The identity provider's token has no user name in {claim!r}: set UCURVE_OIDC_CLAIM."
        )
    return name.lower() if claim == "email" else name


def _rejected(detail: str) -> ApiError:
    return ApiError(401, detail)
