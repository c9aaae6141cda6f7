"""Commands about what leaves and enters the lab: export, import."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ucurve.cli.arguments import Command, InputError, client

if TYPE_CHECKING:
    from ucurve.import_export.reader import Summary


def commands(command: Command) -> None:
    made = command(
        "export",
        export,
        "write the database, or a part of it, as Parquet and as pages that need no network",
    )
    made.add_argument("folder", type=Path, metavar="DIR")
    made.add_argument(
        "--experiment",
        type=int,
        action="append",
        metavar="ID",
        help="only this one; may be given several times",
    )
    made.add_argument("--tag", help="only experiments with this tag")
    made.add_argument("--suite", help="only experiments on this suite")
    made.add_argument("--owner", help="only this person's experiments")
    made.add_argument("--origin", help="what the lab is called in the export (default: its host)")
    made.add_argument("--no-site", action="store_true", help="write no pages, only the tables")
    made.add_argument("--force", action="store_true", help="replace an export that is there")
    made = command(
        "import", import_, "merge another lab's export by identity; twice is the same as once"
    )
    made.add_argument("folder", type=Path, metavar="DIR")


def export(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import counted_bars
    from ucurve.import_export.parquet import FolderError
    from ucurve.import_export.writer import export as write

    lab = client(given)
    host = urlsplit(lab.url).hostname or ""
    origin = given.origin or (
        socket.gethostname() if host in ("localhost", "127.0.0.1", "::1") else host
    )
    filters = {
        name: value
        for name in ("experiment", "tag", "suite", "owner")
        if (value := getattr(given, name)) is not None
    }
    try:
        with counted_bars() as tell:
            manifest = write(
                lab, given.folder, filters, origin, tell, site=not given.no_site, force=given.force
            )
    except FolderError as error:
        raise InputError(str(error)) from error
    rows = {
        name.removesuffix(".parquet"): file.rows
        for name, file in manifest.files.items()
        if file.rows
    }
    print(f"{given.folder}: {', '.join(f'{count:,} {name}' for name, count in rows.items())}")
    if not given.no_site:
        print(f"open {given.folder / 'index.html'}")


def import_(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import counted_bars
    from ucurve.import_export.parquet import FolderError
    from ucurve.import_export.reader import import_folder

    try:
        with counted_bars() as tell:
            summary = import_folder(client(given), given.folder, tell)
    except FolderError as error:
        raise InputError(str(error)) from error
    print("\n".join(said(summary)))


def said(summary: Summary) -> Iterator[str]:
    """What an import changed, and how far the labs agree."""
    numbers = (
        (summary.new, "new"),
        (summary.completed, "completed"),
        (summary.gained, "with a further attempt"),
        (summary.known, "known"),
    )
    yield "measurements: " + ", ".join(f"{count:,} {words}" for count, words in numbers)
    yield f"experiments: {len(summary.experiments):,} new, {len(summary.known_experiments):,} known"
    if summary.experiments:
        yield "  " + ", ".join(
            f"{there} there is {here} here"
            for there, here in list(summary.experiments.items())[:20]
        )
    if summary.added:
        yield f"added: {', '.join(summary.added)}"
    if summary.differ:
        yield f"kept, though it means something else there: {', '.join(summary.differ)}"
    if summary.num_compared:
        yield f"measured in both: {summary.num_compared:,}, of which {summary.num_equal:,} agree to the last bit"
        for metric, difference in sorted(summary.largest.items()):
            yield f"  {metric}: at most {difference:.3g} apart"
        for one in summary.differing[:10]:
            yield f"  {one.identity[:12]} {one.metric}: {_number(one.here)} here, {_number(one.there)} there"
    if not summary.changed:
        yield "nothing changed: all of it was here"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.8g}"
