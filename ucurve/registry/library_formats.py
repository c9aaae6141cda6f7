"""The formats of a quantisation library that experiments may ask for, and whether it is installed.

FORMATS["torchao_int4"].bits   # 4
obstacle()                     # "" where the library can be used, or cannot be looked for
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

LIBRARY, VERSION = "torchao", "0.18.0"  # another version may round otherwise
EXTRA = "'ucurve[worker]'"
FormatName = Literal["torchao_int8", "torchao_int4"]


@dataclass(frozen=True)
class Format:
    """A format: its name in the library, bits, weights per scale (None: a row), and title."""

    name: str
    bits: int
    group_size: int | None
    title: str


FORMATS: dict[FormatName, Format] = {
    "torchao_int8": Format("int8", 8, None, "torchao int8, per row"),
    "torchao_int4": Format("int4", 4, 32, "torchao int4, per group of 32"),
}


def has_torch() -> bool:
    """Return whether this environment could measure: where the API has no torch, workers tell."""
    return importlib.util.find_spec("torch") is not None


def obstacle() -> str:
    """Return why the library cannot be used here, with the remedy."""
    if not has_torch():
        return ""
    remedy = f"pip install {EXTRA}, here and where workers run, or leave formats out."
    try:
        installed = metadata.version(LIBRARY)
    except metadata.PackageNotFoundError:
        return f"{LIBRARY} is not installed: {remedy}"
    if installed != VERSION:
        return f"{LIBRARY} {installed} is installed, and formats are those of {VERSION}: {remedy}"
    return ""
