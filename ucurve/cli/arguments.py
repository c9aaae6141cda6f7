"""What was typed: the lab's address, numbers, files; and how a command ends."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ucurve.analysis.verdict_order import by_claim
from ucurve.client import Client
from ucurve.schemas.validation_messages import not_json
from ucurve.spec import Verdict

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
Command = Callable[..., argparse.ArgumentParser]  # (name, run, help) -> the new command's parser
EXPERIMENT = "the experiment's number, see `ucurve list`"


class InputError(ValueError):
    """What was typed cannot be used; the message names the remedy."""


def fail(message: object, status: int) -> int:
    print(f"ucurve: {message}", file=sys.stderr)
    return status


def client(given: argparse.Namespace) -> Client:
    return Client(given.url, given.token)


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a number from 1 to 65535")
    return int(text)


def json_from(path: str) -> Any:
    """What a file or "-" (standard input) holds."""
    where = "standard input" if path == "-" else path
    try:
        return json.loads(
            sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read {where}: {getattr(error, 'strerror', None) or error}"
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is {not_json(error)}") from error


def write(path: Path, content: bytes) -> None:
    """Write a file and say so; its folder is made where missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"cannot write to {path.parent}: {error.strerror}; choose another place with -o"
        ) from error
    print(path)


def tell(verdicts: Sequence[Verdict], all_conditions: bool = False) -> None:
    """Claim by claim, each answer with the numbers behind it; those of single conditions are counted, or all told."""
    for claim in by_claim(verdicts):
        print(claim.name)
        for verdict in [*claim.first, *(claim.single if all_conditions else [])]:
            scope = f"{verdict.scope}: " if verdict.scope else ""
            print(f"  {scope}{verdict.sentence}" + (f" [{verdict.basis}]" if verdict.basis else ""))
        if claim.single and not all_conditions:
            print(f"  {claim.folded} (--all tells them)")
