"""Commands about suites and evaluation sets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ucurve.cli.arguments import Command, InputError, client, count
from ucurve.registry.suites import FOLDER_FORMAT


def commands(command: Command) -> None:
    suites = command("suites", None, "models at many checkpoints").add_subparsers(
        required=True, metavar="COMMAND"
    )
    command("list", list_suites, "all suites", suites)
    add = command("add", add_suite, "register a suite", suites)
    add.add_argument("name")
    source = add.add_mutually_exclusive_group(required=True)
    source.add_argument("--path", type=Path, help="folder with one sub-folder per revision")
    source.add_argument("--hub", metavar="OWNER/NAME", help="hub repository whose refs are listed")
    add.add_argument("--evaluation", help="evaluation set used when an experiment names none")
    add.add_argument(
        "--tokens-per-step", type=count, metavar="N", help="where names tell steps only"
    )
    add.epilog, add.formatter_class = (
        f"a folder looks like this:\n\n{FOLDER_FORMAT}",
        argparse.RawDescriptionHelpFormatter,
    )

    datasets = command("datasets", None, "evaluation sets").add_subparsers(
        required=True, metavar="COMMAND"
    )
    command("list", list_datasets, "all evaluation sets", datasets)
    add = command("add", add_dataset, "register an evaluation set", datasets)
    add.add_argument("name")
    source = add.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", type=Path, help="UTF-8 text file")
    source.add_argument(
        "--train",
        type=Path,
        help="examples to fine-tune on: .tsv with a header, or .jsonl; with --validation",
    )
    source.add_argument("--preset", choices=("wikitext-2", "sst2"), help="known set of the hub")
    add.add_argument("--validation", type=Path, help="examples to validate on")


def list_suites(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import show, suites_table

    show(suites_table(client(given).suites()))


def add_suite(given: argparse.Namespace) -> None:
    path = str(given.path.expanduser().resolve()) if given.path else None
    suite = client(given).add_suite(
        given.name,
        path,
        given.hub,
        evaluation=given.evaluation,
        tokens_per_step=given.tokens_per_step,
    )
    print(f"suite {suite.name}: {len(suite.checkpoints)} checkpoints")
    for warning in suite.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def list_datasets(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import datasets_table, show

    show(datasets_table(client(given).datasets()))


def add_dataset(given: argparse.Namespace) -> None:
    if (given.train is None) != (given.validation is None):
        raise InputError("examples are two files: give --train and --validation")
    text, train, validation = (
        path and str(path.expanduser().resolve())
        for path in (given.text, given.train, given.validation)
    )
    dataset = client(given).add_dataset(
        given.name, text, given.preset, train=train, validation=validation
    )
    print(f"evaluation set {dataset.name}: {dataset.unresolved or dataset.sha256}")
