"""Commands that move data between labs: export, import."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ucurve.cli.arguments import Command, InputError, connect
from ucurve.cli.arguments import write as write_file
from ucurve.formatting import counted, number

if TYPE_CHECKING:
    from ucurve.client import Client
    from ucurve.import_export.reader import Summary

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
FILTERS = ("experiment", "tag", "suite", "owner")


def commands(command: Command) -> None:
    parser = command(
        "export",
        export,
        "export the lab as Parquet tables and an offline site",
        examples=(
            "ucurve export my-lab",
            "ucurve export paper --tag paper --no-site --force",
            "ucurve export paper --tag paper --dataset-card cc-by-4.0",
            "ucurve export --mlflow http://mlflow:5000 --experiment 7",
        ),
    )
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="folder to create")
    parser.add_argument(
        "--experiment",
        type=int,
        action="append",
        metavar="ID",
        help="only this experiment; repeatable",
    )
    parser.add_argument("--tag", help="only experiments with this tag")
    parser.add_argument("--suite", help="only experiments on this suite")
    parser.add_argument("--owner", help="only experiments of this user")
    parser.add_argument("--origin", help="name of the lab in the export (default: its host)")
    parser.add_argument("--no-site", action="store_true", help="write the tables only, no pages")
    parser.add_argument("--force", action="store_true", help="replace an existing export")
    _tracker_options(parser)
    parser = command(
        "import",
        import_,
        "import another lab's export; existing measurements are recognised by their identity",
        examples=("ucurve import their-lab",),
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder written by `ucurve export`"
    )


def _tracker_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of places where a team keeps the rest of its work."""
    parser.add_argument(
        "--dataset-card",
        metavar="LICENCE",
        help="also write a card and flat tables for the Hugging Face Hub, under this licence "
        "(such as cc-by-4.0)",
    )
    parser.add_argument(
        "--mlflow",
        metavar="URI",
        help="write runs to this MLflow server or database; again: the same runs are updated",
    )
    parser.add_argument(
        "--mlflow-experiment",
        metavar="NAME",
        default="ucurve",
        help="MLflow experiment of the runs (default: %(default)s)",
    )
    parser.add_argument(
        "--wandb-csv",
        type=Path,
        metavar="FILE",
        help="write curves, settings and verdicts as a CSV for Weights & Biases",
    )


def export(args: argparse.Namespace) -> None:
    if not (args.folder or args.mlflow or args.wandb_csv):
        raise InputError("give a folder to create, --mlflow URI or --wandb-csv FILE")
    if args.dataset_card and not args.folder:
        raise InputError("--dataset-card needs the folder to create")
    client = connect(args)
    host = urlsplit(client.url).hostname or ""
    origin = args.origin or (socket.gethostname() if host in LOCAL_HOSTS else host)
    filters = {name: value for name in FILTERS if (value := getattr(args, name)) is not None}
    if args.folder:
        _export_folder(args, client, filters, origin)
    if args.mlflow or args.wandb_csv:
        _export_to_trackers(args, client, filters, origin)


def _export_folder(
    args: argparse.Namespace, client: Client, filters: dict[str, Any], origin: str
) -> None:
    from ucurve.cli.tables import progress_bars
    from ucurve.import_export.parquet import FolderError
    from ucurve.import_export.writer import export as write

    try:
        with progress_bars() as progress:
            manifest = write(
                client,
                args.folder,
                filters,
                origin,
                progress,
                site=not args.no_site,
                force=args.force,
                licence=args.dataset_card,
            )
    except FolderError as error:
        raise InputError(str(error)) from error
    counts = {
        name.removesuffix(".parquet"): file.rows
        for name, file in manifest.files.items()
        if file.rows
    }
    print(f"{args.folder}: {', '.join(f'{count:,} {name}' for name, count in counts.items())}")
    if not args.no_site:
        print(f"open {args.folder / 'index.html'}")


def _export_to_trackers(
    args: argparse.Namespace, client: Client, filters: dict[str, Any], origin: str
) -> None:
    """Write the selected experiments to MLflow, to a CSV for Weights & Biases, or both."""
    from ucurve.cli.tables import progress_bars
    from ucurve.import_export.mlflow_runs import Tracker, TrackerError
    from ucurve.import_export.tracked_experiment import collect, selected
    from ucurve.import_export.wandb_csv import wandb_csv

    try:
        tracker = Tracker.connect(args.mlflow, args.mlflow_experiment) if args.mlflow else None
        kept = []
        with progress_bars() as progress:
            ids = selected(client, filters)
            for number, id in enumerate(ids, 1):
                tracked = collect(client, id, origin)
                if tracker:
                    tracker.write(tracked)
                if args.wandb_csv:
                    kept.append(tracked)
                progress("experiments", number, len(ids))
    except TrackerError as error:
        raise InputError(str(error)) from error
    if tracker:
        print(
            f"{args.mlflow}: {counted(len(ids), 'experiment')} in {args.mlflow_experiment}: "
            f"{tracker.num_new:,} new runs, {tracker.num_updated:,} updated, "
            f"{tracker.num_values:,} new values"
        )
        if tracker.files_problem:
            print(f"tables and figures were not stored there: {tracker.files_problem}")
    if args.wandb_csv:
        write_file(args.wandb_csv, wandb_csv(kept).encode())


def import_(args: argparse.Namespace) -> None:
    from ucurve.cli.tables import progress_bars
    from ucurve.import_export.parquet import FolderError
    from ucurve.import_export.reader import import_folder

    try:
        with progress_bars() as progress:
            summary = import_folder(connect(args), args.folder, progress)
    except FolderError as error:
        raise InputError(str(error)) from error
    print("\n".join(summary_lines(summary)))


def summary_lines(summary: Summary) -> Iterator[str]:
    """Yield what an import changed, and how far the measurements of the two labs agree."""
    counts = (
        (summary.new, "new"),
        (summary.completed, "completed"),
        (summary.gained, "with an additional attempt"),
        (summary.existing, "existing"),
    )
    yield "measurements: " + ", ".join(f"{count:,} {label}" for count, label in counts)
    yield (
        f"experiments: {len(summary.experiments):,} new, "
        f"{len(summary.existing_experiments):,} existing"
    )
    if summary.experiments:
        pairs = list(summary.experiments.items())[:20]
        yield "  " + ", ".join(f"#{there} there is #{here} here" for there, here in pairs)
    if summary.added:
        yield f"added: {', '.join(summary.added)}"
    yield from (f"warning: {warning}" for warning in summary.warnings)
    if summary.differ:
        yield f"not imported, the same name has other contents here: {', '.join(summary.differ)}"
    if summary.num_compared:
        num_equal = f"{summary.num_equal:,} bitwise identical"
        yield f"measured in both labs: {summary.num_compared:,}, {num_equal}"
        for metric, difference in sorted(summary.largest.items()):
            yield f"  {metric}: largest difference {difference:.3g}"
        for conflict in summary.differing[:10]:
            here, there = (_value(value) for value in (conflict.here, conflict.there))
            yield f"  {conflict.identity[:12]} {conflict.metric}: {here} here, {there} there"
    if not summary.changed:
        yield "nothing changed: everything already exists here"


def _value(value: float | None) -> str:
    return "not finite" if value is None else number(value, 8)
