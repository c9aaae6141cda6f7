"""Commands that compare experiments, and that trace a figure file back to its numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from ucurve.cli.arguments import Command, InputError, connect, write
from ucurve.cli.experiments import print_messages
from ucurve.client import Client
from ucurve.client.comparisons import Comparison
from ucurve.schemas.bits_per_byte import BITS_PER_BYTE


def commands(command: Command) -> None:
    parser = command(
        "compare",
        compare,
        "compare experiments: what differs, which evaluations are missing, figures with -o",
        examples=(
            "ucurve compare 3 4",
            "ucurve compare 3 4 -o figures --format pdf",
            'ucurve compare 3 4 --y damage --change "gamma 0.2, init_std" --minus 3 4',
            "ucurve compare 3 4 --complete",
        ),
    )
    parser.add_argument("id", type=int, nargs="+", help="two or more experiment ids")
    _output_options(parser)
    _plot_options(parser)
    parser.add_argument(
        "--complete", action="store_true", help="submit the evaluations that two experiments lack"
    )
    parser = command(
        "cite",
        cite,
        "show which experiment a figure file is from, and whether its numbers have changed",
        examples=("ucurve cite figures/loss.pdf",),
    )
    parser.add_argument("file", type=Path, nargs="+", help="SVG, PNG, PDF or CSV written by ucurve")


def _output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write the figures to this folder"
    )
    parser.add_argument(
        "--format",
        choices=("svg", "png", "pdf", "json", "csv"),
        default="svg",
        help="file format of the figures (default: %(default)s)",
    )


def _plot_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--x",
        default="",
        help="x axis: tokens, tokens_per_parameter, base_loss, or the experiments' own axis",
    )
    parser.add_argument(
        "--y",
        default="",
        help="y axis: loss, perplexity, damage (the loss increase), bits_per_byte or "
        "bits_per_byte_increase (for texts; comparable across tokenizers), or a common metric",
    )
    parser.add_argument(
        "--by",
        default="side",
        choices=("side", "suite", "size", "replicate"),
        help="what colours mean; side: the experiment (default: %(default)s)",
    )
    parser.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="LABEL",
        help='only this modification, such as "gamma 0.2, init_std"; repeatable',
    )
    parser.add_argument(
        "--minus", nargs=2, default=(), metavar=("A", "B"), help="plot the difference A - B"
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME",
        help="add a reference curve; repeatable",
    )


def compare(args: argparse.Namespace) -> None:
    client = connect(args)
    comparison = client.compare(
        args.id, args.x, args.y, args.by, args.change, args.minus, args.beside
    )
    figures = comparison.figures()
    if args.y.startswith(BITS_PER_BYTE) and comparison.options.y != args.y:
        raise InputError(
            f"--y {args.y}: not known for all of them: only texts have bytes, so evaluate on one"
        )
    if args.change and not set(args.change) <= set(comparison.changes):
        raise InputError(
            f"unknown modification; these are available: {'; '.join(comparison.changes)}"
        )
    if unknown := set(args.beside) - set(comparison.reference_options):
        available = "; ".join(comparison.reference_options) or "none"
        raise InputError(
            f"unknown reference curve {', '.join(unknown)}; these are available: {available}"
        )
    for warning in comparison.warnings:
        print(warning)
    if args.output:
        _write_figures(comparison, args.output, args.format, client.url)
    else:
        for name, figure in figures.items():
            print(f"{name}: {figure.title}\n  {figure.caption}")
        print("use -o DIR to write the figures" if figures else "no common axis and metric to plot")
    _missing_points(client, comparison, args.complete)


def _write_figures(comparison: Comparison, folder: Path, format: str, url: str) -> None:
    from ucurve.figures.annotated_files import cited_file

    prefix = f"compare-{'-'.join(side.key for side in comparison.sides)}"
    for name, figure in comparison.figures().items():
        path = folder / f"{prefix}-{name}.{format}"
        write(path, cited_file(figure, format, comparison.origin(name, url)))  # type: ignore[arg-type]
        print(f"  {figure.caption}")


def _missing_points(client: Client, comparison: Comparison, submit: bool) -> None:
    """Print the points that two experiments lack of each other; submit them if requested."""
    from ucurve.analysis.comparison import completing_spec

    for gap in comparison.missing():
        if gap.points or gap.without_checkpoint:
            print(gap.sentence)
        if submit and (spec := completing_spec(gap)) is not None:
            experiment = client.submit(spec, **comparison.submission(gap))
            counts = experiment.progress
            num_new = counts.total - counts.reused
            print(f"  experiment {experiment.id}: {num_new} of {counts.total} new")
            print_messages(experiment.waits_for, experiment.warnings, experiment.plan_notes)


def cite(args: argparse.Namespace) -> None:
    from ucurve.figures.annotated_files import describe_file

    client = connect(args)
    for path in args.file:
        try:
            print(f"{path}: {describe_file(path.read_bytes(), client)}")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
