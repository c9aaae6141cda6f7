"""Commands about results: verdicts, table, figures and the report."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ucurve.cli.arguments import EXPERIMENT, Command, client, tell, write


def commands(command: Command) -> None:
    at: dict[str, Any] = {
        "metavar": "TIME",
        "help": "as it stood then: 2026-11-24T17:30:00Z (default: now)",
    }
    made = command("verdicts", verdicts, "what the data supports, claim by claim")
    made.add_argument("id", type=int, help=EXPERIMENT)
    made.add_argument("--at", **at)
    made.add_argument("--all", action="store_true", help="condition by condition, too")
    made = command("table", table, "all measurements")
    made.add_argument("id", type=int, help=EXPERIMENT)
    made.add_argument("--format", choices=("csv", "json"), default="csv")
    made.add_argument("--at", **at)
    made = command("figures", figures, "write the figures to files")
    made.add_argument("id", type=int, help=EXPERIMENT)
    made.add_argument("-o", "--output", type=Path, default=Path("."), metavar="DIR")
    made.add_argument("--format", choices=("svg", "png", "pdf", "csv"), default="svg")
    made.add_argument("--at", **at)
    made.add_argument(
        "--bare",
        action="store_true",
        help="the chart alone: no title, caption and citation around it",
    )
    made = command(
        "report",
        report,
        "one self-contained HTML file: specs, figures, verdicts, and where every number comes from",
    )
    made.add_argument(
        "id", type=int, nargs="+", help="one experiment or several; several are judged together"
    )
    made.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE")
    made.add_argument(
        "--title", default="", help="of the report; made from the experiments when empty"
    )
    made.add_argument(
        "--pdf", action="store_true", help="also write each figure as PDF, into a folder beside it"
    )


def verdicts(given: argparse.Namespace) -> None:
    tell(client(given).verdicts(given.id, given.at), given.all)


def table(given: argparse.Namespace) -> None:
    lab = client(given)
    if given.format == "csv":
        sys.stdout.write(lab.csv(given.id, given.at))
    else:
        json.dump(
            [row.model_dump(mode="json") for row in lab.rows(given.id, series="all", at=given.at)],
            sys.stdout,
            indent=1,
        )
        print()


def figures(given: argparse.Namespace) -> None:
    from ucurve.figures.annotated_files import cited_file, experiment_origin
    from ucurve.figures.files import figure_file

    lab = client(given)
    for name, figure in lab.figures(given.id, given.at).items():
        if given.bare:
            content = figure_file(figure, given.format)
        else:
            content = cited_file(
                figure, given.format, experiment_origin(lab, given.id, name, given.at)
            )
        write(given.output / f"{name}.{given.format}", content)


def report(given: argparse.Namespace) -> None:
    from ucurve.figures.annotated_files import cited_file, experiment_origin
    from ucurve.figures.files import figure_file
    from ucurve.import_export.report import collect, html

    lab = client(given)
    found = collect(lab, given.id, given.title)
    write(given.output, html(found).encode())
    if given.pdf:
        folder = given.output.with_suffix("")
        for name, figure in found.figures.items():
            write(folder / f"{name}.pdf", figure_file(figure, "pdf"))
        for id, figures in {
            chapter.experiment.id: chapter.figures for chapter in found.chapters
        }.items():
            for name, figure in figures.items():
                write(
                    folder / f"{id}-{name}.pdf",
                    cited_file(figure, "pdf", experiment_origin(lab, id, name)),
                )
