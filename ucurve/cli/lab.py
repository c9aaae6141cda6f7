"""Commands about the lab itself: start it, list its workers, print the version."""

from __future__ import annotations

import argparse
from pathlib import Path

from ucurve.cli.arguments import BAD_INPUT, FAILED, Command, connect, fail, port, positive
from ucurve.settings import settings


def commands(command: Command) -> None:
    parser = command(
        "up",
        up,
        "start a lab on this machine; Ctrl-C stops it",
        examples=(
            "ucurve up --data ~/lab --models ~/checkpoints",
            "ucurve up --access tokens --no-demo",
        ),
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("~/.ucurve"),
        help="data folder (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=port, default=8000, help="port of the API (default: %(default)s)"
    )
    parser.add_argument(
        "--dashboard-port",
        type=port,
        default=8501,
        help="port of the dashboard (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=positive, help="number of workers (default: one per GPU, or 2)"
    )
    parser.add_argument("--open", action="store_true", help="open the dashboard in a browser")
    parser.add_argument(
        "--access",
        choices=("open", "tokens"),
        default="open" if "access" not in settings().model_fields_set else settings().access,
        help="open: every user of this machine has full access; tokens: every request needs an "
        "API key (default: %(default)s)",
    )
    _content_options(parser)
    parser.add_argument(
        "--install-service",
        action="store_true",
        help="start nothing: print a systemd unit file that runs this command as a service",
    )
    command("workers", workers, "list workers")
    command("version", version, "print version and code hash")


def _content_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-demo",
        action="store_true",
        help="do not submit the demo experiments on the first start",
    )
    parser.add_argument(
        "--no-spare",
        action="store_true",
        help="keep no spare worker, which replaces a dead one in seconds and takes 400 MB",
    )
    parser.add_argument(
        "--models",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with your checkpoints and texts, which users may then register; repeatable "
        "(added to UCURVE_MODELS)",
    )


def up(args: argparse.Namespace) -> int:
    from ucurve.lab.data_folder import EmbeddedError
    from ucurve.lab.up import LabSupervisor

    if args.install_service:
        return _print_unit(args)
    lab = LabSupervisor(
        data=args.data,
        port=args.port,
        dashboard_port=args.dashboard_port,
        workers=args.workers,
        demo=not args.no_demo,
        open_browser=args.open,
        access=args.access,
        spare=not args.no_spare,
        models=[folder.expanduser().resolve() for folder in args.models],
    )
    try:
        return lab.run()
    except EmbeddedError as error:
        return fail(error, BAD_INPUT)
    except RuntimeError as error:
        return fail(error, FAILED)


def _print_unit(args: argparse.Namespace) -> int:
    from ucurve.lab.service_unit import service_unit

    options = ["--port", str(args.port), "--dashboard-port", str(args.dashboard_port)]
    options += ["--workers", str(args.workers)] if args.workers else []
    options += ["--access", args.access]
    for folder in args.models:
        options += ["--models", str(folder.expanduser().resolve())]
    options += [
        flag for flag in ("--no-demo", "--no-spare") if getattr(args, flag[2:].replace("-", "_"))
    ]
    # The unit makes everything else read-only, so the folder has to exist.
    args.data.expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)
    print(service_unit(args.data, options), end="")
    return 0


def workers(args: argparse.Namespace) -> None:
    from ucurve.cli.table_layout import show
    from ucurve.cli.tables import workers_table

    show(workers_table(connect(args).workers()))


def version(args: argparse.Namespace) -> None:
    from ucurve.cli import version_text

    print(version_text())
