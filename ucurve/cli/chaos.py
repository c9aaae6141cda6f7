"""The command that breaks a lab of its own and proves that no number was harmed."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path

from ucurve.cli.arguments import FAILED, Command, fail, positive, write


def commands(command: Command) -> None:
    parser = command(
        "chaos",
        chaos,
        "break a lab of its own for minutes, then prove that no number was lost or harmed",
        examples=("ucurve chaos --minutes 10 --seed 1 --json chaos.json",),
    )
    parser.add_argument(
        "--minutes", type=minutes, default=10.0, help="minutes of faults (default: 10)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="draws the schedule of faults (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=positive, default=2, help="workers of the lab (default: %(default)s)"
    )
    parser.add_argument(
        "--people", type=positive, default=3, help="users, 1 to 4 (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole report here")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="copy the logs of the lab, and what people did, to this folder",
    )


def minutes(text: str) -> float:
    """Parse a positive number of minutes."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 24 * 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes: use 1 to 1440")
    return value


def chaos(args: argparse.Namespace) -> int:
    try:
        from ucurve.chaos.report import text
        from ucurve.chaos.run import ChaosRun
    except ImportError as error:
        return fail(f"{error}: pip install 'ucurve[embedded]'", FAILED)

    for number in (signal.SIGINT, signal.SIGTERM):  # in the background, too: both clean up
        signal.signal(number, signal.default_int_handler)
    try:
        report = ChaosRun(
            args.minutes, args.seed, args.workers, min(args.people, 4), args.keep
        ).run()
    except RuntimeError as error:
        return fail(error, FAILED)
    print(text(report))
    if args.json is not None:
        write(args.json, json.dumps(report.as_json(), indent=1, default=str).encode())
    return 0 if report.holds else FAILED
