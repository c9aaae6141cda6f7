"""Commands that move data between labs: export, import."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ucurve.cli.arguments import Command, InputError, connect
from ucurve.formatting import number

if TYPE_CHECKING:
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
        ),
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder to create")
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
    parser = command(
        "import",
        import_,
        "import another lab's export; existing measurements are recognised by their identity",
        examples=("ucurve import their-lab",),
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder written by `ucurve export`"
    )


def export(args: argparse.Namespace) -> None:
    from ucurve.cli.tables import progress_bars
    from ucurve.import_export.parquet import FolderError
    from ucurve.import_export.writer import export as write

    client = connect(args)
    host = urlsplit(client.url).hostname or ""
    origin = args.origin or (socket.gethostname() if host in LOCAL_HOSTS else host)
    filters = {name: value for name in FILTERS if (value := getattr(args, name)) is not None}
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
