"""The error of the evaluation text in means over draws that were measured on the same windows.

    half = half_width(blocks)                  # [num_draws, num_blocks] -> half of a 95% interval
    low, high = widened((low, high), mean, half)

A changed model's `block_loss` holds its loss in blocks of consecutive windows (their mean is the
loss per token), as `statistics.blocks` makes them. An interval over draws says how the mean over
draws varies on this text; with the variance over blocks of the mean over draws it holds the value
on new text of this kind. Results of earlier releases hold their losses by window only, which
`of_windows` reduces to the same numbers; without either, an interval is "on this text".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ucurve.analysis.statistics import NUM_LONG_BLOCKS, Array, long_blocks, t_quantile
from ucurve.analysis.statistics import blocks as blocks_of_windows

SERIES = "block_loss"
ON_THIS_TEXT = "on this text"
CAPTION = (
    "They have the error of the evaluation text where every seed's loss is stored by window; "
    "others are on this text."
)


def of_windows(nll: Sequence[float | None], scored: Sequence[float | None]) -> Array | None:
    """Return the blocks that a new measurement of the same windows stores, bit by bit.

    nll: the summed loss of each window, None where it is not finite (NaN in its block). scored:
    scored tokens of each window. None where the two do not belong together: nothing is guessed.
    """
    if not nll or len(nll) != len(scored) or not all(scored):
        return None
    sums = np.array(nll, dtype=float)
    return np.asarray(blocks_of_windows(sums[None], np.array(scored, dtype=float))[0])


def of_series(series: Any) -> Array | None:
    """Return the blocks of one row from its series; None where it has neither them nor windows."""
    if not isinstance(series, Mapping):
        return None
    if series.get(SERIES):
        return np.array(series[SERIES], dtype=float)
    return of_windows(series.get("window_nll") or (), series.get("window_tokens") or ())


def of_rows(series: Sequence[Any]) -> Array | None:
    """Return the blocks of rows from their `series`, [num_rows, num_blocks], NaN where broken.

    None where a row has none, or a number of its own: its text was another.
    """
    blocks_of_draws: list[Array] = []
    for row in series:
        blocks = of_series(row)
        if blocks is None or (blocks_of_draws and len(blocks) != len(blocks_of_draws[0])):
            return None
        blocks_of_draws.append(blocks)
    return np.stack(blocks_of_draws) if blocks_of_draws else None


def variance(blocks: Array) -> Array:
    """Return the variance that the text alone gives the mean of blocks [..., draws, num_blocks].

    The variance over blocks contains 1 / num_draws of that of draws within blocks, which the
    variance over draws has too, so it counts once. Blocks are joined to `statistics.long_blocks`.
    """
    blocks = long_blocks(blocks)
    num_draws, num_blocks = blocks.shape[-2:]
    of_blocks = blocks.mean(axis=-2, keepdims=True)
    own = of_blocks.var(axis=-1, ddof=1)[..., 0] / num_blocks
    if num_draws > 1:
        rest = blocks - of_blocks - blocks.mean(axis=-1, keepdims=True)
        rest += blocks.mean(axis=(-2, -1), keepdims=True)
        degrees = (num_draws - 1) * (num_blocks - 1)
        own = own - np.square(rest).sum(axis=(-2, -1)) / degrees / num_draws / num_blocks
    return np.asarray(np.maximum(own, 0.0), dtype=np.float64)


def half_width(blocks: Array | None, level: float = 0.95) -> float:
    """Return half of the interval that the text's error alone gives the mean; 0 where unknown.

    blocks [num_draws, num_blocks]: of a loss or a difference of losses on the same windows.
    """
    if blocks is None or blocks.shape[1] < 2 or not np.isfinite(blocks).all():
        return 0.0
    quantile = t_quantile(0.5 + level / 2, min(blocks.shape[1], NUM_LONG_BLOCKS) - 1)
    return float(quantile * np.sqrt(variance(blocks)))


def half_of(draws: Sequence[Array | None]) -> float:
    """Return `half_width` of draws of one curve point; 0 where one has no blocks."""
    present = [blocks for blocks in draws if blocks is not None]
    if not present or len(present) < len(draws) or len({len(blocks) for blocks in present}) != 1:
        return 0.0
    return half_width(np.stack(present))


def widened(interval: tuple[float, float], estimate: float, half: float) -> tuple[float, float]:
    """Return an interval that has the text's error too: independent half-widths add in squares.

    Zou and Donner 2008 (method of variance estimates recovery).
    """
    low, high = interval
    return (
        estimate - float(np.hypot(estimate - low, half)),
        estimate + float(np.hypot(high - estimate, half)),
    )
