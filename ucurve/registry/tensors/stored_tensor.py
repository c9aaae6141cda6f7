"""A tensor as a file of weights describes it, in either format, and the error about files."""

from __future__ import annotations

from typing import NamedTuple


class RegistrationError(ValueError):
    """Files that cannot be registered; the message says why and what is expected."""


class Tensor(NamedTuple):
    """A tensor as the header of a safetensors file, or the table of a pickle, describes it."""

    dtype: str  # as in a safetensors header: F32, BF16, ...
    shape: tuple[int, ...]
    end: int  # in bytes from the beginning of the file, as start
    start: int | None = None  # None: not looked up
    stride: tuple[int, ...] | None = None  # in numbers; None: rows lie behind each other
    alias_of: str | None = None  # an earlier tensor of the file with the same numbers in memory
