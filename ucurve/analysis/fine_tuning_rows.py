"""Rows that the figures of fine-tuning draw, computed from the prepared table.

    rows = sweep_rows(fine_tuned(prepared(table), "full"), "learning_rate", "forgetting", by)

`what` of a row: see `ucurve.analysis.curve_rows`, and "dominated" (a mean off the Pareto front).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import learning_rate_fits
from ucurve.analysis.curve_rows import clip_bands, curve_rows, to_rows
from ucurve.analysis.fine_tuning import (
    FACETS,
    Design,
    Panel,
    best_rates,
    complete_seeds,
    families,
    grid,
)
from ucurve.analysis.statistics import Array, mean_interval
from ucurve.formatting import INFINITY

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


def best_rate_rows(table: pd.DataFrame, design: Design) -> list[Row]:
    """Return the best rate (y) and the range of its confidence set (low, high; none of one seed).

    "open bottom" marks best rates at the edge of the grid.
    """
    rows: list[Row] = []
    for panel, tokens, num_seeds, best in best_rates(table, design, design.methods[0]):
        row = {
            **panel,
            "tokens": tokens,
            "line": "best",
            "y": design.rates[best.index],
            "low": design.rates[min(best.candidates)] if num_seeds > 1 else None,
            "high": design.rates[max(best.candidates)] if num_seeds > 1 else None,
            "num_draws": num_seeds,
        }
        rows.append({"what": "mean", **row})
        if best.at_edge:
            label = "at the edge of the grid: the optimum may lie beyond"
            rows.append({"what": "open bottom", **row, "label": label})
    return rows


def matched_rows(table: pd.DataFrame, design: Design) -> list[Row]:
    """Return forgetting at the loss on the new task that all checkpoints reach.

    "open bottom": only an upper bound is known, because the smallest learning rate already brings
    the checkpoint below that loss.
    """
    import pandas as pd

    rows: list[Row] = []
    marks: list[Row] = []
    for panel, group in families(table, design.methods[0]):
        tokens, losses = grid(group, group["id_loss"].to_numpy(dtype=float), design.rates)
        losses, forgetting = complete_seeds(
            losses, grid(group, group["forgetting"].to_numpy(dtype=float), design.rates)[1]
        )
        if len(tokens) < 2 or not losses.size:
            continue
        target = float(losses.mean(axis=2).min(axis=1).max())
        panel_rows, bounds = _matched(panel, tokens, losses, forgetting, target)
        label = f"at a loss of {target:.3f}"
        if bounds:
            label += f"; {len(bounds)} of {len(tokens)} are upper bounds"
        rows += panel_rows
        marks += [*bounds, {"what": "note", **panel, "target": target, "label": label}]
    means = curve_rows(pd.DataFrame(rows), "tokens", "value", ["line", "target"], facets=FACETS)
    return [*means, *marks]


def _matched(
    panel: Panel, tokens: Array, losses: Array, forgetting: Array, target: float
) -> tuple[list[Row], list[Row]]:
    """Return the draws of every checkpoint, and the bounds."""
    rows: list[Row] = []
    bounds: list[Row] = []
    for i, at in enumerate(tokens):
        place = {
            **panel,
            "tokens": at,
            "line": "matched",
            "target": target,
            "state": "done",
            "measurement": None,
        }
        if losses[i, 0].mean() < target:
            label = f"at most this: the smallest rate already brings the loss below {target:.3f}"
            y = float(forgetting[i, 0].mean())
            bounds.append({"what": "open bottom", **place, "y": y, "label": label})
            continue
        values = [
            learning_rate_fits.at_matched_loss(losses[i, :, k], forgetting[i, :, k], target)
            for k in range(losses.shape[2])
        ]
        rows += [{**place, "value": value} for value in values if np.isfinite(value)]
    return rows, bounds


def sweep_rows(table: pd.DataFrame, x: str, y: str, by: Sequence[str]) -> list[Row]:
    """Return the rows of `figures.sweep_charts`: means over seeds, seeds as draws, and divergence.

    x, y: columns of the table, fields "x" and "y" of the rows. The mean of a checkpoint and rate
    with any diverged seed is left out; it becomes an "edge" when x is the learning rate.
    """
    keys = ["tokens", *FACETS, *by]
    finite = (
        (table["state"] == "done")
        & np.isfinite(table[y].astype(float))
        & np.isfinite(table[x].astype(float))
    )
    values = table.assign(x=table[x].astype(float), y=table[y].astype(float))
    broken = values[(table["state"] == "failed") | ((table["state"] == "done") & ~finite)]
    groups = values[finite & values["tokens"].notna()].groupby(keys, dropna=False)
    means = groups.agg(
        x=("x", "mean"), y=("y", "mean"), std=("y", "std"), num_draws=("y", "size")
    ).reset_index()
    half = _half_width(means["num_draws"].to_numpy(), means["std"].to_numpy(dtype=float))
    means = means.assign(
        low=means["y"] - half, high=means["y"] + half, order=means["learning_rate"]
    )
    if len(broken):
        incomplete = set(map(tuple, broken[keys].to_numpy().tolist()))
        means = means[[tuple(key) not in incomplete for key in means[keys].to_numpy().tolist()]]
    marks = (
        broken.groupby(keys, dropna=False)
        .agg(label=("y", "size"), measurement=("measurement", "first"))
        .reset_index()
    )
    marks = marks.assign(
        label=[f"{count}×{INFINITY}" for count in marks["label"]], x=marks["learning_rate"]
    )
    draws = values[finite][[*keys, "x", "y", "measurement"]]
    edges = to_rows("edge", marks) if x == "learning_rate" else []
    return clip_bands(to_rows("mean", means.drop(columns="std")) + to_rows("draw", draws)) + edges


def pareto_front(rows: list[Row], larger_is_better: bool) -> list[Row]:
    """Return the rows with means off the Pareto front as "dominated".

    rows: of `sweep_rows`, x what was learned and y what was forgotten. A mean is dominated when
    another rate of the same checkpoint is better in both.
    """
    sign = -1 if larger_is_better else 1
    means = [row for row in rows if row["what"] == "mean"]

    def dominated(row: Row) -> bool:
        place = (sign * row["x"], row["y"])
        others = (
            (sign * other["x"], other["y"])
            for other in means
            if all(other[name] == row[name] for name in ("tokens", *FACETS))
        )
        return any(x <= place[0] and y <= place[1] and (x, y) != place for x, y in others)

    return [
        {**row, "what": "dominated"} if row["what"] == "mean" and dominated(row) else row
        for row in rows
    ]


def _half_width(num: Array, std: Array) -> Array:
    """Return half the width of the 95% t interval of the mean of num values with this std."""
    from scipy.special import stdtrit

    return np.asarray(
        stdtrit(np.maximum(num - 1, 1), 0.975) * std / np.sqrt(np.maximum(num, 1)), dtype=float
    )


def table_cells(table: pd.DataFrame, design: Design) -> list[Row]:
    """Return the cells of table 1: task metric and perplexity before, after and its change.

    Means over seeds of the loss, with 95% t intervals; of the task metric with its standard error.
    """
    rows: list[Row] = []
    for panel, group in families(table, design.methods[0]):
        for (tokens, rate), seeds in group.groupby(["tokens", "learning_rate"]):
            done = seeds[seeds["state"] == "done"]
            place = {**panel, "tokens": tokens, "learning_rate": rate}
            rows += [
                {"what": "cell", **place, "column": column, "label": text if len(done) else "…"}
                for column, text in _cell_texts(done, design).items()
            ]
    return rows


def _cell_texts(done: pd.DataFrame, design: Design) -> dict[str, str]:
    metric = done[design.metric].astype(float)
    base = float(done["base"].astype(float).mean(skipna=False))
    after = (np.nan,) * 3
    if len(done):
        after = mean_interval(done["nll_mean"].to_numpy(dtype=float))
    error = f" ± {metric.std() / np.sqrt(len(done)):.2g}" if len(done) > 1 else ""
    with np.errstate(over="ignore"):
        return {
            "accuracy" if design.metric == "accuracy" else "task loss": f"{metric.mean():.3f}"
            + error,
            "before": f"{np.exp(base):.2f}",
            "after": _with_interval([float(np.exp(loss)) for loss in after], ".2f"),
            "change": _with_interval(
                [float(np.exp(loss) - np.exp(base)) for loss in after], "+.2f"
            ),
            "seeds": str(len(done)),
        }


def _with_interval(values: Sequence[float], number: str) -> str:
    """Return mean and interval for a cell."""
    mean, low, high = values
    interval = ""
    if np.isfinite([low, high]).all():
        interval = f" ({low:{number}} to {high:{number}})"
    return f"{mean:{number}}{interval}"


def training_rows(table: pd.DataFrame) -> list[Row]:
    """Return training loss over steps, finished or running; a line per fine-tuning run."""
    rows: list[Row] = []
    runs = table[(table["method"] != "base") & (table["alpha"] == 1)].drop_duplicates(
        ["revision", "method", "learning_rate", "seed"]
    )
    for run in runs.to_dict("records"):
        labels = ("tokens", "replicate", "learning_rate", "method", "measurement")
        place = {name: run[name] for name in labels}
        rows += [
            {"what": "mean", **place, "line": run["measurement"], "x": step, "order": step, "y": y}
            for step, y in _training_curve(run)
            if step and y is not None
        ]
    return rows


def _training_curve(run: Mapping[Any, Any]) -> list[tuple[float, float | None]]:
    """Return (step, loss) of a finished or running run; empty for others."""
    if run["state"] == "done":
        series = run["series"]
        steps, losses = series.get("training_steps", []), series.get("training_loss", [])
    elif run["live"]:
        live = run["live"]["series"]
        losses = live.get("loss", [])
        steps = live.get("done", [])[-len(losses) :] if losses else []
    else:
        return []
    return list(zip(steps, losses, strict=False))
