"""What the lab does now: workers, queue, recent failures by cause."""

from __future__ import annotations

import argparse

from ucurve.cli.arguments import EXPERIMENT, Command, InputError, connect


def commands(command: Command) -> None:
    command(
        "status",
        status,
        "show workers and what they run, the queue by user, and recent failures by cause",
    )
    parser = command(
        "retry",
        retry,
        "run failed evaluations again, of an experiment or of one cause, or resume a cancelled "
        "experiment",
        examples=("ucurve retry 7", "ucurve retry --cause 3f2a91c0d4e5"),
    )
    parser.add_argument("id", type=int, nargs="?", help=EXPERIMENT)
    parser.add_argument(
        "--cause",
        metavar="CAUSE",
        help="all recent failures of this cause in your experiments, see `ucurve status`",
    )


def status(args: argparse.Namespace) -> None:
    from ucurve.cli.status_text import status_text

    print(status_text(connect(args).status()))


def retry(args: argparse.Namespace) -> None:
    if (args.id is None) == (args.cause is None):
        raise InputError("give an experiment id or --cause CAUSE (see `ucurve status`)")
    client = connect(args)
    if args.cause is None:
        experiment = client.retry(args.id)
        print(f"experiment {experiment.id} is {experiment.state}")
        return
    from ucurve.cli.status_text import retried_text

    print(retried_text(client.retry_failures(args.cause)))
