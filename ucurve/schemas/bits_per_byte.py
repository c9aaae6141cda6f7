"""Bits per byte: a loss that is comparable across tokenizers.

Bits per byte = nats per token x tokens per byte / ln 2, as The Pile defines it (Gao et al. 2020,
section 3.1). The loss is the mean over scored tokens; tokens and bytes are those of the whole text,
so that the few tokens without a prediction (the first of the text, or of each window) count like
the average one. lm-evaluation-harness predicts these too and divides all nats by all bytes.

>>> with_bits_per_byte({"nll_mean": 2.0}, {}, 0.25)[0]["bits_per_byte"]
0.7213475204444817
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

BITS_PER_BYTE = "bits_per_byte"  # a metric of rows that is derived when they are read
LOSS = "nll_mean"

State = TypeVar("State")


def bits_per_byte(nats_per_token: float, tokens_per_byte: float) -> float:
    """Return bits per byte of a mean loss."""
    return nats_per_token * tokens_per_byte / math.log(2)


def num_text_tokens(num_scored: int, window: int, stride: int) -> int:
    """Return the number of tokens of a text of which `num_scored` were scored.

    Without overlap the first token of each window is not scored, with overlap that of the text. A
    last token alone in its window is not counted.
    """
    if stride < window:
        return num_scored + 1
    full, rest = divmod(num_scored, window - 1)
    return full * window + (rest + 1 if rest else 0)


def with_bits_per_byte(
    metrics: Mapping[str, float | None],
    nonfinite: Mapping[str, State],
    tokens_per_byte: float | None,
) -> tuple[dict[str, float | None], dict[str, State]]:
    """Return metrics and states with bits per byte after the loss, where the bytes are known."""
    if tokens_per_byte is None or LOSS not in metrics:
        return dict(metrics), dict(nonfinite)
    loss = metrics[LOSS]
    bits = None if loss is None else bits_per_byte(loss, tokens_per_byte)
    values: dict[str, float | None] = {}
    for name, value in metrics.items():
        values[name] = value
        if name == LOSS:
            values[BITS_PER_BYTE] = bits
    states = dict(nonfinite)
    if LOSS in states:
        states[BITS_PER_BYTE] = states[LOSS]
    return values, states
