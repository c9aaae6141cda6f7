"""The session's user: the browser's token, its API client, and what the user may do."""

from __future__ import annotations

import time
from typing import NoReturn

import streamlit as st

from dashboard.components.theme import plain, small
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError
from ucurve.schemas.users import CurrentUser

CHECK_INTERVAL = 20.0  # seconds between checks of the token: pages of a revoked one close by then
MAX_USERS = 500  # remembered by their tokens
TO_LOGIN = """<script>
const here = location.pathname + location.search;
location.replace("/login?next=" + encodeURIComponent(here));
</script>"""


def cookie_name(host: str) -> str:
    """Return the cookie's name with the port: browsers share cookies between ports."""
    port = host.rpartition(":")[2]
    return f"ucurve_{port}" if port.isascii() and port.isdigit() else "ucurve"


def token() -> str:
    """Return the browser's token; empty in a lab with open access."""
    name = cookie_name(st.context.headers.get("Host") or "")
    text = str(st.context.cookies.get(name, ""))
    return text if text.isascii() else ""  # tokens are ASCII, and so are HTTP headers


@st.cache_resource(show_spinner=False, max_entries=500, ttl="1h")
def _client(token: str) -> Client:
    return Client(token=token, timeout=10.0, retries=(0.1,), source="dashboard", patience=10.0)


def client() -> Client:
    """Return the session's API client, which hardly retries: pages poll anyway.

    Call it before starting background work: threads and download callbacks have no session.
    """
    return _client(token())


@st.cache_resource(show_spinner=False)
def _users_by_token() -> dict[str, CurrentUser]:
    """Return the last known user of each token, for pages loaded while the API is away."""
    return {}


def _remember(user: CurrentUser) -> None:
    """Keep the user of this session's token; each sign-in makes one, so the oldest go."""
    users = _users_by_token()
    users.pop(token(), None)
    users[token()] = user
    for old in list(users)[:-MAX_USERS]:
        users.pop(old, None)


def me() -> CurrentUser | None:
    """Return the current user; None before the API's first answer.

    An invalid token leads to the login page.
    """
    cache: tuple[float, CurrentUser] | None = st.session_state.get("me")
    if cache is None or time.monotonic() > cache[0] + CHECK_INTERVAL:
        try:
            cache = st.session_state["me"] = (time.monotonic(), client().me())
            _remember(cache[1])
        except RequestRejectedError as error:
            if error.status == 401:
                _users_by_token().pop(token(), None)
                to_login()
        except ApiUnavailableError:
            pass
    return cache[1] if cache else _users_by_token().get(token())


def to_login() -> NoReturn:
    """Open the login page, which leads back to this page."""
    st.session_state.pop("me", None)
    st.html(TO_LOGIN, unsafe_allow_javascript=True)
    st.stop()


def cannot_submit() -> str | None:
    """Return why the user may not submit, as a disabled button's tooltip; None if they may."""
    user = me()
    if user is None or user.may("submitter"):
        return None
    return f"Your role is {user.user.role} (read-only). Ask an admin for the submitter role."


def cannot_steer(owner: str, verb: str) -> str | None:
    """Return why the user may not change what belongs to `owner`; None if they may."""
    user = me()
    if user is None or user.may_change(owner):
        return None
    return cannot_submit() or f"Only {owner} and admins can {verb} it. You can clone it instead."


def badge() -> None:
    """Draw the signed-in user at the top of every page, with a link to sign out."""
    user = me()
    if user is None or (user.access == "open" and user.token is None):
        return
    with (
        st.container(key="whoami"),
        st.popover(plain(user.user.name), icon=":material/account_circle:", type="tertiary"),
    ):
        st.markdown(f"**{plain(user.user.name)}** · {user.user.role}")
        assert user.token is not None
        expiry = (
            f"expires {user.token.expires_at:%Y-%m-%d %H:%M} UTC"
            if user.token.expires_at
            else "does not expire"
        )
        lines = [
            f"API key “{user.token.name}”, {expiry}",
            f"{user.user.num_queued:,} of {user.user.most_queued:,} evaluations queued",
            f"At most {user.user.most_planned:,} evaluations per experiment",
        ]
        st.markdown("  \n".join(small(line) for line in lines))
        st.html('<a class="sign-out" href="/logout" target="_self">Sign out</a>')
