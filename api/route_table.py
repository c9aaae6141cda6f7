"""Which route a request is for, before the app reads its body: its role and its parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import FastAPI
from starlette.types import Scope

from api.auth.authorization import required_role
from api.openapi import routes_of
from ucurve.schemas.users import Role


@dataclass(frozen=True)
class MatchedRoute:
    """A route and the parameters in its path."""

    path: str  # with its parameters in braces
    role: Role | Literal["public"]
    parameters: dict[str, str]


class RouteTable:
    """Finds the route of a request; the routes are listed at the first one."""

    def __init__(self, app: Callable[[], FastAPI]) -> None:
        self._app = app
        self._rows: list[tuple[re.Pattern[str], set[str], str, Role | Literal["public"]]] = []

    def match(self, scope: Scope) -> MatchedRoute | None:
        """Return the route of a request, None where the app answers 404 or 405."""
        if not self._rows:
            self._rows = [
                (route.path_regex, route.methods or set(), route.path_format, required_role(route))
                for route in routes_of(self._app())
            ]
        for pattern, methods, path, role in self._rows:
            if scope["method"] in methods and (found := pattern.match(scope["path"])):
                return MatchedRoute(path, role, found.groupdict())
        return None
