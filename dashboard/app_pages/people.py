"""People: your tokens, and everybody's role and limits, which an admin sets here."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard.auth import session
from dashboard.components.theme import ago, caption, counted, plain
from dashboard.forms import widgets
from dashboard.live import pages
from ucurve.client import ClientError
from ucurve.schemas.users import ROLES, CurrentUser, Token, User

LIFETIMES = {"a week": 7.0, "90 days": 90.0, "a year": 365.0, "until revoked": None}
STATES = {
    "valid": ":green-badge[:material/check: valid]",
    "expired": ":orange-badge[:material/schedule: expired]",
}


def attempt(what: str, ask: Callable[[], Any]) -> None:
    """Do what was clicked; a refusal is said beside what it is about."""
    st.session_state["people refused"] = ("", "")
    try:
        ask()
    except (ClientError, ValueError) as error:
        st.session_state["people refused"] = (what, str(error))


def say_refusal(what: str) -> None:
    with st.container():
        about, why = st.session_state.get("people refused", ("", ""))
        if about == what:
            st.warning(plain(why), icon=":material/block:")


def made(name: str, days: float | None, owner: str) -> None:
    st.session_state["secret"] = pages.client().create_token(name, days, owner)
    widgets.set_value("token:name", "")


def token_row(token: Token) -> None:
    with st.container(border=True):
        words, action = st.columns([5, 1.4], vertical_alignment="center")
        ends = token.expires_at
        left = "until revoked" if ends is None else f"until {ends:%Y-%m-%d}"
        used = f"used {ago(token.used_at)}" if token.used_at else "never used"
        state = STATES.get(token.state, ":gray-badge[:material/block: revoked]")
        words.markdown(
            f"**{plain(token.name)}** {state}  \n:small[:gray[{plain(f'{token.owner} · {left} · {used}')}]]"
        )
        if token.state == "valid":
            action.button(
                "Revoke",
                f"revoke:{token.id}",
                "For good: whatever shows it is refused from then on.",
                on_click=attempt,
                args=("tokens", lambda: pages.client().revoke_token(token.id)),
                width="stretch",
            )


def new_token(me: CurrentUser, users: list[User]) -> None:
    """Its secret stays on the page until the next one is made, or the browser loads the page anew."""
    with st.expander("New token", icon=":material/add:"):
        name = (
            widgets.persistent_widget(
                st.text_input, "token:name", "What for", placeholder="laptop, CI, a notebook"
            )
            or ""
        )
        life = widgets.persistent_widget(
            st.segmented_control,
            "token:life",
            "Valid for",
            default="90 days",
            options=list(LIFETIMES),
            required=True,
        )
        owner = me.user.name
        if me.may("admin"):
            names = [me.user.name, *(user.name for user in users if user.name != me.user.name)]
            owner = (
                widgets.persistent_widget(
                    st.selectbox, "token:owner", "Whose", default=me.user.name, options=names
                )
                or me.user.name
            )
        days = LIFETIMES[life or "90 days"]
        make = lambda: made(name.strip(), days, owner)  # noqa: E731
        st.button(
            "Make token",
            type="primary",
            disabled=not name.strip(),
            on_click=attempt,
            args=("tokens", make),
        )
    with st.container():
        if secret := st.session_state.get("secret"):
            words = f"The token “{plain(secret.name)}” of {plain(secret.owner)}. Copy it now: it is shown this once."
            st.success(words, icon=":material/key:")
            st.code(secret.secret, language=None)


def change(name: str, **values: Any) -> None:
    attempt(f"user {name}", lambda: pages.client().set_user(name, **values))


def user_row(me: CurrentUser, user: User) -> None:
    with st.container(border=True):
        words, role = st.columns([3, 2], vertical_alignment="center")
        limits = f"{user.num_queued:,} of {user.most_queued:,} points queued · at most {user.most_planned:,} in one experiment"
        blocked = (
            f" :red-badge[:material/block: blocked {ago(user.blocked_at)}]"
            if user.blocked_at
            else ""
        )
        words.markdown(f"**{plain(user.name)}**{blocked}  \n:small[:gray[{plain(limits)}]]")
        key = f"role:{user.name}"
        role.selectbox(
            f"Role of {user.name}",
            ROLES,
            index=ROLES.index(user.role),
            key=key,
            label_visibility="collapsed",
            disabled=not me.may("admin"),
            help=None if me.may("admin") else "An admin sets roles.",
            on_change=lambda: change(user.name, role=st.session_state[key]),
        )
        say_refusal(f"user {user.name}")
        if me.may("admin"):
            with st.container(horizontal=True):
                limits_of(user)
                letting_in(user)


def letting_in(user: User) -> None:
    """Whether their tokens and sign-ins count; the button takes back what it did."""
    blocked = user.blocked_at is not None
    st.button(
        "Let in again" if blocked else "Block",
        f"block:{user.name}",
        ""
        if blocked
        else "Their tokens are refused and nobody signs in as them. What they asked for goes on; you may cancel it.",
        on_click=lambda: change(user.name, blocked=not blocked),
        icon=":material/lock_open:" if blocked else ":material/block:",
        type="tertiary",
    )


def limits_of(user: User) -> None:
    with st.popover("Limits", icon=":material/tune:", type="tertiary"):
        asked: dict[str, int | None] = {}
        for field, label in (
            ("most_queued", "Points queued at one time"),
            ("most_planned", "Points of one experiment"),
        ):
            own = getattr(user, field) if field in user.own_limits else None
            asked[field] = st.number_input(
                label,
                0,
                value=own,
                key=f"{field}:{user.name}",
                placeholder="the lab's",
                format="%d",
            )
        caption("Empty: the lab's limit.")
        st.button("Set limits", f"limits:{user.name}", on_click=lambda: change(user.name, **asked))


def new_user() -> None:
    with st.expander("New user", icon=":material/person_add:"):
        name = (
            widgets.persistent_widget(
                st.text_input, "user:name", "Name", placeholder="ada, or ada@example.org"
            )
            or ""
        )
        role = widgets.persistent_widget(
            st.segmented_control,
            "user:role",
            "Role",
            default="submitter",
            options=list(ROLES),
            required=True,
        )
        st.button(
            "Add user",
            type="primary",
            disabled=not name.strip(),
            on_click=lambda: add_user(name.strip(), role or "submitter"),
        )
    say_refusal("new user")


def add_user(name: str, role: str) -> None:
    def add() -> None:
        pages.client().set_user(name, role=role)
        widgets.set_value("user:name", "")

    attempt("new user", add)


def body() -> None:
    me = session.me()
    users, tokens = (
        pages.cached("users", pages.client().users),
        pages.cached("tokens", pages.client().tokens),
    )
    if me is None or users is None or tokens is None:
        return
    left, right = st.columns(2, gap="large")
    with left:
        whose = "Tokens of everybody" if me.may("admin") else "Your tokens"
        st.markdown(
            f"## {whose}", anchors=False, help="A key to the lab for a program or a browser."
        )
        new_token(me, users)
        say_refusal("tokens")
        for token in [one for one in tokens if one.state == "valid"]:
            token_row(token)
        if ended := [one for one in tokens if one.state != "valid"]:
            with st.expander(counted(len(ended), "token") + " ended"):
                for token in ended:
                    token_row(token)
        if not tokens:
            caption("None yet.")
    with right:
        st.markdown(
            "## Everybody",
            anchors=False,
            help="Viewers read, submitters ask for measurements, admins run the lab.",
        )
        if me.access == "open":
            caption(
                "This lab is open: whoever sits at this machine acts as an admin. Roles count once it asks for tokens."
            )
        if me.may("admin"):
            new_user()
        for user in users:
            user_row(me, user)


st.title("People", anchor=False)
pages.run(body, interval=None, before=widgets.remember)
