"""Commands about reference curves: numbers of other tools and papers, drawn beside ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from ucurve.cli.arguments import Command, InputError, client
from ucurve.client import RequestRejectedError
from ucurve.schemas.references import Importer, SentFile


def commands(command: Command) -> None:
    references = command("references", None, "numbers that were not measured here").add_subparsers(
        required=True, metavar="COMMAND"
    )
    command("list", listed, "all reference curves", references)
    made = command("add", add, "read one from files", references)
    made.add_argument("name", help="as it is shown in figures")
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--lm-eval",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="results_*.json of lm-evaluation-harness, one per checkpoint",
    )
    source.add_argument(
        "--csv",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="checkpoint,tokens,metric,value[,standard_error]",
    )
    made.add_argument(
        "--suite", help="the suite they are about; lm-eval's files may say it themselves"
    )
    made.add_argument("--citation", default="", help="where they were published")
    made = command("remove", remove, "remove one", references)
    made.add_argument("name")


def listed(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import show, table_of

    table = table_of("name", "suite", "metrics", "numbers", "from", "owner")
    for one in client(given).references():
        files = ", ".join(file.name for file in one.origin.files)
        table.add_row(
            one.name, one.suite or "", ", ".join(one.metrics), str(len(one.rows)), files, one.owner
        )
    show(table)


def add(given: argparse.Namespace) -> None:
    paths: list[Path] = given.lm_eval or given.csv
    importer: Importer = "lm-eval" if given.lm_eval else "csv"
    files = [SentFile(name=path.name, content=_text(path)) for path in paths]
    try:
        made = client(given).add_reference(given.name, importer, files, given.suite, given.citation)
    except (
        RequestRejectedError
    ) as error:  # the message names the file; the position among the sent ones says nothing more
        raise InputError(
            "; ".join(field.detail for field in error.problem.errors) or error.problem.detail
        ) from error
    left_out = (
        f", {made.origin.num_left_out} that are not finite left out"
        if made.origin.num_left_out
        else ""
    )
    print(
        f"{made.name}: {len(made.rows)} numbers on {made.suite}{left_out} ({', '.join(made.metrics)})"
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text: give lm-eval's JSON or a CSV") from error


def remove(given: argparse.Namespace) -> None:
    lab = client(given)
    found = [one for one in lab.references() if one.name == given.name]
    if not found:
        raise InputError(
            f"there is no reference curve {given.name!r}; ucurve references list shows them"
        )
    lab.remove_reference(found[0].id)
    print(f"{given.name} is removed")
