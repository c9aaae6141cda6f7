"""The command `ucurve agreement`: compare re-measured numbers with the original ones."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ucurve.analysis.reproducibility import summary
from ucurve.cli.arguments import EXPERIMENT, Command, connect, labels_text, positive
from ucurve.formatting import STATE_LABELS, exact
from ucurve.schemas.reproducibility import Agreement, DevicePair, Difference

if TYPE_CHECKING:
    from rich.table import Table


def commands(command: Command) -> None:
    parser = command(
        "agreement",
        agreement,
        "compare the numbers of a re-measured experiment with the original ones",
        examples=("ucurve submit spec.json --remeasure --wait", "ucurve agreement 7"),
    )
    parser.add_argument("id", type=int, help=EXPERIMENT)
    parser.add_argument(
        "--limit",
        type=positive,
        default=10,
        help="number of differing evaluations to list, largest difference first (default: 10)",
    )


def agreement(args: argparse.Namespace) -> None:
    from ucurve.cli.table_layout import show

    report = connect(args).agreement(args.id, args.limit)
    print(summary(report))
    for machines in report.machines:
        _print_machines(machines)
    if report.metrics:
        show(_metrics_table(report))
    if report.points:
        show(_differences_table(report))


def _print_machines(machines: DevicePair) -> None:
    """Print where both numbers were measured, and which versions differ."""
    original = f"{', '.join(machines.first_workers)} ({machines.first_device})"
    again = f"{', '.join(machines.again_workers)} ({machines.again_device})"
    print(
        f"original on {original}, re-measured on {again}: "
        f"{machines.num_identical} of {machines.num_compared} identical"
    )
    for name, (first, second) in machines.differing.items():
        print(f"  {name}: {first} -> {second}")


def _metrics_table(report: Agreement) -> Table:
    from ucurve.cli.table_layout import table_of

    table = table_of(
        "metric", "compared", "identical", "largest difference", "relative", "states differ"
    )
    for name, metric in report.metrics.items():
        table.add_row(
            name,
            str(metric.num_compared),
            str(metric.num_identical),
            f"{metric.largest_absolute:.3g}",
            f"{metric.largest_relative:.3g}",
            str(metric.num_states_differ or ""),
        )
    return table


def _differences_table(report: Agreement) -> Table:
    from ucurve.cli.table_layout import table_of

    table = table_of("measurements", "point", "metric", "original", "re-measured", "relative")
    for point in report.points:
        ids, labels = f"{point.first}, {point.again}", labels_text(point.labels)
        if not point.metrics:
            table.add_row(ids, labels, "curves", "", "differ", "")
        for name, difference in point.metrics.items():
            table.add_row(ids, labels, name, *_cells(difference))
    return table


def _cells(difference: Difference) -> tuple[str, str, str]:
    """Return the original value, the re-measured one and their relative difference."""
    values = (difference.first, difference.again)
    if difference.states:
        first, again = (
            STATE_LABELS.get(state, state) if value is None else exact(value)
            for value, state in zip(values, difference.states, strict=True)
        )
        return first, again, ""
    relative = "" if difference.relative is None else f"{difference.relative:.3g}"
    return exact(difference.first), exact(difference.again), relative
