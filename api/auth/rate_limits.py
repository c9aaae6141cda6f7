"""Limits per minute: costly requests of a user, and unknown tokens from an address.

Both are answered 429 with Retry-After. A valid token is never refused for wrong ones that came from
the same address; they only wait. Where access is open, all users are one, so none has a limit.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import OrderedDict

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth.authorization import Principal
from api.errors import ProblemResponse
from ucurve.schemas.problems import problem_of
from ucurve.settings import settings

MAX_KEYS = 10_000  # users or addresses that are remembered; the least recent are forgotten
WRONG_TOKENS_PER_MINUTE = 60
WRONG_TOKEN_SECONDS = 1.0  # that the answer to one above the limit takes
MAX_WAITING = 100  # answers that wait at one time; more are given at once
COSTLY = frozenset({("POST", "/v1/plan"), ("POST", "/v1/experiments"), ("POST", "/v1/studies")})


class RateLimiter:
    """At most `per_minute` requests of a key at once, and as many per minute (GCRA).

    Not locked: call it on the event loop only.
    """

    def __init__(self, per_minute: int) -> None:
        self._interval = 60.0 / per_minute
        self._due: OrderedDict[str, float] = OrderedDict()  # when a key's requests are paid off

    def seconds_to_wait(self, key: str) -> float:
        """Count a request of this key and return 0, or the seconds until it is allowed."""
        now = time.monotonic()
        due = max(self._due.get(key, now), now) + self._interval
        if due - now > 60.0:
            return due - now - 60.0
        self._due[key] = due
        self._due.move_to_end(key)
        while len(self._due) > MAX_KEYS:
            self._due.popitem(last=False)
        return 0.0


class CostlyRequests:
    """Middleware that limits plans, submissions and explorer queries of each user."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        per_minute = settings().requests_per_minute
        self._limiter = RateLimiter(per_minute) if per_minute else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("ucurve.user")
        seconds = 0.0
        # Without a token it is the local user of an open lab, whom all users share.
        if self._limiter and isinstance(user, Principal) and user.token and is_costly(scope):
            seconds = self._limiter.seconds_to_wait(user.name)
        if not seconds:
            await self.app(scope, receive, send)
            return
        detail = (
            f"{user.name if isinstance(user, Principal) else ''} has sent more than "
            f"{settings().requests_per_minute} plans, submissions and explorer queries in a minute."
        )
        await too_many(scope, detail, seconds)(scope, receive, send)


def is_costly(scope: Scope) -> bool:
    """Return whether a request counts towards the limit of its user."""
    path: str = scope["path"]
    extends = scope["method"] == "POST" and path.endswith("/extend")
    return (scope["method"], path) in COSTLY or extends or path.startswith("/v1/explorer/")


class WrongTokens:
    """Slows clients down that send unknown tokens."""

    def __init__(self) -> None:
        self._limiter = RateLimiter(WRONG_TOKENS_PER_MINUTE)
        self._num_waiting = 0

    async def refusal(self, scope: Scope) -> ProblemResponse | None:
        """Return the answer to an unknown token above the limit of its address, after a pause."""
        seconds = self._limiter.seconds_to_wait(network_of(scope.get("client")))
        if not seconds:
            return None
        if self._num_waiting < MAX_WAITING:
            self._num_waiting += 1
            try:
                await asyncio.sleep(WRONG_TOKEN_SECONDS)
            finally:
                self._num_waiting -= 1
        return too_many(scope, "Too many unknown access tokens came from this address.", seconds)


def network_of(client: tuple[str, int] | None) -> str:
    """Return the address of a client; of IPv6 the network, since one host has all of it."""
    host = client[0] if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False))


def too_many(scope: Scope, detail: str, seconds: float) -> ProblemResponse:
    """Return a 429 that says when to repeat the request."""
    problem = problem_of(429, f"{detail} Repeat this later.", instance=scope["path"])
    return ProblemResponse(problem, {"Retry-After": str(math.ceil(seconds))})


def install(app: FastAPI) -> None:
    """Add the limit of costly requests to the app."""
    app.add_middleware(CostlyRequests)
