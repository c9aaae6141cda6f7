"""Numbers of a fine-tuning experiment: from its table to the arrays that verdicts and figures use.

    table = prepared(table)                                   # with base and forgetting
    tokens, losses = grid(rows, badness(rows, design), rates)

The table has a row per point: labels suite, revision, tokens, replicate, phase, evaluation, method
("base": before fine-tuning), learning_rate, seed, alpha (1: fine-tuned; less: interpolated with the
base), and once measured nll_mean, id_loss, accuracy, displacement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from ucurve.analysis import learning_rate_fits
from ucurve.analysis.base_loss import base_blocks, broken_bases
from ucurve.analysis.conditions import Condition, paired, paired_blocks
from ucurve.analysis.statistics import Array

if TYPE_CHECKING:
    import pandas as pd

Panel = dict[str, Any]  # a pre-training seed ("replicate") on an evaluation set ("evaluation")
FACETS = ("replicate", "evaluation")
LABELS = (
    "suite", "revision", "tokens", "replicate", "phase",
    "evaluation", "method", "learning_rate", "seed", "alpha",
)  # fmt: skip
METRICS = ("nll_mean", "id_loss", "accuracy", "accuracy_se", "displacement")
COLUMNS = (*LABELS, "state", "measurement", "series", "live", *METRICS)


@dataclass(frozen=True)
class Design:
    """What analysis needs of a fine-tuning spec.

    rates: learning rates, ascending. methods: of fine-tuning; verdicts and most figures are about
    the first. metric: how well the new task was learned, a loss or an accuracy. alphas: of WiSE-FT.
    look: number of this interim analysis. optimiser: of all learning rates.
    """

    rates: Sequence[float]
    methods: Sequence[str]
    metric: Literal["id_loss", "accuracy"]
    alphas: Sequence[float] = ()
    num_evaluations: int = 1
    look: int = 1
    optimiser: str = "adamw"


def prepared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every column, and with `base` and `forgetting` in nats per token.

    base: loss of the unperturbed checkpoint on the same evaluation set, inf where that is not
    finite; forgetting: loss after
    fine-tuning minus that, inf where fine-tuning diverged.
    """
    table = table.reindex(
        columns=[*table.columns, *(name for name in COLUMNS if name not in table)]
    )
    done = table[(table["method"] == "base") & (table["state"] == "done")]
    keys = zip(done["revision"], done["evaluation"], strict=True)
    measured = done["nll_mean"].to_numpy(dtype=float)
    base = dict(zip(keys, np.where(np.isfinite(measured), measured, np.inf), strict=True))
    losses = [
        base.get(key, np.nan) for key in zip(table["revision"], table["evaluation"], strict=True)
    ]
    before, after = np.array(losses, dtype=float), table["nll_mean"].to_numpy(dtype=float)
    diverged = (table["state"] == "done") & ~np.isfinite(after)
    forgetting = np.where(diverged, np.inf, after) - np.where(np.isfinite(before), before, np.nan)
    return table.assign(base=before, forgetting=forgetting)


def fine_tuned(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the rows of one method's own weights, without interpolations."""
    return table[(table["method"] == method) & (table["alpha"] == 1)]


def badness(table: pd.DataFrame, design: Design) -> Array:
    """Return the task metric with lower as better (loss or error rate), one per row.

    inf where fine-tuning diverged, NaN where unmeasured.
    """
    values = table[design.metric].to_numpy(dtype=float)
    values = values if design.metric == "id_loss" else 1 - values
    return np.where((table["state"] == "done") & ~np.isfinite(values), np.inf, values)


def grid(table: pd.DataFrame, values: Array, rates: Sequence[float]) -> tuple[Array, Array]:
    """Return tokens [num_checkpoints] and values [num_checkpoints, num_rates, num_seeds].

    table: rows of one family (a pre-training seed on one evaluation set); values: one per row. NaN
    where there is none.
    """
    usable = (
        table["tokens"].notna() & (table["state"] == "done") & table["learning_rate"].isin(rates)
    ).to_numpy()
    tokens, i = np.unique(table["tokens"].to_numpy(dtype=float)[usable], return_inverse=True)
    seeds, k = np.unique(table["seed"].to_numpy(dtype=float)[usable], return_inverse=True)
    j = np.searchsorted(np.array(rates), table["learning_rate"].to_numpy(dtype=float)[usable])
    cells = np.full((len(tokens), len(rates), len(seeds)), np.nan)
    cells[i, j, k] = values[usable]
    return tokens, cells


def task_blocks(table: pd.DataFrame, design: Design) -> Array | None:
    """Return the task metric in blocks of the validation data, as `grid`, lower as better.

    [num_checkpoints, num_rates, num_seeds, num_blocks]; None where a finite value has no blocks, as
    in results of earlier releases.
    """
    values = badness(table, design)
    if "series" not in table:
        return None
    blocks = [
        _validation_blocks(series, design) if np.isfinite(value) else None
        for series, value in zip(table["series"], values, strict=True)
    ]
    return block_grid(table, values, blocks, design.rates)


def _validation_blocks(series: Any, design: Design) -> Array | None:
    name = "id_block_loss" if design.metric == "id_loss" else "block_accuracy"
    if not isinstance(series, Mapping) or not series.get(name):
        return None
    values = np.array(series[name], dtype=float)
    return values if design.metric == "id_loss" else 1 - values


def block_grid(
    table: pd.DataFrame, values: Array, blocks: Sequence[Array | None], rates: Sequence[float]
) -> Array | None:
    """Return the blocks of a grid's values, [num_checkpoints, num_rates, num_seeds, num_blocks].

    values, blocks: one per row. NaN where the value is not finite; None if a finite one has none.
    """
    needed = np.isfinite(values) & (table["state"] == "done").to_numpy()
    present = [own for own, ok in zip(blocks, needed, strict=True) if ok and own is not None]
    widths = {len(own) for own in present}
    if len(present) < needed.sum() or len(widths) != 1 or widths == {1}:
        return None
    flat = np.full((len(table), widths.pop()), np.nan)
    flat[needed] = np.stack(present)
    _, positions = grid(table, np.arange(len(table), dtype=float), rates)
    measured = ~np.isnan(positions)
    cells = np.full((*positions.shape, flat.shape[1]), np.nan)
    cells[measured] = flat[positions[measured].astype(int)]
    return cells


def validation_error(table: pd.DataFrame, design: Design) -> float:
    """Return the standard error of one task metric from the validation data, where it is known."""
    if design.metric != "accuracy":
        return 0.0
    return float(np.nan_to_num(table["accuracy_se"].to_numpy(dtype=float)).max(initial=0.0))


def complete_seeds(*grids: Array) -> list[Array]:
    """Return the grids with only the seeds that are measured everywhere in all of them."""
    complete = np.logical_and.reduce([~np.isnan(cells).any(axis=(0, 1)) for cells in grids])
    return [cells[:, :, complete] for cells in grids]


def families(table: pd.DataFrame, method: str) -> list[tuple[Panel, pd.DataFrame]]:
    """Return ({"replicate": r, "evaluation": e}, rows) of one method."""
    rows = fine_tuned(table, method)
    return [
        (dict(zip(FACETS, cast(tuple[Any, ...], key), strict=True)), group)
        for key, group in rows.groupby(list(FACETS))
    ]


def best_rates(
    table: pd.DataFrame, design: Design, method: str
) -> list[tuple[Panel, float, int, learning_rate_fits.Best]]:
    """Return the best rate of every checkpoint: (family, tokens, number of seeds, Best)."""
    rows = []
    for panel, group in families(table, method):
        error = validation_error(group, design)
        tokens, losses = grid(group, badness(group, design), design.rates)
        blocks = task_blocks(group, design)
        for i, at in enumerate(tokens):
            complete = ~np.isnan(losses[i]).any(axis=0)
            if not complete.any():
                continue
            of_text = None if blocks is None else blocks[i][:, complete]
            best = learning_rate_fits.best_rate(losses[i][:, complete], of_text, error)
            if best is not None:
                rows.append((panel, float(at), int(complete.sum()), best))
    return rows


def by_method(table: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Return the rows of every method, with interpolations at full's best rate as "wise_ft"."""
    import pandas as pd

    parts = [table[(table["method"] != "base") & (table["alpha"] == 1)]]
    for panel, tokens, _, best in best_rates(table, design, "full") if design.alphas else []:
        labels = {
            **panel,
            "tokens": tokens,
            "learning_rate": design.rates[best.index],
            "method": "full",
        }
        matches = np.logical_and.reduce([table[name] == value for name, value in labels.items()])
        parts.append(table[matches].assign(method="wise_ft"))
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def conditions(
    table: pd.DataFrame, design: Design, method: str
) -> list[tuple[Panel, dict[float, Condition]]]:
    """Return losses and base of every family of one method: a Condition per learning rate."""
    result = []
    for panel, group in families(table, method):
        base = table[(table["method"] == "base") & (table["evaluation"] == panel["evaluation"])]
        base = base[base["replicate"] == panel["replicate"]].assign(gamma=0.0)
        family = {}
        for rate, rows in sorted(group.groupby("learning_rate")):
            tokens, losses, measured = paired(rows, draw="seed")
            scope = f"learning rate {rate:g}, {method}, pre-training seed {panel['replicate']}"
            scope += f", {panel['evaluation']}" if design.num_evaluations > 1 else ""
            family[cast(float, rate)] = Condition(
                scope,
                tokens,
                losses,
                base_blocks(base, tokens),
                measured,
                broken_base=broken_bases(base, tokens),
                blocks=paired_blocks(rows, draw="seed"),
                draw_name="seeds",
                look=design.look,
                labels={**panel, "method": method, "learning_rate": rate},
            )
        result.append((panel, family))
    return result


def comparable_rows(table: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Return the rows that published numbers are compared with: first method and base, prepared."""
    table = prepared(table)
    first = (table["method"] == design.methods[0]) & (table["alpha"] == 1)
    return table[(table["method"] == "base") | first]
