"""Users: roles, limits, access tokens and sign-in."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ucurve.bounds import Name
from ucurve.schemas.strict_numbers import StrictNumbers

Role = Literal["viewer", "submitter", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "submitter", "admin")  # each includes the ones before it
SUPERVISOR = "ucurve-up"  # user agent of `ucurve up`, whose requests are not those of a person
NAME = r"^[\w.@+-]{1,80}$"
Days = Annotated[float, Field(gt=0, le=3650)]
Limit = Annotated[int, Field(ge=0, le=1_000_000_000)]
MAX_QUEUED = "Maximum queued points of all unfinished experiments."
MAX_PLANNED = "Maximum points of one experiment."


class Token(BaseModel):
    """An access token, without its secret."""

    id: int = Field(description="Id of the token.")
    owner: str = Field(description="User whom it authenticates.")
    name: str = Field(description="Where it is used, such as laptop.")
    state: Literal["valid", "expired", "revoked"] = Field(
        description="Only a valid one is accepted."
    )
    created_at: datetime = Field(description="Time of creation.")
    expires_at: datetime | None = Field(description="Time of expiry; null: never.")
    used_at: datetime | None = Field(description="Time of last use, to the minute.")
    revoked_at: datetime | None = Field(description="Time when it was revoked.")


class NewToken(Token):
    """An access token with its secret, which is shown only once."""

    secret: str = Field(description="Send it as `Authorization: Bearer SECRET`.")


class TokenSubmission(StrictNumbers):
    """An access token to create."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        min_length=1, max_length=80, description="Where it is used: laptop, CI, a notebook."
    )
    days: Days | None = Field(90.0, description="Days until it expires; null: never.")
    owner: Name | None = Field(
        None, description="User whom it authenticates; default: you. Others by admins only."
    )


class SignIn(BaseModel):
    """An ID token of the identity provider."""

    model_config = ConfigDict(extra="forbid")

    id_token: str = Field(max_length=20_000, description="The signed token (JWT).")
    nonce: str = Field(
        min_length=16,
        max_length=200,
        description="The nonce sent to the provider, which the token has to contain.",
    )


class User(BaseModel):
    """A user with role and limits."""

    name: str = Field(description="Name of the user.")
    role: Role = Field(
        description="viewer: reads; submitter: submits experiments too; admin: administers the lab."
    )
    most_queued: int = Field(description=MAX_QUEUED)
    most_planned: int = Field(description=MAX_PLANNED)
    own_limits: list[Literal["most_queued", "most_planned"]] = Field(
        [], description="Limits set for this user; the others are the lab's defaults."
    )
    num_queued: int = Field(description="Points queued now.")
    blocked_at: datetime | None = Field(
        None, description="Time when an admin blocked the user, who cannot sign in since."
    )
    created_at: datetime | None = Field(description="Time of creation.")


class UserChange(StrictNumbers):
    """Changes to a user: fields in the request change, the others stay."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = Field(None, description="Role; a new user without one is a submitter.")
    most_queued: Limit | None = Field(None, description=f"{MAX_QUEUED} null: the lab's default.")
    most_planned: Limit | None = Field(None, description=f"{MAX_PLANNED} null: the lab's default.")
    blocked: bool | None = Field(
        None, description="Blocked users cannot sign in, and their tokens are rejected."
    )


class CurrentUser(BaseModel):
    """The user of a request, and what they may do."""

    user: User = Field(description="Role and limits.")
    access: Literal["open", "tokens"] = Field(
        description="open: local requests need no token; tokens: every request needs one."
    )
    token: Token | None = Field(description="The token in use; null without one.")

    def may(self, role: Role) -> bool:
        """Return whether the user has this role or a higher one."""
        return ROLES.index(self.user.role) >= ROLES.index(role)

    def may_change(self, owner: str) -> bool:
        """Return whether the user may change what belongs to `owner`."""
        return self.may("admin") or (self.may("submitter") and self.user.name == owner)
