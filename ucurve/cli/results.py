"""Commands about results: verdicts, table, figures, report."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ucurve.cli.arguments import EXPERIMENT, Command, connect, print_verdicts, write

FORMATS = ("svg", "png", "pdf", "json", "csv")


def commands(command: Command) -> None:
    _printing_commands(command)
    _file_commands(command)


def _at_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--at", metavar="TIME", help="state at a past time, such as 2026-11-24T17:30:00Z"
    )


def _printing_commands(command: Command) -> None:
    parser = command(
        "verdicts",
        verdicts,
        "show the verdicts of an experiment",
        examples=("ucurve verdicts 7 --all",),
    )
    parser.add_argument("id", type=int, help=EXPERIMENT)
    _at_option(parser)
    parser.add_argument("--all", action="store_true", help="also list per-setting verdicts")
    parser = command(
        "table",
        table,
        "print all measurements of an experiment",
        examples=("ucurve table 7 > measurements.csv",),
    )
    parser.add_argument("id", type=int, help=EXPERIMENT)
    parser.add_argument(
        "--format", choices=("csv", "json"), default="csv", help="format (default: %(default)s)"
    )
    _at_option(parser)


def _file_commands(command: Command) -> None:
    parser = command(
        "figures",
        figures,
        "list the figures of an experiment, or write them with -o",
        examples=("ucurve figures 7", "ucurve figures 7 -o figures --format pdf"),
    )
    parser.add_argument("id", type=int, help=EXPERIMENT)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write the figures to this folder"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="svg",
        help="file format; json: Vega-Lite with its data (default: %(default)s)",
    )
    _at_option(parser)
    parser.add_argument(
        "--bare", action="store_true", help="write the chart without title, caption and citation"
    )
    parser = command(
        "report",
        report,
        "write a self-contained HTML report: specs, figures, verdicts, provenance",
        examples=("ucurve report 1 2 3 -o report.html --title 'Noise on tiny' --pdf",),
    )
    parser.add_argument(
        "id", type=int, nargs="+", help="experiment ids; several get combined verdicts"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="file to write (default: %(default)s)",
    )
    parser.add_argument("--title", default="", help="title (default: made from the experiments)")
    parser.add_argument(
        "--pdf", action="store_true", help="also write each figure as PDF to a folder next to it"
    )


def verdicts(args: argparse.Namespace) -> None:
    print_verdicts(connect(args).verdicts(args.id, args.at), args.all)


def table(args: argparse.Namespace) -> None:
    client = connect(args)
    if args.format == "csv":
        sys.stdout.write(client.csv(args.id, args.at))
        return
    rows: list[dict[str, Any]] = [
        row.model_dump(mode="json") for row in client.rows(args.id, series="all", at=args.at)
    ]
    json.dump(rows, sys.stdout, indent=1)
    print()


def figures(args: argparse.Namespace) -> None:
    from ucurve.figures.annotated_files import cited_file, experiment_origin
    from ucurve.figures.files import figure_file

    client = connect(args)
    by_name = client.figures(args.id, args.at)
    if args.output is None:
        for name, figure in by_name.items():
            print(f"{name}: {figure.title}\n  {figure.caption}")
        print("use -o DIR to write the figures")
        return
    for name, figure in by_name.items():
        if args.bare:
            content = figure_file(figure, args.format)
        else:
            origin = experiment_origin(client, args.id, name, args.at)
            content = cited_file(figure, args.format, origin)
        write(args.output / f"{name}.{args.format}", content)


def report(args: argparse.Namespace) -> None:
    from ucurve.figures.annotated_files import cited_file, experiment_origin
    from ucurve.figures.files import figure_file
    from ucurve.import_export.report import collect, html

    client = connect(args)
    contents = collect(client, args.id, args.title)
    write(args.output, html(contents).encode())
    if not args.pdf:
        return
    folder = args.output.with_suffix("")
    for name, figure in contents.figures.items():
        write(folder / f"{name}.pdf", figure_file(figure, "pdf"))
    for chapter in contents.chapters:
        id = chapter.experiment.id
        for name, figure in chapter.figures.items():
            content = cited_file(figure, "pdf", experiment_origin(client, id, name))
            write(folder / f"{id}-{name}.pdf", content)
