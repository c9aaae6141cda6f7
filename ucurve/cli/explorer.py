"""The command `ucurve explore`: pivot all measurements of the lab, or export them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from ucurve.cli.arguments import Command, InputError, connect, write
from ucurve.schemas.explorer import LOSS, Aggregate, PivotQuery, PointFilter

PIVOT_OPTIONS = ("rows", "columns", "metric", "aggregate")


def commands(command: Command) -> None:
    parser = command(
        "explore",
        explore,
        "pivot a metric over all measurements of the lab, or export the measurements",
        examples=(
            "ucurve explore --suite tiny --rows tokens --columns gamma",
            "ucurve explore --where scale=init_std --where 'gamma>=0.1' -o points.parquet",
            "ucurve explore --suite tiny --labels",
        ),
    )
    _filter_options(parser)
    parser.add_argument("--rows", default="tokens", metavar="LABEL", help="label of the rows")
    parser.add_argument("--columns", metavar="LABEL", help="label of the columns")
    parser.add_argument("--metric", default=LOSS, help="metric in the cells (default: %(default)s)")
    parser.add_argument(
        "--aggregate",
        choices=get_args(Aggregate),
        default="mean",
        help="statistic in the cells (default: %(default)s)",
    )
    parser.add_argument("--labels", action="store_true", help="list labels, values and metrics")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the matching evaluations to FILE.csv or FILE.parquet",
    )


def _filter_options(parser: argparse.ArgumentParser) -> None:
    for name, help in (
        ("suite", "only these suites; repeatable"),
        ("kind", "only these experiment types; repeatable"),
        ("evaluation", "only these evaluation datasets; repeatable"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], help=help)
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="condition on a label, such as gamma=0.1 or learning_rate>=0.001; repeatable",
    )
    parser.add_argument(
        "--tokens-from", type=float, metavar="N", help="at least N pre-training tokens, such as 1e6"
    )
    parser.add_argument(
        "--tokens-to", type=float, metavar="N", help="at most N pre-training tokens"
    )
    parser.add_argument(
        "--after",
        dest="finished_after",
        metavar="DATE",
        help="measured on or after this day, such as 2026-11-01",
    )
    parser.add_argument(
        "--before", dest="finished_before", metavar="DATE", help="measured before this day"
    )
    parser.add_argument("--repeats", action="store_true", help="include re-measured numbers")


def explore(args: argparse.Namespace) -> None:
    filters: dict[str, Any] = {
        name: value for name in PointFilter.model_fields if (value := getattr(args, name, None))
    }
    for name in ("tokens_from", "tokens_to"):
        if name in filters:
            filters[name] = int(filters[name])
    if args.labels:
        print_labels(args, filters)
    elif args.output:
        format = args.output.suffix.removeprefix(".")
        if format not in ("csv", "parquet"):
            raise InputError(f"-o {args.output}: the file name must end in .csv or .parquet")
        write(args.output, connect(args).export_points(format, **filters))
    else:
        print_pivot(args, filters)


def print_labels(args: argparse.Namespace, filters: dict[str, Any]) -> None:
    """Print what can be filtered and grouped by."""
    from ucurve.figures.pivot import name_of

    facets = connect(args).facets(**filters)
    for name in ("suites", "kinds", "evaluations", "metrics"):
        print(f"{name}: {', '.join(getattr(facets, name))}")
    for label in facets.labels:
        more = f" ... {label.num_values:,} values" if label.num_values > 12 else ""
        print(f"label {label.name}: {', '.join(map(name_of, label.values[:12]))}{more}")


def print_pivot(args: argparse.Namespace, filters: dict[str, Any]) -> None:
    """Print the pivot table and a sentence about its cells."""
    from ucurve.cli.table_layout import show, table_of
    from ucurve.figures import pivot as layout

    options = {name: value for name in PIVOT_OPTIONS if (value := getattr(args, name))}
    pivot = connect(args).pivot(**filters, **options)
    query = PivotQuery(**filters, **options)
    frame = layout.table(pivot, query)
    table = table_of(query.rows, *map(str, frame.columns))
    for row, cells in frame.iterrows():
        table.add_row(str(row), *cells)
    show(table)
    print(layout.sentence(pivot, query))
    if mix := layout.mixed(pivot):
        print(f"Cells may mix {mix}: group by these with --rows and --columns, or add --where.")
