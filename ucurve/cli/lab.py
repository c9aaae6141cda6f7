"""Commands about the lab itself: start it, its workers, its version."""

from __future__ import annotations

import argparse
from pathlib import Path

from ucurve import __version__
from ucurve.cli.arguments import BAD_INPUT, FAILED, Command, client, count, fail, port
from ucurve.settings import settings


def commands(command: Command) -> None:
    made = command("up", up, "start a lab on this machine; Ctrl-C stops it")
    made.add_argument(
        "--data",
        type=Path,
        default=Path("~/.ucurve"),
        help="folder of everything it keeps (%(default)s)",
    )
    made.add_argument("--port", type=port, default=8000, help="of the API (%(default)s)")
    made.add_argument(
        "--dashboard-port", type=port, default=8501, help="of the dashboard (%(default)s)"
    )
    made.add_argument(
        "--workers", type=count, help="measuring processes (default: one per GPU, or 2)"
    )
    made.add_argument(
        "--no-demo", action="store_true", help="submit no demo experiment on the first start"
    )
    made.add_argument("--open", action="store_true", help="open the dashboard in a browser")
    made.add_argument(
        "--access",
        choices=("open", "tokens"),
        default="open" if "access" not in settings().model_fields_set else settings().access,
        help="open: whoever sits at this machine may do everything; tokens: everybody shows a token (%(default)s)",
    )
    command("workers", workers, "measuring processes")
    command("version", lambda given: print(f"ucurve {__version__}"), "this program's version")


def up(given: argparse.Namespace) -> int:
    from ucurve.lab.data_folder import EmbeddedError
    from ucurve.lab.up import Up

    lab = Up(
        given.data,
        given.port,
        given.dashboard_port,
        given.workers,
        not given.no_demo,
        given.open,
        given.access,
    )
    try:
        return lab.run()
    except EmbeddedError as error:
        return fail(error, BAD_INPUT)
    except RuntimeError as error:
        return fail(error, FAILED)


def workers(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import show, workers_table

    show(workers_table(client(given).workers()))
