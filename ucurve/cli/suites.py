"""Commands about models and data: suites of checkpoints, datasets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ucurve.cli import builtin_text
from ucurve.cli.arguments import Command, InputError, connect, tokens_per_step, write
from ucurve.client import Client, RequestRejectedError
from ucurve.formatting import counted, file_size
from ucurve.registry.roots import OUTSIDE
from ucurve.registry.suites import FOLDER_FORMAT, Dataset, dataset_facts
from ucurve.schemas.catalogue import MAX_UPLOAD_BYTES

SHOWN = 20  # lines of what is understood, where not only that is asked for
FILES = ("text", "train", "validation")  # options that name a file


def commands(command: Command) -> None:
    _suite_commands(command)
    _dataset_commands(command)


def _suite_commands(command: Command) -> None:
    suites = command("suites", None, "manage suites: one model at many checkpoints").add_subparsers(
        required=True, metavar="COMMAND"
    )
    command("list", list_suites, "list suites", suites)
    parser = command(
        "add",
        add_suite,
        "register a suite",
        suites,
        examples=(
            "ucurve suites add pythia-70m --hub EleutherAI/pythia-70m",
            "ucurve suites add mine --path ~/checkpoints --evaluation wikitext-2",
            "ucurve suites add polypythias-14m --preset polypythias-14m",
            "ucurve suites add mine --path ~/checkpoints --save-positions mine.csv",
            "ucurve suites add mine --path ~/checkpoints --positions mine.csv",
        ),
    )
    parser.epilog = f"{parser.epilog}\n\nlayout of a folder:\n\n{FOLDER_FORMAT}"
    parser.add_argument("name", help="name of the suite")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--path",
        type=Path,
        help="folder with one sub-folder per revision, below a folder of `ucurve up --models DIR`",
    )
    source.add_argument(
        "--hub",
        metavar="OWNER/NAME",
        action="append",
        help="Hugging Face repository with a branch per revision; repeat it for repositories of "
        "the same model, one per pre-training seed",
    )
    parser.set_defaults(fields={"repositories": "--hub"})
    source.add_argument("--preset", help="suite that the package knows, such as polypythias-14m")
    _position_options(parser)


def _position_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evaluation", help="default evaluation dataset")
    parser.add_argument(
        "--tokens-per-step",
        type=tokens_per_step,
        metavar="N",
        help="tokens per training step, where revision names contain steps only; ranges "
        "FIRST_STEP:TOKENS where the batch changed, such as 0:2097152,1000:4194304",
    )
    parser.add_argument(
        "--positions",
        type=Path,
        metavar="FILE",
        help="CSV that corrects positions, as --save-positions writes it",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what is understood, and register nothing"
    )
    parser.add_argument(
        "--save-positions",
        type=Path,
        metavar="FILE",
        help="write what is understood as CSV, and register nothing",
    )


def _dataset_commands(command: Command) -> None:
    datasets = command(
        "datasets", None, "manage datasets: evaluation text, fine-tuning examples"
    ).add_subparsers(required=True, metavar="COMMAND")
    command("list", list_datasets, "list datasets", datasets)
    parser = command(
        "add",
        add_dataset,
        "register a dataset",
        datasets,
        examples=(
            "ucurve datasets add novel --text novel.txt",
            "ucurve datasets add reviews --train train.tsv --validation dev.tsv",
            "ucurve datasets add wikitext-2 --preset wikitext-2",
        ),
    )
    parser.add_argument("name", help="name of the dataset")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--text",
        type=Path,
        help="UTF-8 text, or .jsonl, .json, .csv or Parquet with a column of documents, also "
        "compressed; uploaded unless the lab reads its folder",
    )
    source.add_argument(
        "--train",
        type=Path,
        help="fine-tuning examples: .tsv or .csv with a header, .jsonl, .json or Parquet; needs "
        "--validation",
    )
    source.add_argument(
        "--preset", choices=("wikitext-2", "sst2"), help="public dataset from the Hugging Face hub"
    )
    parser.add_argument("--validation", type=Path, help="validation examples; needs --train")
    parser.add_argument("--column", help="column of the documents in --text (default: text)")
    builtin_text.add_command(command, datasets)


def list_suites(args: argparse.Namespace) -> None:
    from ucurve.cli.table_layout import show
    from ucurve.cli.tables import suites_table

    suites = connect(args).suites()
    show(suites_table(suites))
    for suite in suites:
        for warning in suite.warnings:
            print(f"warning: {suite.name}: {warning}")


def add_suite(args: argparse.Namespace) -> None:
    """Show what is understood of the revisions, then register them."""
    from ucurve.cli.table_layout import show
    from ucurve.cli.tables import positions_table

    client = connect(args)
    details = _suite_details(args)
    preview = client.preview_suite(args.name, **details)
    only_shown = args.dry_run or args.save_positions is not None
    show(positions_table(preview.checkpoints, None if only_shown else SHOWN))
    for revision, reason in list(preview.left_out.items())[:SHOWN]:
        print(f"left out: {revision}: {reason}", file=sys.stderr)
    for question in preview.questions:
        print(f"check: {question}", file=sys.stderr)
    if args.save_positions is not None:
        write(args.save_positions, preview.table.encode())
    if only_shown:
        for warning in preview.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        return
    suite = client.add_suite(args.name, **details)
    print(f"suite {suite.name}: {counted(len(suite.checkpoints), 'checkpoint')}")
    for warning in suite.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _suite_details(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a SuiteSubmission that the options give."""
    repositories = args.hub or []
    return {
        "path": str(args.path.expanduser().resolve()) if args.path else None,
        "hub": repositories[0] if len(repositories) == 1 else None,
        "repositories": repositories if len(repositories) > 1 else None,
        "preset": args.preset,
        "evaluation": args.evaluation,
        "tokens_per_step": args.tokens_per_step,
        "positions": _text_of(args.positions) if args.positions else None,
    }


def _text_of(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"--positions: cannot read {path}: {reason}") from error


def list_datasets(args: argparse.Namespace) -> None:
    from ucurve.cli.table_layout import show
    from ucurve.cli.tables import datasets_table

    show(datasets_table(connect(args).datasets()))


def add_dataset(args: argparse.Namespace) -> None:
    if (args.train is None) != (args.validation is None):
        raise InputError("fine-tuning examples need two files: --train and --validation")
    client = connect(args)
    files = {
        name: path.expanduser().resolve()
        for name in FILES
        if (path := getattr(args, name)) is not None
    }
    names = {name: str(path) for name, path in files.items()}
    try:
        dataset = _register(client, args, names)
    except RequestRejectedError as error:
        if OUTSIDE not in str(error):
            raise
        names = {name: _upload(client, f"--{name}", path) for name, path in files.items()}
        dataset = _register(client, args, names)
    print(f"dataset {dataset.name}: {dataset.unresolved or dataset.sha256}")
    for line in dataset_facts(dataset):
        print(line)


def _register(client: Client, args: argparse.Namespace, files: dict[str, str]) -> Dataset:
    text, train, validation = (files.get(name) for name in FILES)
    return client.add_dataset(
        args.name, text, args.preset, train=train, validation=validation, column=args.column
    )


def _upload(client: Client, option: str, path: Path) -> str:
    """Send the content of a file outside the folders of the lab; return its name there."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError(f"{option}: {path} is not a file")
        if size > MAX_UPLOAD_BYTES:
            raise InputError(
                f"{option}: {path} has {file_size(size)}, more than can be uploaded: put it below "
                "a folder of the lab (`ucurve up --models DIR`, or UCURVE_MODELS)"
            )
        name = client.upload(path)
    except OSError as error:
        raise InputError(f"{option}: cannot read {path}: {error.strerror}") from error
    print(f"uploaded {path.name}, {file_size(size)}", file=sys.stderr)
    return name
