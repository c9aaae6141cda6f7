"""Signing in by an OpenID Connect provider: what it signed is proven, and whoever it names gets a token of ours for some hours.

UCURVE_OIDC_ISSUER and UCURVE_OIDC_CLIENT_ID say whose signature counts and for whom. UCURVE_OIDC_CLAIM is the claim that names
the user (email, which the provider must have verified). Who is not known yet becomes a UCURVE_OIDC_ROLE; without it only
users whom an admin made may sign in.
"""

from __future__ import annotations

import re
import time
from functools import cache
from typing import Any

import httpx
from fastapi import APIRouter, Response
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from api.auth.authentication import blocked
from api.auth.authorization import Everybody, Viewer
from api.errors import ProblemError
from api.routes.users import new_token
from db import users
from db.session import open_session
from ucurve.schemas.users import NAME, ROLES, NewToken, SignIn
from ucurve.settings import settings

router = APIRouter(prefix="/v1", tags=["people"])

ALGORITHMS = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "ES256",
    "ES384",
    "EdDSA",
]  # never a shared secret, never none
KEYS_SECONDS = 3600.0  # that the provider's keys are kept
LEEWAY = 60  # seconds by which its clock may differ from ours


@router.post(
    "/sessions",
    status_code=201,
    dependencies=[Everybody],
    summary="A token for whom an identity provider vouches",
)
def sign_in(sent: SignIn, response: Response) -> NewToken:
    name = _name(_proven(sent.id_token, sent.nonce))
    role = settings().oidc_role
    with open_session() as session:
        known = users.users(session, name)
        if known and known[0].blocked_at is not None:
            raise ProblemError(403, blocked(name, known[0].blocked_at))
        if not known:
            if role not in ROLES:
                raise ProblemError(
                    403,
                    f"There is no user {name} in this lab: ask an admin (ucurve users set {name} --role submitter).",
                )
            users.add_user(session, name, role)
        users.forget_sign_ins(session, name)
        made = new_token(session, name, users.SIGN_IN, settings().oidc_hours / 24)
        session.commit()
    response.headers["Cache-Control"] = "no-store"
    return made


@router.delete(
    "/sessions/current",
    status_code=204,
    summary="Sign out: the token that is shown ends, if signing in made it",
)
def sign_out(person: Viewer) -> None:
    with open_session() as session:
        for token in users.tokens(session, id=person.token) if person.token is not None else ():
            if token.name == users.SIGN_IN:
                users.revoke_token(session, token.id)
        session.commit()


def _proven(id_token: str, nonce: str) -> dict[str, Any]:
    """The claims of an id token that our issuer signed, for us, now, and in answer to this very sign-in."""
    issuer, client = settings().oidc_issuer, settings().oidc_client_id
    if not issuer or not client:
        raise ProblemError(
            404,
            "This lab knows no identity provider: set UCURVE_OIDC_ISSUER and UCURVE_OIDC_CLIENT_ID.",
        )
    claims = jwt.JWTClaimsRegistry(
        leeway=LEEWAY,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        found = _decoded(issuer, id_token).claims
        claims.validate(found)
    except ExpiredTokenError as error:
        raise _refused("The identity provider's token has expired: sign in again.") from error
    except (JoseError, ValueError) as error:
        raise _refused(f"The identity provider's token does not hold: {error}.") from error
    except httpx.HTTPError as error:
        raise ProblemError(
            503, f"The identity provider does not answer: {error or type(error).__name__}."
        ) from error
    if found.get("azp", client) != client:
        raise _refused("The identity provider's token was made for another application.")
    return dict(found)


def _decoded(issuer: str, id_token: str) -> jwt.Token:
    """With the issuer's keys as we have them; asked for anew when the token names one that we do not have."""
    hour = int(time.monotonic() // KEYS_SECONDS)
    try:
        return jwt.decode(id_token, _keys(issuer, hour), ALGORITHMS)
    except InvalidKeyIdError:
        _keys.cache_clear()
        return jwt.decode(id_token, _keys(issuer, hour), ALGORITHMS)


@cache
def _keys(issuer: str, hour: int) -> KeySet:
    with httpx.Client(timeout=10.0, follow_redirects=False) as http:
        described = (
            http.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            .raise_for_status()
            .json()
        )
        if described.get("issuer") != issuer:
            raise ValueError(f"{issuer} describes itself as {described.get('issuer')}")
        return KeySet.import_key_set(http.get(described["jwks_uri"]).raise_for_status().json())


def _name(claims: dict[str, Any]) -> str:
    claim = settings().oidc_claim
    name = claims.get(claim)
    if claim == "email" and claims.get("email_verified") is not True:
        raise _refused("The identity provider has not verified the e-mail address.")
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise _refused(
            f"The identity provider's token names nobody by {claim!r}: set UCURVE_OIDC_CLAIM."
        )
    return name.lower() if claim == "email" else name


def _refused(title: str) -> ProblemError:
    return ProblemError(401, title)
