"""Commands that lay experiments over one another, and that lead from a figure's file back to its numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from ucurve.cli.arguments import Command, InputError, client, write


def commands(command: Command) -> None:
    made = command(
        "compare",
        compare,
        "lay experiments over one another: figures, differences, and what is missing",
    )
    made.add_argument("id", type=int, nargs="+", help="two experiments or more")
    made.add_argument("-o", "--output", type=Path, default=Path("."), metavar="DIR")
    made.add_argument("--format", choices=("svg", "png", "pdf", "csv"), default="svg")
    made.add_argument(
        "--x",
        default="",
        help="tokens, tokens_per_parameter, base_loss, or the experiments' own axis",
    )
    made.add_argument("--y", default="", help="loss, perplexity, damage, or a metric that all have")
    made.add_argument(
        "--by",
        default="side",
        choices=("side", "suite", "size", "replicate"),
        help="what the colours mean",
    )
    made.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="WORDS",
        help='such as "gamma 0.2, init_std"; repeatable',
    )
    made.add_argument(
        "--minus", nargs=2, default=(), metavar=("A", "B"), help="which two to subtract"
    )
    made.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME",
        help="a reference curve; repeatable",
    )
    made.add_argument(
        "--complete", action="store_true", help="submit what the two lack of each other"
    )
    made = command(
        "cite",
        cite,
        "say which figure of which experiment a file is, and whether its numbers have changed since",
    )
    made.add_argument("file", type=Path, nargs="+", help="SVG, PNG, PDF or CSV that ucurve wrote")


def compare(given: argparse.Namespace) -> None:
    from ucurve.analysis.comparison import completed
    from ucurve.figures.annotated_files import cited_file

    lab = client(given)
    found = lab.compare(
        given.id, given.x, given.y, given.by, given.change, given.minus, given.beside
    )
    figures = found.figures()
    if given.change and not set(given.change) <= set(found.changes):
        raise InputError(f"no such modification; there are: {'; '.join(found.changes)}")
    if unknown := set(given.beside) - set(found.reference_options):
        raise InputError(
            f"no such reference curve here: {', '.join(unknown)}; there are: {'; '.join(found.reference_options) or 'none'}"
        )
    for caution in found.warnings:
        print(caution)
    for name, figure in figures.items():
        path = (
            given.output
            / f"compare-{'-'.join(side.key for side in found.sides)}-{name}.{given.format}"
        )
        write(path, cited_file(figure, given.format, found.origin(name, lab.url)))
        print(f"  {figure.caption}")
    for lacking in found.missing():
        if lacking.points or lacking.without_checkpoint:
            print(lacking.sentence)
        if given.complete and (spec := completed(lacking)) is not None:
            made = lab.submit(spec, **found.submission(lacking))
            print(
                f"  experiment {made.id}: {made.progress.total - made.progress.reused} of {made.progress.total} points to measure"
            )


def cite(given: argparse.Namespace) -> None:
    from ucurve.figures.annotated_files import said_of

    lab = client(given)
    for path in given.file:
        try:
            print(f"{path}: {said_of(path.read_bytes(), lab)}")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
