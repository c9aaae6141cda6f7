"""Authorization: the roles, and the role that each route requires.

    def read(user: Viewer): ...         any authenticated user
    def submit(user: Submitter): ...    may submit experiments
    def submit(owner: Owner): ...       the same, as the name of the user
    def clean(user: Admin): ...         administers the lab
    require_owner(user, row.owner, "cancel experiment 7")   in a route: only the owner and admins

A route that declares no role requires viewer when it only reads (GET), submitter otherwise. The
user was authenticated before any route (authentication.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.errors import ApiError
from ucurve.schemas.users import ROLES, Role

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Principal:
    """The authenticated user of a request."""

    name: str
    role: Role
    token: int | None = None  # id of the access token in use

    def has(self, role: Role) -> bool:
        """Return whether the user has this role or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class RequireRole:
    """A dependency that declares the role of a route; `enforce_role` checks it first."""

    role: Role

    def __call__(self, request: Request) -> Principal:
        return current_user(request)


def current_user(request: Request) -> Principal:
    """Return the user whom the authentication middleware put into the request."""
    user = request.scope.get("ucurve.user")
    assert isinstance(user, Principal), "only public routes are reached without authentication"
    return user


async def public() -> None:
    """A dependency that declares a route open to all, authenticated or not."""


VIEWER, SUBMITTER, ADMIN = (RequireRole(role) for role in ROLES)
Viewer = Annotated[Principal, Depends(VIEWER)]
Submitter = Annotated[Principal, Depends(SUBMITTER)]
Admin = Annotated[Principal, Depends(ADMIN)]
Public = Depends(public)


def owner(user: Submitter) -> str:
    """Return the name of the user, who owns what the request creates."""
    return user.name


Owner = Annotated[str, Depends(owner)]


def declared_role(route: APIRoute) -> Role | Literal["public"] | None:
    """Return the role that a route's dependencies declare; None without one."""
    calls = list(_calls(route.dependant))
    if public in calls:
        return "public"
    roles = [call.role for call in calls if isinstance(call, RequireRole)]
    return max(roles, key=ROLES.index) if roles else None


def required_role(route: APIRoute) -> Role | Literal["public"]:
    """Return the role that a route requires, declared or by default."""
    reads = (route.methods or set()) <= READ_METHODS
    return declared_role(route) or ("viewer" if reads else "submitter")


def _calls(dependant: Dependant) -> Iterator[object]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)


async def enforce_role(request: Request) -> None:
    """Answer 403 where the user lacks the route's role (a dependency of the whole app).

    Async: in the event loop it is cheaper than a thread, and health checks need no free thread.
    """
    role = required_role(request.scope["route"])
    if role == "public":
        return
    user = current_user(request)
    if not user.has(role):
        raise ApiError(403, refusal(user, role))


def refusal(user: Principal, role: Role) -> str:
    """Return why a user who lacks a role may not do what requires it."""
    return (
        f"This requires the role {role}; {user.name} is a {user.role}. "
        f"An admin can change that: ucurve users set {user.name} --role {role}"
    )


def require_owner(user: Principal, owner: str, action: str) -> None:
    """Answer 403 unless the user is the owner or an admin; action: "cancel experiment 7"."""
    if user.name != owner and not user.has("admin"):
        raise ApiError(
            403,
            f"Only {owner} and admins can {action}. You can view, clone or extend it instead.",
        )
