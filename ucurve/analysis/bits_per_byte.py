"""Curves of the loss in bits per byte, which suites with different tokenizers can share.

The rows of a measurement have `bits_per_byte` where the bytes of the evaluation text are known; its
ratio to the loss is a constant of text, tokenizer and window (ucurve.schemas.bits_per_byte).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.schemas.bits_per_byte import BITS_PER_BYTE

if TYPE_CHECKING:
    import pandas as pd

SCALED = ("y", "low", "high", "band_low", "band_high")  # fields of curve rows on the y axis
CAPTION = (
    "Bits per byte of the evaluation text (mean loss x tokens per byte / ln 2) against "
    "pre-training tokens, unperturbed model in grey. Comparable across tokenizers, unlike loss "
    "per token."
)


def bits_per_nat(table: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[Any, ...], float]:
    """Return bits per byte over nats per token by place; places without known bytes are left out.

    keys: columns that distinguish text, tokenizer and window, such as tokens and replicate.
    """
    if BITS_PER_BYTE not in table:
        return {}
    finite = table[np.isfinite(table[BITS_PER_BYTE].astype(float)) & (table["nll_mean"] != 0)]
    finite = finite[finite["tokens"].notna()].drop_duplicates(list(keys))
    ratios = finite[BITS_PER_BYTE].astype(float) / finite["nll_mean"].astype(float)
    places = finite[list(keys)].itertuples(index=False, name=None)
    return dict(zip(places, ratios.tolist(), strict=True))


def in_bits_per_byte(
    rows: Sequence[Mapping[str, Any]], table: pd.DataFrame, keys: Sequence[str]
) -> list[dict[str, Any]]:
    """Return curve rows of the loss in nats as rows in bits per byte; empty where unknown."""
    ratios = bits_per_nat(table, keys)
    scaled = []
    for row in rows if ratios else ():
        ratio = ratios.get(tuple(row.get(name) for name in keys))
        if ratio is None and row.get("y") is not None:
            continue
        values = {name: row[name] * ratio for name in SCALED if ratio and row.get(name) is not None}
        scaled.append({**row, **values})
    return scaled
