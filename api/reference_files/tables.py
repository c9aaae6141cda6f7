"""Plain tables: a header and a row per number, separated by commas, semicolons or tabs.

    checkpoint,tokens,metric,value,standard_error
    step1000,2097152000,lambada_openai/perplexity,1200.5,30.1

Headers may be in capitals. Where columns are separated by semicolons or tabs, numbers may have
decimal commas, in the whole file or not at all.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from api.reference_files.contents import ContentError, expect_content
from api.reference_models import (
    TOKENS_TOLERANCE,
    CheckpointFinder,
    EvaluatedModel,
    UnknownCheckpointError,
    after_pre_training,
)

COLUMNS = ("checkpoint", "tokens", "metric", "value")
OPTIONAL = "standard_error"
OTHER_NAMES = {"revision": "checkpoint", "stderr": OPTIONAL, "standard error": OPTIONAL}
SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class Row:
    """A number of a checkpoint, and its line."""

    where: str
    revision: str
    tokens: int
    metric: str
    value: float
    error: float | None


def read(content: str, finder: CheckpointFinder) -> Iterator[Row]:
    """Yield the numbers of a table. Raises ContentError."""
    expect_content(content)
    text = content.removeprefix("\ufeff")
    separator = _separator(text)
    reader = csv.DictReader(
        io.StringIO(text, newline=""), restkey="", strict=True, delimiter=separator
    )
    number = _numbers(text, separator)
    try:
        names = [_column(name) for name in reader.fieldnames or []]
        reader.fieldnames = names
        _check_header(names)
        for row in reader:
            line = reader.line_num
            where = f"line {line}"
            if "" in row or any(row[name] is None for name in COLUMNS):
                message = f"the row does not have {len(names)} values as the header"
                raise ContentError(where, message)
            try:
                yield _number_of(row, where, finder, number)
            except _CellError as error:
                raise ContentError(f"{where}, column {error.column}", str(error)) from error
    except csv.Error as error:
        where = f"line {reader.reader.line_num}"
        message = "this is not CSV: look for an unclosed quotation mark"
        raise ContentError(where, message) from error


def _separator(text: str) -> str:
    """Return the separator under which the header has most of the columns."""
    header = text.lstrip().partition("\n")[0]

    def known(separator: str) -> int:
        return len({_column(name) for name in header.split(separator)} & {*COLUMNS, OPTIONAL})

    return max(SEPARATORS, key=known)


def _column(name: str) -> str:
    name = name.strip().strip('"').lower()
    return OTHER_NAMES.get(name, name)


def _check_header(names: list[str]) -> None:
    header = ",".join(COLUMNS)
    if missing := [name for name in COLUMNS if name not in names]:
        raise ContentError(
            f"line 1, column {missing[0]}",
            f"it is missing; the header is {header}[,{OPTIONAL}]",
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ContentError(f"line 1, column {twice[0]}", "the header has it twice; keep one")


def _numbers(text: str, separator: str) -> Callable[[str], float | None]:
    """Return how this file writes numbers."""
    body = text.partition("\n")[2]
    commas = separator != "," and "," in body and not _has_decimal_points(body, separator)

    def number(text: str) -> float | None:
        if "_" in text:  # which Python reads over
            return None
        try:
            return float(text.strip().replace(",", ".") if commas else text)
        except ValueError:
            return None

    return number


def _has_decimal_points(body: str, separator: str) -> bool:
    cells = (cell.strip() for line in body.splitlines() for cell in line.split(separator))
    return any("." in cell and cell.replace(".", "", 1).isdecimal() for cell in cells)


class _CellError(ValueError):
    """A cell that cannot be read."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


def _number_of(
    row: Mapping[str, str],
    where: str,
    finder: CheckpointFinder,
    number: Callable[[str], float | None],
) -> Row:
    revision, metric = row["checkpoint"].strip(), row["metric"].strip()
    if not revision or not metric:
        raise _CellError("metric" if revision else "checkpoint", "it is empty")
    revision, tokens = _place(revision, row["tokens"].strip(), finder, number)
    value = number(row["value"])
    if value is None:
        raise _CellError(
            "value",
            "it is not a number; write it like 12.5 or 1.25e1, without separators of thousands",
        )
    text = (row.get(OPTIONAL) or "").strip()
    error = number(text)
    if text and not (error is not None and 0 <= error < math.inf):
        raise _CellError(OPTIONAL, "it is not a number of at least 0; leave it empty if unknown")
    return Row(where, revision, tokens, metric, value, error)


def _place(
    revision: str, text: str, finder: CheckpointFinder, number: Callable[[str], float | None]
) -> tuple[str, int]:
    """Return the revision as the suite calls it, and its tokens."""
    if text:
        tokens = number(text)
        if tokens is None or not math.isfinite(tokens) or tokens < 0 or tokens != int(tokens):
            raise _CellError("tokens", "give an integer, without separators, or leave it empty")
        registered = finder.registered(revision)
        own = registered.tokens if registered else None
        if own is not None and abs(own - tokens) > TOKENS_TOLERANCE * max(own, tokens):
            raise _CellError(
                "tokens",
                f"suite {finder.name!r} has other tokens for this checkpoint, {own:,}: they are "
                "two runs, or the cell is wrong; correct it, or leave it empty",
            )
        return (registered.revision if registered else revision), int(tokens)
    if (registered := finder.registered(revision)) and registered.training_phase is not None:
        raise _CellError("tokens", f"give an integer: {after_pre_training(registered)}")
    try:
        found = finder.find(EvaluatedModel(revision=revision))
    except UnknownCheckpointError as error:
        raise _CellError(
            "tokens",
            "give an integer, since neither the checkpoint's name nor "
            + (f"suite {finder.name!r}" if finder.name else "a suite")
            + " gives the tokens",
        ) from error
    return found.revision, found.tokens
