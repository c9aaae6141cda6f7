"""Fine-tuning examples as people have them, understood once at registration.

Files that workers read as they lie (`example_files`) stay as they are. Everything else (Parquet,
CSV, compressed files, other column names, labels such as 1.0) is written as JSON lines to the
artefact folder under its SHA-256, and those files are the dataset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ucurve.registry.artifacts import bytes_sha256, location_of, write_atomically
from ucurve.registry.datasets import example_files
from ucurve.registry.datasets.example_files import LABELLED, PROMPTED, Examples, ExamplesError
from ucurve.registry.datasets.record_files import DataFileError, kind_of, open_data
from ucurve.registry.datasets.text_files import preview_of, uploads_with_room
from ucurve.registry.roots import UPLOADS
from ucurve.registry.suites import Dataset
from ucurve.settings import settings

# Column names that are read as sentence and label, or as prompt and completion. Between the latter,
# under other names than these two, a blank line is put: a prompt ends where its author ended it.
SENTENCES, LABELS = ("sentence", "text", "content"), ("label", "labels")
PROMPTS = (
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("question", "answer"),
    ("input", "output"),
    ("input", "target"),
    ("inputs", "targets"),
)
MORE = ("input", "context", "passage")  # of a prompt; a blank line before each
TURNS = ("system", "history")  # of some instructions: they are part of what the model reads
REFUSED: Mapping[frozenset[str], str] = {
    frozenset({"data"}): "its examples within one object: write an array of them, or an object per "
    "line; of SQuAD, one per question, context and question as prompt",
    frozenset(
        {"question", "answers"}
    ): "lists of answers: write one of them as completion, context and question as prompt",
    frozenset({"choices"}): "a multiple-choice task: write the question as prompt and the right "
    "choice as completion",
    frozenset({"endings"}): "a multiple-choice task: write the context as prompt and the right "
    "ending as completion",
    frozenset({"messages"}): "a chat: write what the model reads as prompt and its answer as "
    "completion, in the template that you mean",
    frozenset({"conversations"}): "a chat: write what the model reads as prompt and its answer as "
    "completion, in the template that you mean",
    frozenset({"chosen", "rejected"}): "preference pairs: write the chosen answer as completion",
    frozenset({"sentence1", "sentence2"}): "pairs: join both into one column sentence",
    frozenset({"premise", "hypothesis"}): "pairs: join both into one column sentence",
    frozenset({"question1", "question2"}): "pairs: join both into one column sentence",
}
READ = "sentence and label, or prompt and completion (instruction and output, with input, too)"


class SplitError(ExamplesError):
    """A file that holds no usable examples.

    Attributes:
        split: train or validation.
    """

    def __init__(self, split: str, message: str) -> None:
        super().__init__(message)
        self.split = split


@dataclass(frozen=True)
class Columns:
    """How the columns of a file are read: as `names`, by `row`."""

    names: tuple[str, str]
    row: Callable[[Mapping[str, Any], str], tuple[str, str]]


def understood_examples(dataset: Dataset, files: Mapping[str, Path]) -> Dataset:
    """Return the dataset with its files as workers read them, and what was understood.

    files: by split. Raises SplitError, LocationError and OSError.
    """
    read = {split: _examples(split, path) for split, path in files.items()}
    tidy = _same_labels(read)
    first = dict(zip(tidy["train"].columns, tidy["train"].rows[0], strict=True))
    facts: dict[str, Any] = {"preview": preview_of(json.dumps(first, ensure_ascii=False))}
    empty = sum(not second.strip() for e in tidy.values() for _, second in e.rows)
    if empty:
        facts["empty_completions"] = empty
    if not all(_as_it_lies(path, tidy[split]) for split, path in files.items()):
        names = {split: _written(split, path, tidy[split]) for split, path in files.items()}
        facts |= {**names, **{f"{split}_source": path.name for split, path in files.items()}}
        location = location_of(settings().artefacts / UPLOADS)
        dataset = dataset.model_copy(update={"location": location})
    return dataset.model_copy(update={"parameters": {**dataset.parameters, **facts}})


def _as_it_lies(path: Path, examples: Examples) -> bool:
    """Return whether workers read the same rows from the file itself."""
    try:
        return example_files.read(path) == examples
    except ExamplesError:
        return False


def _written(split: str, path: Path, examples: Examples) -> str:
    """Write examples as JSON lines; return the name of the file."""
    try:
        folder = uploads_with_room(path)
    except DataFileError as error:
        raise SplitError(split, str(error)) from error
    rows = [dict(zip(examples.columns, row, strict=True)) for row in examples.rows]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    name = f"{bytes_sha256(content)}.jsonl"
    write_atomically(folder / name, content)
    return name


def _examples(split: str, path: Path) -> Examples:
    columns: Columns | None = None
    rows = []
    try:
        with open_data(path) as data:
            if data.form == "text":
                raise DataFileError(
                    f"{path} is no .tsv, .csv, .jsonl, .json or Parquet file: it needs a name "
                    "that says how to read it"
                )
            for where, row in data.rows():
                row = {str(name).strip().lower(): value for name, value in row.items()}
                columns = columns or _columns(path, data.form, list(row))
                rows.append(columns.row(row, f"{where} of {path}"))
    except DataFileError as error:
        raise SplitError(split, str(error)) from error
    if columns is None:
        raise SplitError(split, f"{path} holds no examples")
    return Examples(columns.names, rows)


def _columns(path: Path, form: str, names: list[str]) -> Columns:
    for first in SENTENCES:
        for second in LABELS:
            if {first, second} <= set(names):
                return Columns(LABELLED, partial(_labelled, first=first, second=second))
    for prompt, completion in PROMPTS:
        if {prompt, completion} <= set(names):
            plain = (prompt, completion) == PROMPTED
            read = partial(_prompted, names=(prompt, completion), plain=plain)
            return Columns(PROMPTED, read)
    for refused, reason in REFUSED.items():
        if refused <= set(names):
            raise DataFileError(f"{path} holds {reason}")
    if "text" in names:
        raise DataFileError(f"{path} has texts without labels: register it as a text")
    # Their number only: any file of a listed folder can be named, and none is to be read by errors.
    columns = f"{len(names)} column{'' if len(names) == 1 else 's'}"
    tabs = ", separated by tabs" if form == "tsv" else ""
    raise DataFileError(
        f"the first line of {path} names {columns}, but neither sentence and label nor prompt and "
        f"completion{tabs}; columns that are read: {READ}"
    )


def _labelled(row: Mapping[str, Any], at: str, first: str, second: str) -> tuple[str, str]:
    label = _value(row, at, second)
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    text = str(label).strip()
    if not text or text.lower() == "nan":
        raise DataFileError(f"{second} in {at} is {text or 'empty'}: leave the example out")
    return _text(row, at, first), text


def _prompted(
    row: Mapping[str, Any], at: str, names: tuple[str, str], plain: bool
) -> tuple[str, str]:
    prompt = _text(row, at, names[0])
    for more in () if plain else (name for name in MORE if name not in names and row.get(name)):
        prompt = f"{prompt}\n\n{_text(row, at, more)}"
    for turns in () if plain else filter(row.get, TURNS):
        raise DataFileError(f"{turns} in {at} is not empty: write it into the prompt")
    return prompt if plain else f"{prompt}\n\n", _text(row, at, names[1])


def _text(row: Mapping[str, Any], at: str, name: str) -> str:
    text = str(_value(row, at, name))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataFileError(f"{name} in {at} holds half a character: {error.reason}") from error
    return text


def _value(row: Mapping[str, Any], at: str, name: str) -> Any:
    """Return a text or a number. Raises DataFileError for anything else."""
    if name not in row:
        raise DataFileError(f"{at} has no {name}, which the first line has")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        remedy = "write it as text"
        if isinstance(value, list) and name in LABELS:
            remedy = "write one class per example, an example per line"
        elif isinstance(value, list):
            remedy = "of a chat, write the text that the model reads"
        elif value is None:
            remedy = "leave the example out"
        raise DataFileError(f"{name} in {at} is {kind_of(value)}: {remedy}")
    return value


def _same_labels(read: Mapping[str, Examples]) -> dict[str, Examples]:
    """Return the examples with labels 1.0 and 1 as one. Raises SplitError for other decimals."""
    labels = {label for e in read.values() if e.columns == LABELLED for _, label in e.rows}
    if labels and all(re.fullmatch(r"-?\d+(\.\d*)?", label) for label in labels):
        if any(re.search(r"\.0*[1-9]", label) for label in labels):
            message = "the labels are decimal numbers: classes are needed, such as 0 and 1"
            raise SplitError("train", message)
        if labels == {"-1"}:
            raise SplitError("train", "every label is -1: this split has no labels; use another")
        return {split: _whole_labels(examples) for split, examples in read.items()}
    return dict(read)


def _whole_labels(examples: Examples) -> Examples:
    rows = [(text, label.partition(".")[0]) for text, label in examples.rows]
    return Examples(examples.columns, rows)
