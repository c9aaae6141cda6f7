"""Calls about people: who I am, roles and limits, tokens."""

from __future__ import annotations

from typing import Any

from ucurve.client.http import Wire, list_of
from ucurve.schemas.users import (
    Me,
    NewToken,
    SignIn,
    Token,
    TokenSubmission,
    User,
    UserChange,
)


class PeopleCalls(Wire):
    def me(self) -> Me:
        """Whom the lab takes me for, my limits, and the token that was shown."""
        return Me.model_validate(self._request("GET", "/v1/me"))

    def users(self) -> list[User]:
        return list_of(User, self._request("GET", "/v1/users"))

    def set_user(self, name: str, **change: Any) -> User:
        """Set `role`, `most_queued`, `most_planned` (None: the lab's limit again), `blocked`; the user is made where missing."""
        body = UserChange(**change).model_dump(mode="json", exclude_unset=True)
        return User.model_validate(self._request("PUT", f"/v1/users/{name}", json=body))

    def tokens(self) -> list[Token]:
        return list_of(Token, self._request("GET", "/v1/tokens"))

    def create_token(
        self, name: str, days: float | None = 90.0, owner: str | None = None
    ) -> NewToken:
        """The answer's `secret` is shown this once."""
        body = TokenSubmission(name=name, days=days, owner=owner).model_dump(mode="json")
        return NewToken.model_validate(self._request("POST", "/v1/tokens", json=body))

    def revoke_token(self, id: int) -> Token:
        return Token.model_validate(self._request("DELETE", f"/v1/tokens/{id}"))

    def sign_in(self, id_token: str, nonce: str) -> NewToken:
        """A token for whom an identity provider vouches."""
        body = SignIn(id_token=id_token, nonce=nonce).model_dump(mode="json")
        return NewToken.model_validate(self._request("POST", "/v1/sessions", json=body))

    def sign_out(self) -> None:
        """End the token that is shown, if signing in made it."""
        self._send("DELETE", "/v1/sessions/current", repeat=False)
