"""Files of examples to fine-tune on: TSV with a header line, or JSON lines.

    train.tsv:    sentence<TAB>label            a sentence and its class, as GLUE has it
    train.jsonl:  {"prompt": ..., "completion": ...}      the completion is what is learned

A set is two such files, `train` and `validation`, with the same columns.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ucurve.registry.roots import open_file

MAX_BYTES = 10**9  # a file is read as a whole
SPLITS = ("train", "validation")
LABELLED, PROMPTED = ("sentence", "label"), ("prompt", "completion")


class ExamplesError(ValueError):
    """A file that holds no examples; the message says which line and what is expected."""


@dataclass(frozen=True)
class Examples:
    """Rows of one file.

    columns is LABELLED or PROMPTED; other columns of the file are dropped.
    """

    columns: tuple[str, str]
    rows: list[tuple[str, str]]


def read(path: Path, artefacts: Path | None = None) -> Examples:
    """The examples in a .tsv (no quoting: a tab or a line end is never part of a value) or a .jsonl
    file.

    Raises LocationError for a file that may not be read, and ExamplesError.
    """
    return parse(path, content(path, artefacts))


def content(path: Path, artefacts: Path | None = None) -> bytes:
    """Return the bytes of a file of examples. Raises LocationError and ExamplesError."""
    with open_file(path, artefacts) as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise ExamplesError(f"{path} is larger than {MAX_BYTES // 10**9} GB")
        return file.read(MAX_BYTES + 1)


def parse(path: Path, content: bytes) -> Examples:
    """Return the examples in the bytes of a file; its suffix gives the format."""
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise ExamplesError(f"{path} is not UTF-8 text ({error.reason})") from error
    if lines[-1] == "":
        lines.pop()
    return _json_lines(path, lines) if path.suffix in (".jsonl", ".json") else _tsv(path, lines)


def _tsv(path: Path, lines: list[str]) -> Examples:
    header = lines[0].rstrip("\r").split("\t") if lines else []
    columns = _columns(path, header)
    first, second = (header.index(column) for column in columns)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        values = line.rstrip("\r").split("\t")
        if len(values) != len(header):
            raise ExamplesError(
                f"line {number} of {path} has {len(values)} columns, its header {len(header)}"
            )
        rows.append((values[first], values[second]))
    return _some(path, Examples(columns, rows))


def _json_lines(path: Path, lines: list[str]) -> Examples:
    rows, columns = [], None
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            columns = columns or _columns(path, list(entry.keys()))
            rows.append((str(entry[columns[0]]), str(entry[columns[1]])))
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
            raise ExamplesError(
                f"line {number} of {path} is no JSON object with the columns of the first"
            ) from error
    return _some(path, Examples(columns or LABELLED, rows))


def _columns(path: Path, header: list[str]) -> tuple[str, str]:
    for columns in (LABELLED, PROMPTED):
        if set(columns) <= set(header):
            return columns
    raise ExamplesError(
        f"the first line of {path} names {len(header)} column{'' if len(header) == 1 else 's'}, "
        "but neither sentence and label nor prompt and completion"
        f"{', separated by tabs' if path.suffix == '.tsv' else ''}"
    )


def _some(path: Path, examples: Examples) -> Examples:
    if not examples.rows:
        raise ExamplesError(f"{path} holds no examples")
    return examples


def classes(examples: Examples) -> list[str]:
    """Return the labels in the order of label words: numerical where all are numbers."""
    labels = {label for _, label in examples.rows}
    numeric = all(label.isdecimal() for label in labels)
    return sorted(labels, key=(lambda label: int(label)) if numeric else None)
