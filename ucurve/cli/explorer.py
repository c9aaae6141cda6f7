"""The command `ucurve explore`: everything that was measured, laid out by labels, or as a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from ucurve.cli.arguments import Command, InputError, client, write
from ucurve.schemas.explorer import LOSS, Aggregate, PivotQuery, PointFilter


def commands(command: Command) -> None:
    made = command(
        "explore",
        explore,
        "a metric of everything that was measured, laid out by two labels; or all of it as a file",
    )
    for name in ("suite", "kind", "evaluation"):
        made.add_argument(
            f"--{name}", action="append", default=[], help="may be given several times"
        )
    made.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="gamma=0.1, scale=init_std, learning_rate>=0.001",
    )
    made.add_argument("--tokens-from", type=float, metavar="N", help="as 1e6")
    made.add_argument("--tokens-to", type=float, metavar="N")
    made.add_argument(
        "--after",
        dest="finished_after",
        metavar="DATE",
        help="measured on this day or later: 2026-11-01",
    )
    made.add_argument(
        "--before", dest="finished_before", metavar="DATE", help="measured before this day"
    )
    made.add_argument(
        "--repeats", action="store_true", help="also numbers that were asked for once more"
    )
    made.add_argument("--rows", default="tokens", metavar="LABEL")
    made.add_argument("--columns", metavar="LABEL")
    made.add_argument("--metric", default=LOSS)
    made.add_argument("--aggregate", choices=get_args(Aggregate), default="mean")
    made.add_argument("--labels", action="store_true", help="show what there is to choose from")
    made.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the points to FILE.csv or FILE.parquet instead",
    )


def explore(given: argparse.Namespace) -> None:
    sought: dict[str, Any] = {
        name: value for name in PointFilter.model_fields if (value := getattr(given, name, None))
    }
    sought |= {name: int(sought[name]) for name in ("tokens_from", "tokens_to") if name in sought}
    if given.labels:
        choices(given, sought)
    elif given.output:
        form = given.output.suffix.removeprefix(".")
        if form not in ("csv", "parquet"):
            raise InputError(f"-o {given.output}: the name must end in .csv or .parquet")
        write(given.output, client(given).export_points(form, **sought))
    else:
        pivot(given, sought)


def choices(given: argparse.Namespace, sought: dict[str, Any]) -> None:
    from ucurve.figures.pivot import name_of

    found = client(given).facets(**sought)
    for name in ("suites", "kinds", "evaluations", "metrics"):
        print(f"{name}: {', '.join(getattr(found, name))}")
    for label in found.labels:
        more = f" ... {label.num_values:,} values" if label.num_values > 12 else ""
        print(f"label {label.name}: {', '.join(map(name_of, label.values[:12]))}{more}")


def pivot(given: argparse.Namespace, sought: dict[str, Any]) -> None:
    from rich.table import Table

    from ucurve.cli.tables import show
    from ucurve.figures import pivot as layout

    laid_out = {
        name: value
        for name in ("rows", "columns", "metric", "aggregate")
        if (value := getattr(given, name))
    }
    found = client(given).pivot(**sought, **laid_out)
    asked = PivotQuery(**sought, **laid_out)
    frame = layout.table(found, asked)
    table = Table(box=None, pad_edge=False)
    for name in (asked.rows, *frame.columns):
        table.add_column(str(name), overflow="fold")
    for row, cells in frame.iterrows():
        table.add_row(str(row), *cells)
    show(table)
    print(layout.sentence(found, asked))
    if mix := layout.mixed(found):
        print(f"A cell may mix {mix}: lay out by these, or add a --where.")
