"""`ucurve datasets text NAME`: write what models read of a built-in dataset, without a lab.

    ucurve datasets text tiny-held-out -o held-out.txt          # 1,024 documents, one per line
    ucurve datasets text tiny-held-out --ids -o held-out.ids    # the same as numbers
    ucurve datasets text tiny-redrawn --split fine-tuning --rows 16 --steps 200 --ids
    ucurve datasets text novels-held-out -o excerpt.txt         # real English, byte for byte

Of the built-in language a word is a token, so a line has as many of them as a row has tokens. Rows
of endless datasets are those that a run with this seed reads, step by step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ucurve.cli.arguments import Command, InputError, positive
from ucurve.registry.artifacts import BUILTIN, folder_of
from ucurve.registry.suites import Dataset, Suite

if TYPE_CHECKING:
    from ucurve.modeling.synthetic_language import Ints

# Streams of an endless dataset: no row of one is read by another.
SPLITS = ("train", "fine-tuning", "fine-tuning validation", "Fisher information")
CONTEXT = 64
MAX_TOKENS = 1 << 24  # of one step, which is generated at once
RANGE_OPTIONS = ("split", "seed", "rows", "steps", "context")


def add_command(command: Command, datasets: object) -> None:
    """Add `text` to the commands of `ucurve datasets`."""
    parser = command(
        "text",
        write_text,
        "write the text of a built-in dataset as models read it, one document per line",
        datasets,
        examples=(
            "ucurve datasets text tiny-held-out -o held-out.txt",
            "ucurve datasets text tiny-held-out --ids -o held-out.ids",
            "ucurve datasets text tiny-redrawn --split fine-tuning --rows 16 --steps 200",
            "ucurve datasets text novels-held-out -o excerpt.txt",
        ),
    )
    parser.add_argument("name", help="name of a built-in dataset, see `ucurve datasets list`")
    parser.add_argument(
        "--ids",
        action="store_true",
        help="write token ids instead of words, separated by spaces; of a text in one line, as the "
        "suite of its name reads it",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to a file")
    endless = parser.add_argument_group("rows of an endless dataset")
    endless.add_argument(
        "--split",
        choices=SPLITS,
        help="who reads the rows: train for pre-training (default), fine-tuning, fine-tuning "
        "validation, or Fisher information for EWC",
    )
    endless.add_argument("--seed", type=natural, metavar="N", help="seed of the run (default: 0)")
    endless.add_argument("--rows", type=positive, metavar="N", help="rows per step (required)")
    endless.add_argument(
        "--steps", type=positive, metavar="N", help="number of steps, from step 0 (default: 1)"
    )
    endless.add_argument(
        "--context", type=positive, metavar="N", help="tokens per row (default: 64)"
    )


def natural(text: str) -> int:
    """Parse an integer from 0 on."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def write_text(args: argparse.Namespace) -> None:
    """Write the rows of a built-in dataset to a file or to standard output."""
    dataset = _builtin(args.name)
    if dataset.kind == "text":
        parts: Iterator[str] = iter([_text(dataset, args)])
    else:
        parts = (line for rows in _batches(dataset, args) for line in _lines(rows, args.ids))
    with _destination(args.output) as file:
        file.writelines(parts)
    if args.output:
        print(args.output)


def _builtin(name: str) -> Dataset:
    datasets = {
        dataset.name: dataset
        for dataset in map(
            Dataset.model_validate, json.loads((BUILTIN / "datasets.json").read_text())
        )
    }
    if name not in datasets:
        raise InputError(
            f"{name!r} is not a built-in dataset: use {', '.join(datasets)}; the text of any other "
            "dataset is the file from which it was registered"
        )
    return datasets[name]


def _expect_fixed(dataset: Dataset, args: argparse.Namespace) -> None:
    given = [f"--{name}" for name in RANGE_OPTIONS if getattr(args, name) is not None]
    if given:
        raise InputError(f"{dataset.name} is a fixed set: leave out {', '.join(given)}")


def _text(dataset: Dataset, args: argparse.Namespace) -> str:
    """Return a text, or its token ids for the suite that it belongs to, in one line."""
    _expect_fixed(dataset, args)
    assert dataset.location, "a built-in text is a file of the package"
    if not args.ids:
        return (BUILTIN / dataset.location.path).read_text(encoding="utf-8")
    from ucurve.modeling.checkpoints import read_tokenizer
    from ucurve.modeling.token_data import tokens_of

    [suite] = (s for s in _suites() if s.evaluation == dataset.name)
    folder = folder_of(suite.checkpoints[0].location)
    tokenizer = read_tokenizer(folder / "tokenizer.json", BUILTIN)
    return " ".join(map(str, tokens_of(dataset, tokenizer, BUILTIN).tolist())) + "\n"


def _suites() -> Iterator[Suite]:
    for manifest in sorted(BUILTIN.glob("suites/*/suite.json")):
        yield Suite.model_validate_json(manifest.read_bytes())


def _batches(dataset: Dataset, args: argparse.Namespace) -> Iterator[Ints]:
    """Return the rows of every step. Raises InputError for options that do not fit the dataset."""
    from ucurve.modeling.synthetic_language import SyntheticLanguage

    parameters = dataset.parameters
    language = SyntheticLanguage(int(parameters["language"]))
    documents: Callable[..., tuple[Ints, Ints]] = language.documents
    if parameters.get("task") == "sentiment":
        documents = language.labelled_documents
    if "rows" in parameters:
        _expect_fixed(dataset, args)
        size = int(parameters["rows"]), int(parameters["context"])
        return iter([documents(*size, split=str(parameters["split"]))[0]])
    if args.rows is None:
        raise InputError(f"{dataset.name} is endless: give --rows, the rows per step")
    context, split = args.context or CONTEXT, args.split or "train"
    smallest = 8  # as in the specs; a labelled row ends in four tokens of its own
    if context < smallest or args.rows * context > MAX_TOKENS:
        raise InputError(
            f"{args.rows:,} rows of {context:,} tokens cannot be written: use rows of at least "
            f"{smallest} tokens, and at most {MAX_TOKENS:,} tokens per step"
        )
    return (
        documents(args.rows, context, split=split, seed=args.seed or 0, step=step)[0]
        for step in range(args.steps or 1)
    )


def _lines(rows: Ints, ids: bool) -> Iterator[str]:
    from ucurve.modeling.synthetic_language import WORDS

    for row in rows.tolist():
        yield " ".join(str(token) if ids else WORDS[token] for token in row) + "\n"


@contextlib.contextmanager
def _destination(path: Path | None) -> Iterator[IO[str]]:
    """Open the file; missing folders are created. Standard output without a path."""
    if path is None:
        yield sys.stdout
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield file
    except OSError as error:
        raise InputError(
            f"cannot write to {path}: {error.strerror}; choose another path with -o"
        ) from error
