"""Tokens per optimiser step, which may change within a run.

>>> tokens_at(parse_batches("0:2097152,1000:4194304"), 1500)
4194304000
"""

from __future__ import annotations

import re

Batches = tuple[tuple[int, int], ...]  # (first step, tokens per step), by first step from 0 on

MAX_TOKENS_PER_STEP = 10**12
MAX_RANGES = 1000
RANGE = re.compile(r"\s*([0-9]{1,15})\s*:\s*([0-9]{1,15})\s*")


class BatchesError(ValueError):
    """The ranges cannot be read; the message says which one and why."""


def parse_batches(value: int | str) -> Batches:
    """Return the ranges of a number or of "FIRST_STEP:TOKENS,...". Raises BatchesError."""
    text = str(value).strip()
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return _checked(((0, int(text)),))
    parts = text.split(",")
    if len(parts) > MAX_RANGES:
        raise BatchesError(f"more than {MAX_RANGES:,} ranges of tokens per step")
    ranges = []
    for number, part in enumerate(parts, start=1):
        match = RANGE.fullmatch(part)
        if match is None:
            raise BatchesError(
                f"range {number}, {part.strip()[:40]!r}, is not FIRST_STEP:TOKENS; write tokens "
                "per step as a number, or as ranges like 0:2097152,1000:4194304"
            )
        ranges.append((int(match[1]), int(match[2])))
    return _checked(tuple(ranges))


def _checked(ranges: Batches) -> Batches:
    if ranges[0][0] != 0:
        raise BatchesError(
            f"the first range starts at step {ranges[0][0]:,}: the tokens per step from step 0 on "
            "are needed too, as in 0:2097152,1000:4194304"
        )
    for number, (first, tokens) in enumerate(ranges, start=1):
        if not 0 < tokens <= MAX_TOKENS_PER_STEP:
            raise BatchesError(
                f"range {number} has {tokens:,} tokens per step: give 1 to {MAX_TOKENS_PER_STEP:,}"
            )
        if number > 1 and first <= ranges[number - 2][0]:
            raise BatchesError(
                f"range {number} starts at step {first:,}, which is not after the "
                f"{ranges[number - 2][0]:,} of the range before"
            )
    return ranges


def tokens_at(batches: Batches, step: int) -> int:
    """Return the tokens seen after `step` optimiser steps."""
    total = 0
    for position, (first, tokens) in enumerate(batches):
        end = batches[position + 1][0] if position + 1 < len(batches) else step
        total += max(0, min(step, end) - first) * tokens
    return total


def batches_text(batches: Batches) -> str:
    """Return "2097152", or "0:2097152,1000:4194304"."""
    if len(batches) == 1:
        return str(batches[0][1])
    return ",".join(f"{first}:{tokens}" for first, tokens in batches)
