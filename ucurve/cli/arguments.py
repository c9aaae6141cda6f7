"""Parsing of arguments and files, and how a command ends."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from getpass import getpass
from pathlib import Path
from typing import Any

from ucurve.analysis.verdict_order import by_claim, caveats_of, standing
from ucurve.client import Client
from ucurve.client.api_keys import TokenFileError, token_from
from ucurve.formatting import scope_title
from ucurve.registry.names.token_batches import BatchesError, batches_text, parse_batches
from ucurve.schemas.validation_messages import not_json
from ucurve.spec import Verdict

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
Command = Callable[..., argparse.ArgumentParser]  # (name, run, help) -> the new command's parser
TOKEN_WARNING = (
    "ucurve: warning: --token KEY shows the key to all users of this machine (in the process list) "
    "and will be removed in the next release: use --token-file, UCURVE_TOKEN_FILE, UCURVE_TOKEN or "
    "--token -"
)
EXPERIMENT = "experiment id, see `ucurve list`"
PRIORITY = "-10 to 10; higher runs first"


class InputError(ValueError):
    """Invalid input; the message says how to fix it."""


def fail(message: object, status: int) -> int:
    """Print an error message and return the exit status."""
    print(f"ucurve: {message}", file=sys.stderr)
    return status


def connect(args: argparse.Namespace) -> Client:
    """Return a client for --url and the API key of the options (see `_api_key`)."""
    if "api_key" not in args:
        args.api_key = _api_key(args)  # standard input is read once
    return Client(args.url, args.api_key, source="cli")


def _api_key(args: argparse.Namespace) -> str | None:
    """Return the API key of --token-file or --token, None where neither is given.

    `--token -` reads one line of standard input, without an echo where that is a terminal.
    """
    if args.token_file:
        if args.token:
            raise InputError("use either --token-file or --token")
        try:
            return token_from(args.token_file)
        except TokenFileError as error:
            raise InputError(str(error)) from error
    if args.token == "-":
        return getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if args.token:
        print(TOKEN_WARNING, file=sys.stderr)
    return str(args.token) if args.token is not None else None


def positive(text: str) -> int:
    """Parse a positive integer."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def tokens_per_step(text: str) -> int | str:
    """Parse a number of tokens, or ranges such as 0:2097152,1000:4194304."""
    try:
        batches = parse_batches(text)
    except BatchesError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return batches_text(batches) if len(batches) > 1 else batches[0][1]


def port(text: str) -> int:
    """Parse a TCP port."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a number from 1 to 65535")
    return int(text)


def json_from(path: str) -> Any:
    """Return the JSON in a file, or in standard input for "-"."""
    source = "standard input" if path == "-" else path
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        return json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {source}: {reason}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{source} is {not_json(error)}") from error


def write(path: Path, content: bytes) -> None:
    """Write a file and print its path; missing folders are created."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"cannot write to {path.parent}: {error.strerror}; choose another path with -o"
        ) from error
    print(path)


def labels_text(labels: dict[str, Any]) -> str:
    """Format a point's labels: "suite tiny, gamma 0.1"."""
    return ", ".join(f"{name} {value}" for name, value in labels.items() if value is not None)


def print_verdicts(verdicts: Sequence[Verdict], all_settings: bool = False) -> None:
    """Print verdicts claim by claim, after their caveats; per-setting ones are only counted unless
    requested.
    """
    for caveat in caveats_of(verdicts):
        print(f"caution: {caveat}")
    for claim in by_claim(verdicts):
        print(claim.name)
        for verdict in [*claim.summaries, *(claim.details if all_settings else [])]:
            scope = f"{scope_title(verdict.scope)}: " if verdict.scope else ""
            basis = f" [{verdict.basis}]" if verdict.basis else ""
            print(f"  {standing(verdict):<12}  {scope}{verdict.sentence}{basis}")
        if claim.details and not all_settings:
            print(f"  {claim.details_title} (use --all to list)")
        if discoveries := claim.discoveries:
            print(f"  {discoveries}")
