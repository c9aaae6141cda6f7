"""Commands about reference curves: published numbers and results of other tools."""

from __future__ import annotations

import argparse
from pathlib import Path

from ucurve.cli.arguments import Command, InputError, connect
from ucurve.formatting import counted, shortened
from ucurve.schemas.references import Importer, SentFile


def commands(command: Command) -> None:
    references = command(
        "references", None, "manage reference curves: published numbers, results of other tools"
    ).add_subparsers(required=True, metavar="COMMAND")
    parser = command(
        "list",
        list_references,
        "list reference curves, or search their names and metrics",
        references,
        examples=("ucurve references list lambada acc --suite pythia-70m",),
    )
    parser.add_argument("words", nargs="*", help="words in names, files, citations or metrics")
    parser.add_argument("--suite", help="only curves of this suite")
    parser = command(
        "add",
        add_reference,
        "add a reference curve from files",
        references,
        examples=(
            "ucurve references add pythia-70m --lm-eval results_*.json --suite pythia-70m",
            'ucurve references add table-3 --csv table3.csv --citation "Doe et al. 2025, table 3"',
        ),
    )
    parser.add_argument("name", help="name in figures")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--lm-eval",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="results_*.json of lm-evaluation-harness or lighteval, metrics.json of OLMES",
    )
    source.add_argument(
        "--csv",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="CSV with columns checkpoint,tokens,metric,value[,standard_error]; semicolons, too",
    )
    parser.add_argument("--suite", help="suite (default: read from lm-eval's files)")
    parser.add_argument("--citation", default="", help="where the numbers were published")
    parser.add_argument(
        "--same-model",
        default="",
        metavar="NAME",
        help="how the files call the model, where the suite has it under another name",
    )
    parser.set_defaults(fields={"files": ""})  # the messages name file, line and column
    parser = command("remove", remove_reference, "remove a reference curve", references)
    parser.add_argument("name", help="name of the curve")


def list_references(args: argparse.Namespace) -> None:
    from ucurve.cli.table_layout import show, table_of

    table = table_of("name", "suite", "metrics", "numbers", "files", "owner")
    for curve in connect(args).references(args.suite, " ".join(args.words)):
        files = shortened([file.name for file in curve.origin.files])
        metrics = shortened(curve.metrics)
        num_rows = str(len(curve.rows))
        table.add_row(curve.name, curve.suite or "", metrics, num_rows, files, curve.owner)
    show(table)


def add_reference(args: argparse.Namespace) -> None:
    paths: list[Path] = args.lm_eval or args.csv
    importer: Importer = "lm-eval" if args.lm_eval else "csv"
    files = [SentFile(name=path.name, content=_text(path)) for path in paths]
    curve = connect(args).add_reference(
        args.name, importer, files, args.suite, args.citation, args.same_model
    )
    skipped = curve.origin.num_left_out
    skipped_text = f", {skipped:,} not finite and skipped" if skipped else ""
    print(
        f"{curve.name}: {counted(len(curve.rows), 'number')} on {curve.suite}{skipped_text} "
        f"({shortened(curve.metrics)})"
    )
    for note in curve.origin.notes:
        print(note)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save tables as CSV UTF-8") from error


def remove_reference(args: argparse.Namespace) -> None:
    client = connect(args)
    ids = [curve.id for curve in client.references() if curve.name == args.name]
    if not ids:
        raise InputError(f"no reference curve {args.name!r}; see `ucurve references list`")
    client.remove_reference(ids[0])
    print(f"{args.name} removed")
