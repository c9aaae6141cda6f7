"""Commands that change an experiment's record: edit, delete."""

from __future__ import annotations

import argparse

from ucurve.cli.arguments import EXPERIMENT, PRIORITY, Command, InputError, connect


def commands(command: Command) -> None:
    parser = command(
        "edit",
        edit,
        "edit name, tags, notes, priority or webhook; archive or star",
        examples=('ucurve edit 7 --name "noise, final" --tag paper', "ucurve edit 7 --archive"),
    )
    parser.add_argument("id", type=int, help=EXPERIMENT)
    parser.add_argument("--name", help="new name")
    parser.add_argument(
        "--tag", action="append", dest="tags", help="repeatable; replaces existing tags"
    )
    parser.add_argument(
        "--no-tags", action="store_const", const=[], dest="tags", help="remove all tags"
    )
    parser.add_argument("--notes", help="notes in Markdown")
    parser.add_argument("--priority", type=int, help=PRIORITY)
    parser.add_argument(
        "--archive",
        action=argparse.BooleanOptionalAction,
        dest="archived",
        help="hide it in the list",
    )
    parser.add_argument("--star", action=argparse.BooleanOptionalAction, help="add your star")
    parser.add_argument("--webhook", metavar="URL", help="webhook URL; 'none' removes it")
    parser = command(
        "delete",
        delete,
        "delete experiments; their measurements stay in the cache",
        examples=("ucurve delete 7 8",),
    )
    parser.add_argument("id", type=int, nargs="+", help=EXPERIMENT)


def edit(args: argparse.Namespace) -> None:
    names = ("name", "tags", "notes", "priority", "archived", "webhook")
    changes = {name: value for name in names if (value := getattr(args, name)) is not None}
    if changes.get("webhook") in ("", "none"):
        changes["webhook"] = None
    if not changes and args.star is None:
        raise InputError(
            "nothing to change: use --name, --tag, --notes, --priority, --archive, --star "
            "or --webhook"
        )
    client = connect(args)
    experiment = client.edit(args.id, **changes) if changes else client.experiment(args.id)
    if args.star is not None:
        experiment = client.star(args.id, args.star)
    tags = f" [{' '.join(experiment.tags)}]" if experiment.tags else ""
    marks = [f"priority {experiment.priority}"]
    marks += ["starred"] if experiment.starred else []
    marks += ["archived"] if experiment.archived else []
    print(f"experiment {experiment.id} ({experiment.name}){tags}: {', '.join(marks)}")


def delete(args: argparse.Namespace) -> None:
    client = connect(args)
    for id in args.id:
        client.delete(id)
        print(f"experiment {id} deleted; its measurements stay in the cache")
