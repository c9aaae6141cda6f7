"""Who may do what: the roles, and what a route asks of whoever calls it.

def read(person: Viewer) ...      anybody who is known      def submit(person: Submitter) ...   may ask for measurements
def clean(person: Admin) ...      runs the lab              def submit(owner: Owner) ...        a submitter's name
only_owner(person, row.owner, "cancel experiment 7")        within a route: the owner's and the admins' matter

A route that declares nothing is open to viewers when it only reads (GET), to submitters otherwise. Who calls was found out
before any route (identity.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.errors import ProblemError
from ucurve.schemas.users import ROLES, Role

READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Person:
    """Who calls."""

    name: str
    role: Role
    token: int | None = None  # the number of the token that was shown

    def has(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class Needs:
    """A dependency that declares the role; it is checked by `admit`, before anything else of the route."""

    role: Role

    def __call__(self, request: Request) -> Person:
        return known(request)


def known(request: Request) -> Person:
    person = request.scope.get("ucurve.person")
    assert isinstance(person, Person), (
        "api.auth.authentication lets nobody in without a person, but for what is open to all"
    )
    return person


def everybody() -> None:
    """A dependency that declares a route open to all, known or not."""


VIEWER, SUBMITTER, ADMIN = (Needs(role) for role in ROLES)
Viewer = Annotated[Person, Depends(VIEWER)]
Submitter = Annotated[Person, Depends(SUBMITTER)]
Admin = Annotated[Person, Depends(ADMIN)]
Everybody = Depends(everybody)


def owner(person: Submitter) -> str:
    """The name under which what is made here is filed."""
    return person.name


Owner = Annotated[str, Depends(owner)]


def declared(route: APIRoute) -> Role | Literal["everybody"] | None:
    """What a route asks for by its dependencies; None when it declares nothing."""
    calls = list(_calls(route.dependant))
    if everybody in calls:
        return "everybody"
    roles = [call.role for call in calls if isinstance(call, Needs)]
    return max(roles, key=ROLES.index) if roles else None


def needed(route: APIRoute) -> Role | Literal["everybody"]:
    """What a route asks for, declared or not."""
    return declared(route) or ("viewer" if (route.methods or set()) <= READING else "submitter")


def _calls(dependant: Dependant) -> Iterator[object]:
    for one in dependant.dependencies:
        yield one.call
        yield from _calls(one)


def admit(request: Request) -> None:
    """The app's own dependency, on every route: 403 for whoever is known and may not."""
    need = needed(request.scope["route"])
    if need == "everybody":
        return
    person = known(request)
    if not person.has(need):
        raise ProblemError(
            403,
            f"This needs the role {need}; {person.name} is a {person.role}. "
            f"An admin can change that: ucurve users set {person.name} --role {need}",
        )


def only_owner(person: Person, owner: str, what: str) -> None:
    """Refuse whoever is neither the owner nor an admin. what: "cancel experiment 7"."""
    if person.name != owner and not person.has("admin"):
        raise ProblemError(
            403,
            f"Only {owner} and admins may {what}. You may read it, clone it and extend it: that makes one of your own.",
        )
