"""Who looks at a page: the token that their browser keeps, the client that shows it, and what they may do."""

from __future__ import annotations

import time
from typing import NoReturn

import streamlit as st

from dashboard.components.theme import plain
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError
from ucurve.schemas.users import CurrentUser

ASKED_AGAIN = 20.0  # seconds after which the API is asked anew who this is: a revoked token's pages close by then
TO_LOGIN = """<script>
const here = location.pathname + location.search;
location.replace("/login?next=" + encodeURIComponent(here));
</script>"""


def cookie_name(host: str) -> str:
    """With the port, since browsers share cookies between ports, and one machine may serve two labs."""
    port = host.rpartition(":")[2]
    return f"ucurve_{port}" if port.isdigit() else "ucurve"


def token() -> str:
    """The browser's token; empty on a lab that asks for none."""
    text = str(st.context.cookies.get(cookie_name(st.context.headers.get("Host") or ""), ""))
    return text if text.isascii() else ""  # ours are ASCII, and so are HTTP headers


@st.cache_resource(show_spinner=False, max_entries=500, ttl="1h")
def _client(token: str) -> Client:
    return Client(token=token, timeout=10.0, retries=(0.1,))


def client() -> Client:
    """This session's connection to the API, which does not wait for a silent API: the page asks again.

    Take it before going aside: threads and callbacks of downloads have no session.
    """
    return _client(token())


@st.cache_resource(show_spinner=False)
def _known() -> dict[str, CurrentUser]:
    """Whom each token stood for last: while the API is silent a page that is loaded anew still knows who looks."""
    return {}


def me() -> CurrentUser | None:
    """Whom the API takes this session for; None before its first answer. Leads to the login where it knows nobody."""
    held: tuple[float, CurrentUser] | None = st.session_state.get("me")
    if held is None or time.monotonic() > held[0] + ASKED_AGAIN:
        try:
            held = st.session_state["me"] = (time.monotonic(), client().me())
            _known()[token()] = held[1]
        except RequestRejectedError as error:
            if error.status == 401:
                _known().pop(token(), None)
                to_login()
        except ApiUnavailableError:
            pass
    return held[1] if held else _known().get(token())


def to_login() -> NoReturn:
    """Ask who is there, and come back to this very page."""
    st.session_state.pop("me", None)
    st.html(TO_LOGIN, unsafe_allow_javascript=True)
    st.stop()


def cannot_submit() -> str | None:
    """Why this session may ask for nothing, to be said of a disabled button; None when it may, or when nobody knows yet."""
    now = me()
    if now is None or now.may("submitter"):
        return None
    return f"You are a {now.user.role}: you may read everything. An admin can make you a submitter."


def cannot_steer(owner: str, verb: str) -> str | None:
    """The same of pausing, cancelling, editing what belongs to `owner`."""
    now = me()
    if now is None or now.may_change(owner):
        return None
    return (
        cannot_submit()
        or f"Only {owner} and admins may {verb} it. Clone it to have one of your own."
    )


def badge() -> None:
    """Who is signed in, at the top of every page, with the way out."""
    now = me()
    if now is None or (now.access == "open" and now.token is None):
        return
    with (
        st.container(key="whoami"),
        st.popover(plain(now.user.name), icon=":material/account_circle:", type="tertiary"),
    ):
        st.markdown(f"**{plain(now.user.name)}** · {now.user.role}")
        assert now.token is not None
        ends = (
            f"until {now.token.expires_at:%Y-%m-%d %H:%M} UTC"
            if now.token.expires_at
            else "for ever"
        )
        lines = [
            f"Signed in with the token “{now.token.name}”, valid {ends}.",
            f"{now.user.num_queued:,} of {now.user.most_queued:,} points queued.",
            f"An experiment may have {now.user.most_planned:,} points.",
        ]
        st.markdown("  \n".join(f":small[:gray[{plain(line)}]]" for line in lines))
        st.html('<a class="sign-out" href="/logout" target="_self">Sign out</a>')
