"""Reads what people type into a field: numbers, and lists of them; asks where a decimal comma may have been meant.

read("5e-3", "number")               # 0.005
read_list("0.05, 0.1; 0.2", "number")   # [0.05, 0.1, 0.2]
read_list("0,05", "number")             # ValueError: “0,05” could be one value or two ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

SHOWN = 8  # values of a list that are repeated beneath its field


def read(text: str, widget: str) -> Any:
    """One value. Raises ValueError with what is wrong in words."""
    if widget == "text":
        return text
    if not text:
        raise ValueError("Please fill this in.")
    try:
        if widget == "json":
            return json.loads(text)
        number = float(text.replace("_", "").replace("\u2212", "-"))
        if widget == "integer":
            if not number.is_integer():
                raise ValueError
            return int(text) if text.lstrip("+-").isdigit() else int(number)
        return number
    except (ValueError, OverflowError):
        wanted = {"json": "readable JSON", "integer": "a whole number"}.get(widget, "a number")
        point = (
            f" Decimals take a point: {text.replace(',', '.')}."
            if re.fullmatch(r"[+-]?\d+,\d+", text)
            else ""
        )
        raise ValueError(f"“{text}” is not {wanted}.{point}") from None


def read_list(text: str, item: str) -> list[Any]:
    """The values between commas, semicolons or line ends; of numbers between spaces, too."""
    if doubtful := _doubtful(text, item):
        whole, rest = doubtful.split(",")
        raise ValueError(
            f"“{doubtful}” could be one value or two. For a decimal write {whole}.{rest}; for two put a space after the comma."
        )
    parts = re.split(r"[,;\n]" if item == "text" else r"[,;\s]+", text)
    return [read(part.strip(), item) for part in parts if part.strip()]


def _doubtful(text: str, item: str) -> str | None:
    """A comma inside a number that may be a decimal one: followed by 05, or alone, or beside commas that do separate."""
    if item == "text":
        return None
    if zeros := re.search(r"(?<![\d.])[+-]?\d+,0\d+", text):
        return zeros[0]
    tight = re.search(r"(?<![\d.,])[+-]?\d+,\d+(?![\d.,e])", text)
    alone = tight is not None and (
        tight[0] == text.strip() or re.search(r";|,\s*\S*\s|\d\s+\S", text)
    )
    return tight[0] if tight and alone and item == "number" else None


def said_of(values: Sequence[Any]) -> str:
    """How a list was read: "3 values: 0.05, 0.1, 0.2"."""
    if not values:
        return "no value"
    shown = [
        repr(value) if isinstance(value, float) and not value.is_integer() else str(value)
        for value in values[:SHOWN]
    ]
    if len(values) > SHOWN:
        shown[-1:] = ["…", str(values[-1])]
    shown = [one.removesuffix(".0") for one in shown]
    return f"{len(values)} {'value' if len(values) == 1 else 'values'}: {', '.join(shown)}"
