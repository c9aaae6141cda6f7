"""A small OpenID Connect provider that signs (RS256): discovery, keys, code flow with PKCE."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "ucurve-at-test", "a client's secret"


class IdentityProvider:
    """Signs everyone in as `person`; a code is good for one token of the client that began."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})
        self.person: dict[str, Any] = {
            "sub": "7",
            "email": "ada@example.org",
            "email_verified": True,
        }
        self.codes: dict[str, dict[str, str]] = {}
        self.denies = False
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.get(self)

            def do_POST(self) -> None:
                provider.post(self)

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}/realm"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, role: str = "") -> dict[str, str]:
        named = {
            "ISSUER": self.issuer,
            "CLIENT_ID": CLIENT,
            "CLIENT_SECRET": SECRET,
            "ROLE": role,
            "NAME": "Example",
        }
        return {f"UCURVE_OIDC_{name}": value for name, value in named.items()}

    def id_token(self, nonce: str, key: Any = None, alg: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        said = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            **self.person,
            **claims,
        }
        key = key or self.key
        header = {"alg": alg, "kid": key.kid or "first"}
        return jwt.encode(
            header,
            {name: value for name, value in said.items() if value is not None},
            key,
            algorithms=[alg],
        )

    def get(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        if address.path == "/realm/.well-known/openid-configuration":
            ends = {
                "authorization_endpoint": "authorize",
                "token_endpoint": "token",
                "jwks_uri": "keys",
            }
            answer(
                request,
                {
                    "issuer": self.issuer,
                    **{name: f"{self.issuer}/{path}" for name, path in ends.items()},
                },
            )
        elif address.path == "/realm/keys":
            answer(request, {"keys": [self.key.as_dict(private=False)]})
        else:
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            assert (asked["client_id"], asked["response_type"], asked["code_challenge_method"]) == (
                CLIENT,
                "code",
                "S256",
            )
            code = secrets.token_urlsafe(16)
            self.codes[code] = asked
            said = {"error": "access_denied"} if self.denies else {"code": code}
            request.send_response(302)
            request.send_header(
                "Location",
                f"{asked['redirect_uri']}?{urlencode({**said, 'state': asked['state']})}",
            )
            request.end_headers()

    def post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        sent = {name: values[0] for name, values in parse_qs(body).items()}
        asked = self.codes.pop(sent.get("code", ""), {})
        challenge = (
            base64.urlsafe_b64encode(
                hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
            )
            .rstrip(b"=")
            .decode()
        )
        who = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        proven = (
            asked.get("code_challenge") == challenge
            and request.headers["Authorization"] == f"Basic {who}"
        )
        if proven and asked["redirect_uri"] == sent["redirect_uri"]:
            answer(
                request,
                {
                    "id_token": self.id_token(asked["nonce"]),
                    "token_type": "Bearer",
                    "access_token": "unused",
                },
            )
        else:
            answer(request, {"error": "invalid_grant"}, 400)


def answer(request: BaseHTTPRequestHandler, found: dict[str, Any], status: int = 200) -> None:
    content = json.dumps(found).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)
