"""Commands about models and data: suites of checkpoints, datasets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ucurve.cli.arguments import Command, InputError, connect, positive
from ucurve.client import Client, RequestRejectedError
from ucurve.formatting import file_size
from ucurve.registry.roots import OUTSIDE
from ucurve.registry.suites import FOLDER_FORMAT, Dataset
from ucurve.schemas.catalogue import MAX_UPLOAD_BYTES

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
        "--hub", metavar="OWNER/NAME", help="Hugging Face repository with a branch per revision"
    )
    parser.add_argument("--evaluation", help="default evaluation dataset")
    parser.add_argument(
        "--tokens-per-step",
        type=positive,
        metavar="N",
        help="tokens per training step, where revision names contain steps only",
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
        "--text", type=Path, help="UTF-8 text file; uploaded unless the lab reads its folder"
    )
    source.add_argument(
        "--train",
        type=Path,
        help="fine-tuning examples: .tsv with a header, or .jsonl; needs --validation",
    )
    source.add_argument(
        "--preset", choices=("wikitext-2", "sst2"), help="public dataset from the Hugging Face hub"
    )
    parser.add_argument("--validation", type=Path, help="validation examples; needs --train")


def list_suites(args: argparse.Namespace) -> None:
    from ucurve.cli.tables import show, suites_table

    show(suites_table(connect(args).suites()))


def add_suite(args: argparse.Namespace) -> None:
    path = str(args.path.expanduser().resolve()) if args.path else None
    suite = connect(args).add_suite(
        args.name,
        path,
        args.hub,
        evaluation=args.evaluation,
        tokens_per_step=args.tokens_per_step,
    )
    print(f"suite {suite.name}: {len(suite.checkpoints)} checkpoints")
    for warning in suite.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def list_datasets(args: argparse.Namespace) -> None:
    from ucurve.cli.tables import datasets_table, show

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


def _register(client: Client, args: argparse.Namespace, files: dict[str, str]) -> Dataset:
    text, train, validation = (files.get(name) for name in FILES)
    return client.add_dataset(args.name, text, args.preset, train=train, validation=validation)


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
