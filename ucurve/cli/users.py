"""Commands about people: who I am, tokens, roles and limits."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from ucurve.cli.arguments import Command, InputError, client
from ucurve.schemas.users import ROLES


def commands(command: Command) -> None:
    command("whoami", whoami, "whom the lab takes you for, your role and limits")

    tokens = command("tokens", None, "keys to the lab").add_subparsers(
        required=True, metavar="COMMAND"
    )
    made = command("create", create_token, "make a token and print it, this once", tokens)
    made.add_argument("name", help="what it is for, such as: laptop")
    made.add_argument("--user", help="whose (admins; default: yours)")
    made.add_argument(
        "--role", choices=ROLES, help="give the user this role, making them where missing (admins)"
    )
    made.add_argument(
        "--days", type=days, default=90.0, help='until it expires (default 90), or "never"'
    )
    command("list", list_tokens, "your tokens; everybody's for an admin", tokens)
    gone = command("revoke", revoke_token, "make a token useless for good", tokens)
    gone.add_argument("id", type=int, help="its number, see `ucurve tokens list`")

    users = command("users", None, "roles, limits, and who is let in").add_subparsers(
        required=True, metavar="COMMAND"
    )
    command("list", list_users, "everybody", users)
    change = command(
        "set", set_user, "set a role or limits, making the user where missing (admins)", users
    )
    change.add_argument("name")
    change.add_argument("--role", choices=ROLES)
    change.add_argument(
        "--most-queued",
        type=limit,
        help='points waiting in unfinished experiments at one time, or "lab"',
    )
    change.add_argument("--most-planned", type=limit, help='points of one experiment, or "lab"')
    for verb, what in (
        ("block", "refuse a user's tokens and sign-ins (admins)"),
        ("unblock", "let a user in again (admins)"),
    ):
        command(verb, partial(block_user, verb == "block"), what, users).add_argument("name")


def days(text: str) -> float | None:
    try:
        return None if text == "never" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a number of days nor "never"'
        ) from None


def limit(text: str) -> int | str:
    if text != "lab" and not text.isdigit():
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a number nor "lab" (the limit of everybody)'
        )
    return text if text == "lab" else int(text)


def whoami(given: argparse.Namespace) -> None:
    me = client(given).me()
    by = "no token needed here" if me.token is None else f"by the token {me.token.name!r}"
    print(f"{me.user.name}, {me.user.role} ({by})")
    print(
        f"{me.user.num_queued} of {me.user.most_queued} points queued; {me.user.most_planned} points at most in one experiment"
    )


def create_token(given: argparse.Namespace) -> None:
    lab = client(given)
    if given.role:
        lab.set_user(given.user or lab.me().user.name, role=given.role)
    print(lab.create_token(given.name, given.days, given.user).secret)


def list_tokens(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import show, tokens_table

    show(tokens_table(client(given).tokens()))


def revoke_token(given: argparse.Namespace) -> None:
    token = client(given).revoke_token(given.id)
    print(f"token {token.id} ({token.name}) of {token.owner} is {token.state}")


def list_users(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import show, users_table

    show(users_table(client(given).users()))


def block_user(blocked: bool, given: argparse.Namespace) -> None:
    user = client(given).set_user(given.name, blocked=blocked)
    print(
        f"{user.name} is "
        + ("blocked: tokens and sign-ins are refused" if user.blocked_at else "let in again")
    )


def set_user(given: argparse.Namespace) -> None:
    change: dict[str, Any] = {
        name: getattr(given, name) for name in ("role", "most_queued", "most_planned")
    }
    change = {
        name: None if value == "lab" else value
        for name, value in change.items()
        if value is not None
    }
    if not change:
        raise InputError("nothing to set: give --role, --most-queued or --most-planned")
    user = client(given).set_user(given.name, **change)
    print(
        f"{user.name} is a {user.role}: {user.most_queued} points queued at one time, {user.most_planned} in one experiment"
    )
