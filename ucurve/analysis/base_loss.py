"""The unperturbed loss in blocks of evaluation windows, for verdicts and for bands.

    blocks = base_blocks(table, tokens)     # [num_checkpoints, num_blocks], paired over checkpoints
 Its sampling error is that of the evaluation text. The table has columns gamma (0: the base),
tokens, replicate, state and series with window_nll (nats) and window_tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import statistics, text_error
from ucurve.analysis.statistics import Array

if TYPE_CHECKING:
    import pandas as pd


def base_blocks(table: pd.DataFrame, tokens: Array) -> Array:
    """Return the unperturbed loss at `tokens` in blocks of windows, [num_checkpoints, num_blocks].

    In at most 8 long blocks, see `statistics.long_blocks`. Nats per token; NaN where unmeasured or
    not finite, see `broken_bases`.
    """
    done = table[(table["gamma"] == 0) & (table["state"] == "done")].drop_duplicates("tokens")
    series = dict(zip(done["tokens"], done["series"], strict=True))
    blocks = {at: _blocks(series[at]) for at in tokens if "window_nll" in series.get(at, {})}
    width = max(map(len, blocks.values()), default=1)
    return statistics.long_blocks(
        np.stack([blocks.get(at, np.full(width, np.nan)) for at in tokens])
    )


def with_text_blocks(table: pd.DataFrame, curve: Sequence[str], base: pd.Series) -> pd.DataFrame:
    """Return the table with losses of changed models in blocks of text, for `curve_rows`.

    `increase_blocks`: minus those of the base; `loss_blocks`: minus the mean over the curve's
    checkpoints and draws, for comparing checkpoints as `paired_intervals` does. None where a row or
    its base has none. curve: columns that tell curves apart; base: where the rows of bases are,
    which belong to the curve points of the same revision (and evaluation set).
    """
    if "series" not in table:
        return table.assign(increase_blocks=None, loss_blocks=None)
    place = [name for name in ("revision", "evaluation") if name in table]
    own = [text_error.of_series(series) for series in table["series"]]
    done = (table["state"] == "done").to_numpy()
    keys = list(table[place].itertuples(index=False, name=None))
    bases = {
        key: blocks
        for key, blocks, is_base, ready in zip(keys, own, base, done, strict=True)
        if is_base and ready and blocks is not None
    }
    own = [
        None if is_base or not ready else blocks
        for blocks, is_base, ready in zip(own, base, done, strict=True)
    ]
    increases = [
        blocks - bases[key]
        if blocks is not None and key in bases and len(bases[key]) == len(blocks)
        else None
        for key, blocks in zip(keys, own, strict=True)
    ]
    table = table.assign(increase_blocks=_objects(increases), loss_blocks=_objects(own))
    return table.assign(loss_blocks=_objects(_centred(table, list(curve))))


def _objects(blocks: Sequence[Array | None]) -> NDArray[np.object_]:
    """Return a column of arrays, which pandas would take for columns."""
    column = np.empty(len(blocks), dtype=object)
    for position, found in enumerate(blocks):
        column[position] = found
    return column


def _centred(table: pd.DataFrame, curve: list[str]) -> list[Array | None]:
    """Return `loss_blocks` minus their mean over a curve, times Morey's factor."""
    centred: list[Array | None] = [None] * len(table)
    numbered = table.assign(_position=range(len(table)))
    for _, rows in numbered[numbered["loss_blocks"].notna()].groupby(curve, dropna=False):
        blocks, num = rows["loss_blocks"].tolist(), rows["tokens"].nunique()
        if num < 2 or len({len(found) for found in blocks}) != 1:
            continue
        mean, factor = np.mean(blocks, axis=0), np.sqrt(num / (num - 1))
        for position, found in zip(rows["_position"], blocks, strict=True):
            centred[position] = (found - mean) * factor
    return centred


def broken_bases(table: pd.DataFrame, tokens: Array) -> NDArray[np.bool_]:
    """Return where the unperturbed loss was measured and is not finite, [num_checkpoints]."""
    done = table[(table["gamma"] == 0) & (table["state"] == "done")]
    losses = done["nll_mean"].to_numpy(dtype=float) if "nll_mean" in done else np.array([])
    broken = set(done["tokens"][~np.isfinite(losses)]) if len(losses) else set()
    return np.array([at in broken for at in tokens], dtype=bool)


def with_base_intervals(
    rows: list[dict[str, Any]], table: pd.DataFrame, line: str, transform: Callable[[Array], Array]
) -> list[dict[str, Any]]:
    """Return the rows with a band around the base, which has 0 in the field `line`.

    The band is the 95% interval over paired blocks of windows, for comparing checkpoints. table:
    with column gamma, 0 for the base, and a facet evaluation where there are several sets.
    """
    panels = [name for name in ("replicate", "evaluation") if name in table]
    bands: dict[tuple[Any, ...], tuple[float, float]] = {}
    for key, panel in table[
        (table["gamma"] == 0) & (table["state"] == "done") & table["tokens"].notna()
    ].groupby(panels):
        tokens = np.unique(panel["tokens"].to_numpy(dtype=float))
        losses = base_blocks(panel, tokens)
        usable = np.isfinite(losses).all(axis=1)  # one that is not finite leaves the others theirs
        tokens, losses = tokens[usable], losses[usable]
        intervals = statistics.paired_intervals(losses)
        for at, low, high in zip(tokens, *map(transform, intervals), strict=True):
            if np.isfinite([low, high]).all():
                bands[(*key, at)] = float(low), float(high)

    def with_band(row: dict[str, Any]) -> dict[str, Any]:
        place = tuple(row.get(name) for name in (*panels, "tokens"))
        if row["what"] != "mean" or row.get(line) != 0 or place not in bands:
            return row
        return {**row, "low": bands[place][0], "high": bands[place][1]}

    return [with_band(row) for row in rows]


def _blocks(series: Mapping[str, Sequence[float | None]]) -> Array:
    nll = np.array(series["window_nll"], dtype=float)  # None: not finite
    blocks: Array = statistics.blocks(nll[None], np.array(series["window_tokens"], dtype=float))[0]
    return blocks
