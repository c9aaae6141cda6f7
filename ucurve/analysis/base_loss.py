"""The loss before any change, which is known up to its evaluation text: in blocks of windows, for verdicts and for bands.

    blocks = base_blocks(table, tokens)     # [num_checkpoints, num_blocks], paired over checkpoints

The table has columns gamma (0: the base), tokens, replicate, state and series with window_nll and window_tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import statistics
from ucurve.analysis.statistics import Array

if TYPE_CHECKING:
    import pandas as pd


def base_blocks(table: pd.DataFrame, tokens: Array) -> Array:
    """Base loss of the checkpoints at `tokens` in blocks of windows, [num_checkpoints, num_blocks]; NaN where unmeasured."""
    done = table[(table["gamma"] == 0) & (table["state"] == "done")].drop_duplicates("tokens")
    series = dict(zip(done["tokens"], done["series"], strict=True))
    found = {at: _blocks(series[at]) for at in tokens if "window_nll" in series.get(at, {})}
    width = max((len(blocks) for blocks in found.values()), default=1)
    return np.stack([found.get(at, np.full(width, np.nan)) for at in tokens])


def with_base_intervals(
    rows: list[dict[str, Any]], table: pd.DataFrame, line: str, shown: Callable[[Array], Array]
) -> list[dict[str, Any]]:
    """The rows with a band around the base, which has 0 in the field `line`: 95% over paired blocks of windows, for comparing
    checkpoints. table: with column gamma, 0 for the base, and a facet evaluation where there are several sets."""
    panels = [name for name in ("replicate", "evaluation") if name in table]
    found: dict[tuple[Any, ...], tuple[float, float]] = {}
    for key, mine in table[
        (table["gamma"] == 0) & (table["state"] == "done") & table["tokens"].notna()
    ].groupby(panels):
        tokens = np.unique(mine["tokens"].to_numpy(dtype=float))
        for at, low, high in zip(
            tokens, *map(shown, statistics.paired_intervals(base_blocks(mine, tokens))), strict=True
        ):
            if np.isfinite([low, high]).all():
                found[(*key, at)] = float(low), float(high)

    def one(row: dict[str, Any]) -> dict[str, Any]:
        place = tuple(row.get(name) for name in (*panels, "tokens"))
        if row["what"] != "mean" or row.get(line) != 0 or place not in found:
            return row
        return {**row, "low": found[place][0], "high": found[place][1]}

    return [one(row) for row in rows]


def _blocks(series: Mapping[str, Sequence[float | None]]) -> Array:
    nll = np.array(series["window_nll"], dtype=float)  # None: not finite
    blocks: Array = statistics.blocks(nll[None], np.array(series["window_tokens"], dtype=float))[0]
    return blocks
