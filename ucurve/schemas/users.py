"""People over HTTP: who somebody is and may be, their limits, and the tokens they show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ucurve.schemas.strict_numbers import StrictNumbers

Role = Literal["viewer", "submitter", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "submitter", "admin")  # each may do what those before it may
NAME = r"^[\w.@+-]{1,80}$"
Days = Annotated[float, Field(gt=0, le=3650)]
Limit = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Token(BaseModel):
    """What is known of a token; not the token."""

    id: int
    owner: str
    name: str
    state: Literal["valid", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


class NewToken(Token):
    """The one answer that shows the secret."""

    secret: str


class TokenSubmission(StrictNumbers):
    """What is POSTed to /v1/tokens."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        min_length=1, max_length=80, description="What it is for: laptop, CI, a notebook."
    )
    days: Days | None = Field(90.0, description="Until it expires; null: never.")
    owner: str | None = Field(
        None, description="Whose; yours when empty. Another person's only by an admin."
    )


class SignIn(BaseModel):
    """What is POSTed to /v1/sessions: an identity provider's word for who somebody is."""

    model_config = ConfigDict(extra="forbid")

    id_token: str = Field(max_length=20_000)
    nonce: str = Field(
        min_length=16,
        max_length=200,
        description="As sent to the provider; the token has to repeat it.",
    )


class User(BaseModel):
    """A person, their limits, and how much of them is used."""

    name: str
    role: Role
    most_queued: int  # points waiting in unfinished experiments at one time
    most_planned: int  # points of one experiment
    own_limits: list[
        Literal["most_queued", "most_planned"]
    ] = []  # set for this person; the others are the lab's
    num_queued: int
    blocked_at: datetime | None = None  # since when nobody is let in as them
    created_at: datetime | None


class UserChange(StrictNumbers):
    """What is PUT to /v1/users/{name}. What is left out stays; a limit of null is the lab's again."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = Field(None, description="A new user without a role is a submitter.")
    most_queued: Limit | None = Field(
        None, description="Points waiting in unfinished experiments at one time."
    )
    most_planned: Limit | None = Field(None, description="Points of one experiment.")
    blocked: bool | None = Field(
        None,
        description="True: their tokens are refused and nobody signs in as them, until it is false.",
    )


class CurrentUser(BaseModel):
    """Whom the API takes the caller for."""

    user: User
    access: Literal["open", "tokens"]
    token: Token | None  # None on a lab of one's own

    def may(self, role: Role) -> bool:
        return ROLES.index(self.user.role) >= ROLES.index(role)

    def may_change(self, owner: str) -> bool:
        """Whether what belongs to `owner` is the caller's to steer."""
        return self.may("admin") or (self.may("submitter") and self.user.name == owner)
