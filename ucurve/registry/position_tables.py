"""The positions of a suite's checkpoints as CSV: written, corrected by hand, and read again.

text = table_text(discovered.checkpoints)
discovered = corrected(discovered, edited)     # TableError names line and column
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from ucurve.csv_cells import FORMULA_STARTS, plain_row
from ucurve.registry.discover import Discovered
from ucurve.registry.names.revisions import MAX_COUNT
from ucurve.registry.suites import Checkpoint, sort_checkpoints

COUNTS = ("step", "tokens", "words")
NAMES = ("training_phase", "phase", "replicate_name")
SOURCE = "position_source"  # written for the reader; not read again
COLUMNS = ("revision", *COUNTS, "training_phase", "phase", "replicate", "replicate_name", SOURCE)
FROM_TABLE = "table of positions"
MAX_REPLICATE = 1_000_000
MAX_NAME = 200  # characters


class TableError(ValueError):
    """The table cannot be read; the message names line, column, and remedy."""


def table_text(checkpoints: Iterable[Checkpoint]) -> str:
    """Return the positions of the checkpoints as CSV, one line each."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for checkpoint in checkpoints:
        values = (getattr(checkpoint, name) for name in COLUMNS)
        writer.writerow(plain_row("" if value is None else value for value in values))
    return file.getvalue()


def corrected(discovered: Discovered, text: str) -> Discovered:
    """Return what was discovered with the positions of a table; other columns and rows stay.

    A revision that was left out is added by its row. Raises TableError.
    """
    everything = {c.revision: c for c in (*discovered.checkpoints, *discovered.left_out)}
    included = {c.revision: c for c in discovered.checkpoints}
    for line, row in _rows(text, everything.keys()):
        checkpoint = everything[row["revision"]]
        values = {
            column: _value(line, column, text)
            for column, text in row.items()
            if column not in ("revision", SOURCE)
        }
        before = {name: getattr(checkpoint, name) for name in values}
        if values != before or checkpoint.revision not in included:
            values[SOURCE] = FROM_TABLE
        included[checkpoint.revision] = checkpoint.model_copy(update=values)
    return dataclasses.replace(
        discovered,
        checkpoints=sort_checkpoints(included.values()),
        left_out=[c for c in discovered.left_out if c.revision not in included],
        reasons={n: reason for n, reason in discovered.reasons.items() if n not in included},
    )


def _rows(text: str, names: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (line, {column: cell}) of each row. Raises TableError."""
    text = text.removeprefix("\ufeff")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        _check_header(header)
        rows, lines, revisions = [], dict[str, int](), set(names)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row = _row(reader.line_num, header, cells)
                _check_revision(reader.line_num, row["revision"], revisions, lines)
                rows.append((reader.line_num, row))
    except csv.Error as error:
        raise TableError(f"line {reader.line_num}: {error}") from error
    return rows


def _check_header(header: Sequence[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise TableError(
            f"line 1: there is no column {unknown[0][:40]!r}; the columns are {', '.join(COLUMNS)}"
        )
    if "revision" not in header:
        raise TableError("line 1: the column revision is missing")
    if len(set(header)) < len(header):
        raise TableError("line 1: a column is there twice")


def _row(line: int, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise TableError(f"line {line}: {len(cells)} cells, but {len(header)} columns")
    plain = (
        cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA_STARTS) else cell
        for cell in cells
    )
    return dict(zip(header, (cell.strip() for cell in plain), strict=True))


def _check_revision(line: int, revision: str, revisions: set[str], lines: dict[str, int]) -> None:
    if revision not in revisions:
        raise TableError(
            f"line {line}, column revision: the source has no revision {revision[:80]!r}"
        )
    if revision in lines:
        raise TableError(
            f"line {line}, column revision: {revision!r} is in line {lines[revision]} already"
        )
    lines[revision] = line


def _value(line: int, column: str, text: str) -> Any:
    """Return the value of a cell; an empty one is unknown. Raises TableError."""
    if column in NAMES:
        if len(text) > MAX_NAME:
            raise TableError(f"line {line}, column {column}: more than {MAX_NAME} characters")
        return text or None
    if not text:
        return 0 if column == "replicate" else None
    most = MAX_REPLICATE if column == "replicate" else MAX_COUNT
    try:
        number = Decimal(text) if len(text) <= 40 else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not (number.is_finite() and 0 <= number <= most and number == int(number)):
        raise TableError(
            f"line {line}, column {column}: {text[:40]!r} is not a whole number from 0 to "
            f"{most:,}; leave it empty where unknown"
        )
    return int(number)
