"""Cells of CSV files that no spreadsheet takes for a formula.

>>> plain_row(["=1+1", -0.5, "-0.5", "tiny"])
["'=1+1", -0.5, '-0.5', 'tiny']
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# What spreadsheets read as the start of a formula, also in full width, or skip before one.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def plain_cell(value: Any) -> Any:
    """Return a text behind an apostrophe where it would be a formula; numbers stay numbers."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS) and not _is_number(value):
        return f"'{value}"
    return value


def plain_row(values: Iterable[Any]) -> list[Any]:
    """Return a row of plain cells."""
    return [plain_cell(value) for value in values]


def _is_number(text: str) -> bool:
    if not text.isascii() or text[0].isspace():
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True
