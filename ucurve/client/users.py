"""Users and API keys: the current user, roles and limits, keys, sign-in."""

from __future__ import annotations

from typing import Any

from ucurve.client.http import HttpClient, list_of
from ucurve.schemas.users import (
    CurrentUser,
    NewToken,
    SignIn,
    Token,
    TokenSubmission,
    User,
    UserChange,
)


class UserResource(HttpClient):
    def me(self) -> CurrentUser:
        """Return the current user with role, limits and the API key in use."""
        return CurrentUser.model_validate(self._request("GET", "/v1/me"))

    def users(self) -> list[User]:
        """Return all users with roles and limits."""
        return list_of(User, self._request("GET", "/v1/users"))

    def set_user(self, name: str, **change: Any) -> User:
        """Set `role`, `most_queued`, `most_planned` or `blocked`; a missing user is created.

        `most_queued=None` and `most_planned=None` restore the lab's default limit.
        """
        body = UserChange(**change).model_dump(mode="json", exclude_unset=True)
        return User.model_validate(self._request("PUT", f"/v1/users/{name}", json=body))

    def tokens(self) -> list[Token]:
        """Return your API keys; an admin sees those of all users."""
        return list_of(Token, self._request("GET", "/v1/tokens"))

    def create_token(
        self, name: str, days: float | None = 90.0, owner: str | None = None
    ) -> NewToken:
        """Create an API key. Its `secret` is shown only once.

        days: lifetime; None never expires. owner: another user (admins only).
        """
        body = TokenSubmission(name=name, days=days, owner=owner).model_dump(mode="json")
        return NewToken.model_validate(self._request("POST", "/v1/tokens", json=body))

    def revoke_token(self, id: int) -> Token:
        """Revoke an API key. This cannot be undone."""
        return Token.model_validate(self._request("DELETE", f"/v1/tokens/{id}"))

    def sign_in(self, id_token: str, nonce: str) -> NewToken:
        """Exchange an OIDC ID token for a session token."""
        body = SignIn(id_token=id_token, nonce=nonce).model_dump(mode="json")
        return NewToken.model_validate(self._request("POST", "/v1/sessions", json=body))

    def sign_out(self) -> None:
        """Revoke the session token in use."""
        self._send("DELETE", "/v1/sessions/current")
