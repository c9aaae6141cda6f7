"""Parses what people type into fields and addresses: numbers, lists, token counts, ids.

    parse_value("5e-3", "number")              # 0.005
    parse_list("0.05, 0.1; 0.2", "number")     # [0.05, 0.1, 0.2]
    parse_list("0,05", "number")               # ValueError: "0,05" could be one value or two ...
    parse_id("²")                              # None: no such experiment

Every field and query parameter that is a number passes through here, so that bad input is an
error message beside its field and never an exception on the page.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from ucurve.registry.names.token_batches import batches_text, parse_batches

MAX_LISTED = 8  # values of a list that are repeated beneath its field
MAX_ID = 2**63 - 1  # of a bigint column
INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
TOKENS = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(?:e([0-9]{1,2}))?\s*([kmbt]?)", re.IGNORECASE)
MAX_TOKENS = 2**62
TOKEN_UNITS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
EXPECTED = {"json": "valid JSON", "integer": "a whole number"}


def parse_value(text: str, widget: str) -> Any:
    """Return one value of a field. Raises ValueError with a message for the user."""
    if widget == "text":
        return text
    text = text.strip()
    if not text:
        raise ValueError("This field is required.")
    try:
        if widget == "json":
            return json.loads(text, parse_float=_number, parse_constant=_reject_constant)
        return _integer(text) if widget == "integer" else _number(text)
    except (ValueError, OverflowError, RecursionError):
        hint = (
            f" Use a decimal point: {text.replace(',', '.')}."
            if re.fullmatch(r"[+-]?[0-9]+,[0-9]+", text)
            else ""
        )
        expected = EXPECTED.get(widget, "a number")
        raise ValueError(f"“{shortened(text)}” is not {expected}.{hint}") from None


def _number(text: str) -> float:
    """Return a finite number; refuses what only Python reads as one: 1_000, ², nan, inf."""
    text = text.replace("\u2212", "-")
    if not NUMBER.fullmatch(text):
        raise ValueError
    number = float(text)
    if not math.isfinite(number):
        raise OverflowError
    return number


def _integer(text: str) -> int:
    text = text.replace("\u2212", "-")
    if INTEGER.fullmatch(text):
        return int(text)
    number = _number(text)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()}…"


def parse_bounded(text: str | None, low: int, high: int, default: int) -> int:
    """Return a whole number from low to high; default for an empty field."""
    message = f"Enter a whole number from {low:,} to {high:,}."
    if not (text or "").strip():
        return default
    try:
        number = _integer((text or "").strip())
    except (ValueError, OverflowError):
        raise ValueError(message) from None
    if not low <= number <= high:
        raise ValueError(message)
    return number


def parse_id(text: str | None) -> int | None:
    """Return the id of a row, or None where the text is not one."""
    text = (text or "").strip()
    if not re.fullmatch(r"[0-9]{1,19}", text):
        return None
    return int(text) if 0 < int(text) <= MAX_ID else None


def parse_tokens(text: str | None) -> int | None:
    """Return a number of tokens: 3000000, 3M, 2.1B; None for an empty field."""
    if not (text or "").strip():
        return None
    digits = re.sub(r"(?<=[0-9])[, ](?=[0-9]{3})", "", (text or "").strip())  # 1,048,576
    match = TOKENS.fullmatch(digits)
    number = None
    if match:
        mantissa, exponent, unit = match.groups()
        number = float(mantissa) * 10.0 ** int(exponent or 0) * TOKEN_UNITS[unit.lower()]
    if number is None or number > MAX_TOKENS:
        raise ValueError(
            f"“{shortened(text or '')}” is not a number of tokens. Enter 3000000, 3M or 2.1B."
        )
    return int(number)


def parse_tokens_per_step(text: str | None) -> int | str | None:
    """Return a number of tokens, or ranges such as 0:2097152,1000:4194304; None for none."""
    if ":" not in (text or ""):
        return parse_tokens(text)
    return batches_text(parse_batches(text or ""))


def parse_list(text: str, item: str) -> list[Any]:
    """Return the values between commas, semicolons or line ends; numbers also between spaces."""
    if ambiguous := _ambiguous(text, item):
        units, decimals = ambiguous.split(",")
        raise ValueError(
            f"“{ambiguous}” could be one value or two. "
            f"Write {units}.{decimals} for a decimal, or put a space after the comma "
            "for two values."
        )
    parts = re.split(r"[,;\n]" if item == "text" else r"[,;\s]+", text)
    return [parse_value(part.strip(), item) for part in parts if part.strip()]


def _ambiguous(text: str, item: str) -> str | None:
    """Return a comma inside a number that may be a decimal comma.

    It precedes digits such as 05, is the only comma, or is beside commas that separate values.
    """
    if item == "text":
        return None
    if zeros := re.search(r"(?<![\d.])[+-]?\d+,0\d+", text):
        return zeros[0]
    tight = re.search(r"(?<![\d.,])[+-]?\d+,\d+(?![\d.,e])", text)
    alone = tight is not None and (
        tight[0] == text.strip() or re.search(r";|,\s*\S*\s|\d\s+\S", text)
    )
    return tight[0] if tight and alone and item == "number" else None


def list_summary(values: Sequence[Any]) -> str:
    """Return how a list was parsed: "3 values: 0.05, 0.1, 0.2"."""
    if not values:
        return "no values"
    texts = [
        repr(value) if isinstance(value, float) and not value.is_integer() else str(value)
        for value in values[:MAX_LISTED]
    ]
    if len(values) > MAX_LISTED:
        texts[-1:] = ["…", str(values[-1])]
    texts = [text.removesuffix(".0") for text in texts]
    return f"{len(values)} {'value' if len(values) == 1 else 'values'}: {', '.join(texts)}"
