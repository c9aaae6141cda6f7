"""Commands about users and API keys."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from ucurve.cli.arguments import Command, InputError, connect
from ucurve.formatting import count
from ucurve.schemas.users import ROLES


def commands(command: Command) -> None:
    command("whoami", whoami, "show the current user, role and limits")
    _token_commands(command)
    _user_commands(command)


def _token_commands(command: Command) -> None:
    tokens = command("tokens", None, "manage API keys").add_subparsers(
        required=True, metavar="COMMAND"
    )
    parser = command(
        "create",
        create_token,
        "create an API key and print it; it is shown only once",
        tokens,
        examples=(
            "ucurve tokens create laptop",
            "ucurve tokens create ci --user ada --role submitter --days never",
        ),
    )
    parser.add_argument("name", help="what it is for, such as: laptop")
    parser.add_argument("--user", help="owner of the key (admins only; default: yourself)")
    parser.add_argument(
        "--role", choices=ROLES, help="role of the user, who is created if missing (admins only)"
    )
    parser.add_argument(
        "--days", type=days, default=90.0, help="lifetime in days, or 'never' (default: 90)"
    )
    parser.set_defaults(fields={"owner": "--user"})
    command("list", list_tokens, "list your API keys; admins see those of all users", tokens)
    parser = command("revoke", revoke_token, "revoke an API key", tokens)
    parser.add_argument("id", type=int, help="id of the key, see `ucurve tokens list`")


def _user_commands(command: Command) -> None:
    users = command("users", None, "manage users: roles, limits, access").add_subparsers(
        required=True, metavar="COMMAND"
    )
    command("list", list_users, "list users with roles and limits", users)
    parser = command(
        "set",
        set_user,
        "set role or limits of a user, who is created if missing (admins only)",
        users,
        examples=("ucurve users set ada --role submitter --most-queued 5000",),
    )
    parser.add_argument("name", help="user name")
    parser.add_argument("--role", choices=ROLES, help="what the user may do")
    parser.add_argument(
        "--most-queued", type=limit, help="maximum queued evaluations, or 'lab' for the default"
    )
    parser.add_argument(
        "--most-planned",
        type=limit,
        help="maximum evaluations of one experiment, or 'lab' for the default",
    )
    for verb, help in (
        ("block", "reject a user's API keys and sign-ins (admins only)"),
        ("unblock", "restore a user's access (admins only)"),
    ):
        parser = command(verb, partial(block_user, verb == "block"), help, users)
        parser.add_argument("name", help="user name")


def days(text: str) -> float | None:
    """Parse a number of days, or "never"."""
    try:
        return None if text == "never" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a number of days nor "never"'
        ) from None


def limit(text: str) -> int | str:
    """Parse a limit: an integer, or "lab" for the lab's default."""
    if text == "lab":
        return text
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'{text!r} is neither an integer nor "lab"')
    return int(text)


def whoami(args: argparse.Namespace) -> None:
    me = connect(args).me()
    user = me.user
    access = "open access, no API key" if me.token is None else f"API key {me.token.name!r}"
    print(f"{user.name}, {user.role} ({access})")
    print(
        f"{count(user.num_queued)} of {count(user.most_queued)} evaluations queued; "
        f"at most {count(user.most_planned)} evaluations per experiment"
    )


def create_token(args: argparse.Namespace) -> None:
    client = connect(args)
    if args.role:
        client.set_user(args.user or client.me().user.name, role=args.role)
    print(client.create_token(args.name, args.days, args.user).secret)


def list_tokens(args: argparse.Namespace) -> None:
    from ucurve.cli.table_layout import show
    from ucurve.cli.tables import tokens_table

    show(tokens_table(connect(args).tokens()))


def revoke_token(args: argparse.Namespace) -> None:
    token = connect(args).revoke_token(args.id)
    print(f"API key {token.id} ({token.name}) of {token.owner} is {token.state}")


def list_users(args: argparse.Namespace) -> None:
    from ucurve.cli.table_layout import show
    from ucurve.cli.tables import users_table

    show(users_table(connect(args).users()))


def block_user(blocked: bool, args: argparse.Namespace) -> None:
    user = connect(args).set_user(args.name, blocked=blocked)
    print(f"{user.name} is {'blocked' if user.blocked_at else 'unblocked'}")


def set_user(args: argparse.Namespace) -> None:
    options = ("role", "most_queued", "most_planned")
    change: dict[str, Any] = {
        name: None if value == "lab" else value
        for name in options
        if (value := getattr(args, name)) is not None
    }
    if not change:
        raise InputError("nothing to set: use --role, --most-queued or --most-planned")
    user = connect(args).set_user(args.name, **change)
    print(
        f"{user.name}: {user.role}, at most {count(user.most_queued)} queued evaluations and "
        f"{count(user.most_planned)} per experiment"
    )
