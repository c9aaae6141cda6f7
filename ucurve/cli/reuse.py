"""Commands about what happens to an experiment later: edit, star, delete, and how far fresh numbers agree with the first ones."""

from __future__ import annotations

import argparse
from typing import Any

from ucurve.cli.arguments import EXPERIMENT, Command, InputError, client, count
from ucurve.schemas.reproducibility import Agreement, in_words


def commands(command: Command) -> None:
    made = command("edit", edit, "change its name, tags, notes, priority, or archive it")
    made.add_argument("id", type=int, help=EXPERIMENT)
    made.add_argument("--name")
    made.add_argument(
        "--tag", action="append", dest="tags", help="may be given several times; the tags it had go"
    )
    made.add_argument(
        "--no-tags", action="store_const", const=[], dest="tags", help="take all tags off"
    )
    made.add_argument("--notes", help="Markdown")
    made.add_argument("--priority", type=int, help="-10 to 10; higher is measured first")
    made.add_argument(
        "--archive",
        action=argparse.BooleanOptionalAction,
        dest="archived",
        help="leave it out of the list",
    )
    made.add_argument("--star", action=argparse.BooleanOptionalAction, help="your own mark on it")
    made.add_argument(
        "--webhook",
        metavar="URL",
        help="address that is told when it is done or failed; none takes it away",
    )
    made = command(
        "delete",
        delete,
        "remove an experiment; what it measured stays, and is found by whoever plans it again",
    )
    made.add_argument("id", type=int, nargs="+", help=EXPERIMENT)
    made = command(
        "agreement",
        agreement,
        "how far the numbers of a fresh experiment agree with the first ones",
    )
    made.add_argument("id", type=int, help=EXPERIMENT)
    made.add_argument(
        "--limit", type=count, default=10, help="of the points that differ, the worst first"
    )


def edit(given: argparse.Namespace) -> None:
    names = ("name", "tags", "notes", "priority", "archived", "webhook")
    changes = {name: value for name in names if (value := getattr(given, name)) is not None}
    if changes.get("webhook") in ("", "none"):
        changes["webhook"] = None
    if not changes and given.star is None:
        raise InputError(
            "nothing to change: give --name, --tag, --notes, --priority, --archive, --star or --webhook"
        )
    lab = client(given)
    experiment = lab.edit(given.id, **changes) if changes else lab.experiment(given.id)
    if given.star is not None:
        experiment = lab.star(given.id, given.star)
    marks = [
        word
        for word, is_so in (("starred", experiment.starred), ("archived", experiment.archived))
        if is_so
    ]
    tags = f" [{' '.join(experiment.tags)}]" if experiment.tags else ""
    print(
        f"experiment {experiment.id} ({experiment.name}){tags}: "
        + ", ".join([f"priority {experiment.priority}", *marks])
    )


def delete(given: argparse.Namespace) -> None:
    lab = client(given)
    for id in given.id:
        lab.delete(id)
        print(f"experiment {id} is deleted; its numbers stay")


def agreement(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import show, table_of

    found = client(given).agreement(given.id, given.limit)
    print(in_words(found))
    for one in found.machines:
        print(
            f"first on {', '.join(one.first_workers)} ({one.first_device}), again on {', '.join(one.again_workers)} ",
            end="",
        )
        print(f"({one.again_device}): {one.num_identical} of {one.num_compared} identical")
        for name, (first, again) in one.differing.items():
            print(f"  {name}: {first} -> {again}")
    if found.metrics:
        table = table_of(
            "metric", "compared", "identical", "largest difference", "relative", "states differ"
        )
        for name, metric in found.metrics.items():
            largest = f"{metric.largest_absolute:.3g}", f"{metric.largest_relative:.3g}"
            table.add_row(
                name,
                str(metric.num_compared),
                str(metric.num_identical),
                *largest,
                str(metric.num_states_differ or ""),
            )
        show(table)
    if found.points:
        show(_worst(found))


def _worst(found: Agreement) -> Any:
    from ucurve.cli.tables import table_of

    table = table_of("measurements", "point", "metric", "first", "again", "relative")
    for point in found.points:
        labels = ", ".join(
            f"{name} {value}" for name, value in point.labels.items() if value is not None
        )
        for name, one in point.metrics.items() or {"curves": None}.items():
            if one is None:
                values = ["", "differ", ""]
            elif one.states:
                sides = zip((one.first, one.again), one.states, strict=True)
                values = [*(state if value is None else repr(value) for value, state in sides), ""]
            else:
                values = [
                    repr(one.first),
                    repr(one.again),
                    "" if one.relative is None else f"{one.relative:.3g}",
                ]
            table.add_row(f"{point.first}, {point.again}", labels, name, *values)
    return table
