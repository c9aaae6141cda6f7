"""People: API keys, and every user's role and limits, which admins set here."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard.auth import session
from dashboard.components.theme import ago, caption, counted, message, plain, small
from dashboard.forms import widgets
from dashboard.live import pages
from ucurve.client import ClientError
from ucurve.formatting import audit_details
from ucurve.schemas.users import ROLES, CurrentUser, Token, User

LIFETIMES = {"7 days": 7.0, "90 days": 90.0, "1 year": 365.0, "no expiry": None}
STATES = {
    "valid": ":green-badge[:material/check: active]",
    "expired": ":orange-badge[:material/schedule: expired]",
    "revoked": ":gray-badge[:material/block: revoked]",
}
NUM_CHANGES = 100
LIMITS = {
    "most_queued": "Maximum queued evaluations",
    "most_planned": "Maximum evaluations per experiment",
}


def attempt(subject: str, action: Callable[[], Any]) -> None:
    """Run what was clicked; a refusal is shown beside its subject."""
    st.session_state["people refused"] = ("", "")
    try:
        action()
    except (ClientError, ValueError) as error:
        st.session_state["people refused"] = (subject, str(error))


def show_refusal(subject: str) -> None:
    with st.container():
        refused, reason = st.session_state.get("people refused", ("", ""))
        if refused == subject:
            st.warning(message(reason), icon=":material/block:")


# ------------------------------------------------------------ API keys


def create_key(name: str, days: float | None, owner: str) -> None:
    st.session_state["secret"] = pages.client().create_token(name, days, owner)
    widgets.set_value("token:name", "")


def key_row(token: Token) -> None:
    with st.container(border=True):
        text, action = st.columns([5, 1.4], vertical_alignment="center")
        expiry = f"expires {token.expires_at:%Y-%m-%d}" if token.expires_at else "no expiry"
        used = f"last used {ago(token.used_at)}" if token.used_at else "never used"
        details = small(f"{token.owner} · {expiry} · {used}")
        text.markdown(f"**{plain(token.name)}** {STATES[token.state]}  \n{details}")
        if token.state == "valid":
            action.button(
                "Revoke",
                f"revoke:{token.id}",
                "Permanent: the key stops working.",
                on_click=attempt,
                args=("tokens", lambda: pages.client().revoke_token(token.id)),
                width="stretch",
            )


def new_key(me: CurrentUser, users: list[User]) -> None:
    """Draw the form; a new secret stays on the page until the next one or a reload."""
    with st.expander("New API key", icon=":material/add:"):
        name = (
            widgets.persistent_widget(
                st.text_input, "token:name", "Name", placeholder="laptop, CI, notebook"
            )
            or ""
        )
        lifetime = widgets.persistent_widget(
            st.segmented_control,
            "token:life",
            "Expires after",
            default="90 days",
            options=list(LIFETIMES),
            required=True,
        )
        owner = me.user.name
        if me.may("admin"):
            names = [me.user.name, *(user.name for user in users if user.name != me.user.name)]
            owner = (
                widgets.persistent_widget(
                    st.selectbox, "token:owner", "User", default=me.user.name, options=names
                )
                or me.user.name
            )
        days = LIFETIMES[lifetime or "90 days"]
        st.button(
            "Create key",
            type="primary",
            disabled=not name.strip(),
            on_click=attempt,
            args=("tokens", lambda: create_key(name.strip(), days, owner)),
        )
    with st.container():
        if secret := st.session_state.get("secret"):
            st.success(
                f"API key “{plain(secret.name)}” for {plain(secret.owner)}. "
                "Copy it now: it is shown only once.",
                icon=":material/key:",
            )
            st.code(secret.secret, language=None)


def keys_section(me: CurrentUser, users: list[User], tokens: list[Token]) -> None:
    st.markdown(
        "## API keys" if me.may("admin") else "## Your API keys",
        anchors=False,
        help="Access tokens for programs, the command line and browsers.",
    )
    new_key(me, users)
    show_refusal("tokens")
    for token in tokens:
        if token.state == "valid":
            key_row(token)
    if inactive := [token for token in tokens if token.state != "valid"]:
        with st.expander(counted(len(inactive), "inactive key")):
            for token in inactive:
                key_row(token)
    if not tokens:
        caption("No API keys yet.")


# ------------------------------------------------------------ users


def change(name: str, **values: Any) -> None:
    attempt(f"user {name}", lambda: pages.client().set_user(name, **values))


def user_row(me: CurrentUser, user: User) -> None:
    with st.container(border=True):
        text, role = st.columns([3, 2], vertical_alignment="center")
        limits = (
            f"{user.num_queued:,} of {user.most_queued:,} evaluations queued · "
            f"at most {user.most_planned:,} per experiment"
        )
        blocked = (
            f" :red-badge[:material/block: blocked {ago(user.blocked_at)}]"
            if user.blocked_at
            else ""
        )
        text.markdown(f"**{plain(user.name)}**{blocked}  \n{small(limits)}")
        key = f"role:{user.name}"
        role.selectbox(
            f"Role of {user.name}",
            ROLES,
            index=ROLES.index(user.role),
            key=key,
            label_visibility="collapsed",
            disabled=not me.may("admin"),
            help=None if me.may("admin") else "Only admins can change roles.",
            on_change=lambda: change(user.name, role=st.session_state[key]),
        )
        show_refusal(f"user {user.name}")
        if me.may("admin"):
            with st.container(horizontal=True):
                limits_form(user)
                block_button(user)


def block_button(user: User) -> None:
    """Draw the button that blocks the user, or unblocks a blocked one."""
    blocked = user.blocked_at is not None
    st.button(
        "Unblock" if blocked else "Block",
        f"block:{user.name}",
        ""
        if blocked
        else "Rejects the user’s API keys and sign-ins. Their experiments continue; "
        "you can cancel them.",
        on_click=lambda: change(user.name, blocked=not blocked),
        icon=":material/lock_open:" if blocked else ":material/block:",
        type="tertiary",
    )


def limits_form(user: User) -> None:
    with st.popover("Limits", icon=":material/tune:", type="tertiary"):
        limits: dict[str, int | None] = {}
        for field, label in LIMITS.items():
            limits[field] = st.number_input(
                label,
                0,
                value=getattr(user, field) if field in user.own_limits else None,
                key=f"{field}:{user.name}",
                placeholder="lab default",
                format="%d",
            )
        caption("Leave empty for the lab’s default.")
        st.button("Set limits", f"limits:{user.name}", on_click=lambda: change(user.name, **limits))


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
    show_refusal("new user")


def add_user(name: str, role: str) -> None:
    def add() -> None:
        pages.client().set_user(name, role=role)
        widgets.set_value("user:name", "")

    attempt("new user", add)


def users_section(me: CurrentUser, users: list[User]) -> None:
    st.markdown(
        "## Users",
        anchors=False,
        help="Viewers read, submitters run experiments, admins manage the lab.",
    )
    if me.access == "open":
        caption(
            "Open access: everyone on this machine is an admin. "
            "Roles apply once the lab requires API keys."
        )
    if me.may("admin"):
        new_user()
    for user in users:
        user_row(me, user)


def audit_section() -> None:
    """Draw the latest changes by all users; the file has all of them."""
    st.markdown(
        "## Recent changes",
        anchors=False,
        help="Who submitted, cancelled, deleted or changed what. `ucurve audit -o audit.csv` "
        "exports the whole trail.",
    )
    name = widgets.persistent_widget(
        st.text_input, "audit:user", "User", placeholder="all users", max_chars=200
    )
    query = {"user": name.strip()} if name and name.strip() else {}
    client = pages.client()
    page = pages.cached(f"audit {query}", lambda: client.audit(limit=NUM_CHANGES, **query))
    if page is None:
        return
    if not page.records:
        caption("No changes.")
        return
    st.dataframe(
        [
            {
                "Time": record.at,
                "User": record.user,
                "Action": record.action,
                "Object": record.object,
                "From": f"{record.source} {record.address or ''}".strip(),
                "Details": audit_details(record.details),
            }
            for record in page.records
        ],
        hide_index=True,
    )


def body() -> None:
    me = session.me()
    users = pages.cached("users", pages.client().users)
    tokens = pages.cached("tokens", pages.client().tokens)
    if me is None or users is None or tokens is None:
        return
    left, right = st.columns(2, gap="large")
    with left:
        keys_section(me, users, tokens)
    with right:
        users_section(me, users)
    if me.may("admin"):
        audit_section()


st.title("People", anchor=False)
pages.run(body, interval=None, before=widgets.remember)
