"""From the table of a fine-tuning experiment to the numbers that its figures draw and its verdicts test.

    table = prepared(table)                                # with base and forgetting
    tokens, losses = grid(rows, badness(rows, spec), rates)  # [num_checkpoints], [num_checkpoints, num_rates, num_seeds]

The table has a row per point: labels suite, revision, tokens, replicate, phase, evaluation, method ("base": before), learning_rate,
seed, alpha (1: fine-tuned; less: interpolated with the base), and once measured nll_mean, id_loss, accuracy, displacement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ucurve.analysis import learning_rate_fits, replication
from ucurve.analysis.base_loss import base_blocks
from ucurve.analysis.conditions import Condition, paired
from ucurve.analysis.curve_rows import curve_rows, cut, to_rows
from ucurve.analysis.statistics import Array, mean_interval
from ucurve.experiments.evaluation_points import WINDOW
from ucurve.experiments.fine_tuning_fields import TuningFields

if TYPE_CHECKING:
    import pandas as pd

Where = dict[str, Any]  # a replicate on an evaluation set
FACETS = ("replicate", "evaluation")
COLUMNS = (
    *(
        "suite",
        "revision",
        "tokens",
        "replicate",
        "phase",
        "evaluation",
        "method",
        "learning_rate",
        "seed",
        "alpha",
    ),
    *(
        "state",
        "measurement",
        "series",
        "live",
        "nll_mean",
        "id_loss",
        "accuracy",
        "accuracy_se",
        "displacement",
    ),
)


def prepared(table: pd.DataFrame) -> pd.DataFrame:
    """The table with every column, and `base` and `forgetting`: the loss before, and after minus before, on the same set."""
    table = table.reindex(
        columns=[*table.columns, *(name for name in COLUMNS if name not in table)]
    )
    done = table[(table["method"] == "base") & (table["state"] == "done")]
    base = dict(
        zip(zip(done["revision"], done["evaluation"], strict=True), done["nll_mean"], strict=True)
    )
    found = [
        base.get(key, np.nan) for key in zip(table["revision"], table["evaluation"], strict=True)
    ]
    base_loss, after = np.array(found, dtype=float), table["nll_mean"].to_numpy(dtype=float)
    diverged = (table["state"] == "done") & ~np.isfinite(after)
    return table.assign(base=base_loss, forgetting=np.where(diverged, np.inf, after) - base_loss)


def tuned(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Rows of one method's own weights, not interpolated."""
    return table[(table["method"] == method) & (table["alpha"] == 1)]


def learned(spec: TuningFields) -> str:
    """The metric that says how well the new task was learned."""
    return "id_loss" if spec.task == "language_modelling" else "accuracy"


def badness(table: pd.DataFrame, spec: TuningFields) -> Array:
    """That metric with lower as better, the loss or the error rate, one per row; inf where it diverged, NaN where unmeasured."""
    values = table[learned(spec)].to_numpy(dtype=float)
    values = values if learned(spec) == "id_loss" else 1 - values
    return np.where((table["state"] == "done") & ~np.isfinite(values), np.inf, values)


def grid(table: pd.DataFrame, values: Array, rates: Sequence[float]) -> tuple[Array, Array]:
    """tokens [num_checkpoints] and values [num_checkpoints, num_rates, num_seeds] of one family (a replicate on one set); NaN where
    there is none."""
    known = (
        table["tokens"].notna() & (table["state"] == "done") & table["learning_rate"].isin(rates)
    ).to_numpy()
    tokens, i = np.unique(table["tokens"].to_numpy(dtype=float)[known], return_inverse=True)
    seeds, k = np.unique(table["seed"].to_numpy(dtype=float)[known], return_inverse=True)
    j = np.searchsorted(np.array(rates), table["learning_rate"].to_numpy(dtype=float)[known])
    cells = np.full((len(tokens), len(rates), len(seeds)), np.nan)
    cells[i, j, k] = values[known]
    return tokens, cells


def whole_seeds(*grids: Array) -> list[Array]:
    """The grids with only those seeds that are measured everywhere in all of them."""
    whole = np.logical_and.reduce([~np.isnan(cells).any(axis=(0, 1)) for cells in grids])
    return [cells[:, :, whole] for cells in grids]


def families(table: pd.DataFrame, method: str) -> list[tuple[Where, pd.DataFrame]]:
    """({"replicate": r, "evaluation": e}, rows) of one method."""
    rows = tuned(table, method)
    return [
        (dict(zip(FACETS, cast(tuple[Any, ...], key), strict=True)), group)
        for key, group in rows.groupby(list(FACETS))
    ]


def best_rates(
    table: pd.DataFrame, spec: TuningFields, method: str
) -> list[tuple[Where, float, int, learning_rate_fits.Best]]:
    """Best learning rate of every checkpoint: (family, tokens, number of seeds, Best)."""
    found = []
    for where, group in families(table, method):
        error = (
            0.0
            if learned(spec) == "id_loss"
            else float(np.nan_to_num(group["accuracy_se"].to_numpy(dtype=float).max()))
        )
        tokens, losses = grid(group, badness(group, spec), spec.rates)
        for at, cells in zip(tokens, losses, strict=True):
            [mine] = whole_seeds(cells[None])
            if mine.size and (best := learning_rate_fits.best_rate(mine[0], error)) is not None:
                found.append((where, float(at), mine.shape[2], best))
    return found


def best_rate_rows(table: pd.DataFrame, spec: TuningFields) -> list[dict[str, Any]]:
    """The best rate (y) with the set within one standard error (low, high); "open bottom" marks those at the edge of the grid."""
    rows = []
    for where, tokens, num_seeds, best in best_rates(table, spec, spec.methods[0]):
        low, high = spec.rates[min(best.within)], spec.rates[max(best.within)]
        row = {
            **where,
            "tokens": tokens,
            "line": "best",
            "y": spec.rates[best.index],
            "low": low,
            "high": high,
        }
        row["num_draws"] = num_seeds
        rows.append({"what": "mean", **row})
        if best.at_edge:
            rows.append(
                {
                    "what": "open bottom",
                    **row,
                    "label": "at the edge of the grid: the best may lie beyond",
                }
            )
    return rows


def matched(table: pd.DataFrame, spec: TuningFields) -> list[dict[str, Any]]:
    """Forgetting of every checkpoint where its loss on the new task comes down to what all checkpoints reach; "open bottom": only a
    bound is known, because its loss is below that at the smallest rate already."""
    import pandas as pd

    rows, bounds = [], []
    for where, group in families(table, spec.methods[0]):
        tokens, losses = grid(group, group["id_loss"].to_numpy(dtype=float), spec.rates)
        losses, forgetting = whole_seeds(
            losses, grid(group, group["forgetting"].to_numpy(dtype=float), spec.rates)[1]
        )
        if len(tokens) < 2 or not losses.size:
            continue
        target = float(losses.mean(axis=2).min(axis=1).max())
        for i, at in enumerate(tokens):
            found = [
                learning_rate_fits.at_matched_loss(losses[i, :, k], forgetting[i, :, k], target)
                for k in range(losses.shape[2])
            ]
            place = {
                **where,
                "tokens": at,
                "line": "matched",
                "target": target,
                "state": "done",
                "measurement": None,
            }
            if losses[i, 0].mean() < target:
                label = (
                    f"at most this, as the smallest rate already brings its loss below {target:.3f}"
                )
                bounds.append(
                    {
                        "what": "open bottom",
                        **place,
                        "y": float(forgetting[i, 0].mean()),
                        "label": label,
                    }
                )
            else:
                rows += [{**place, "value": value} for value in found if np.isfinite(value)]
        beyond = sum(
            bound["target"] == target and all(bound[name] == where[name] for name in where)
            for bound in bounds
        )
        told = f"at a loss of {target:.3f}" + (
            f"; {beyond} of {len(tokens)} are bounds" if beyond else ""
        )
        bounds.append({"what": "note", **where, "target": target, "label": told})
    return [
        *curve_rows(pd.DataFrame(rows), "tokens", "value", ["line", "target"], facets=FACETS),
        *bounds,
    ]


def swept(table: pd.DataFrame, x: str, y: str, by: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of `rate_charts`: means over seeds of x and y (fields "x" and "y"), seeds as draws, and what diverged."""
    keys = ["tokens", *FACETS, *by]
    finite = (
        (table["state"] == "done")
        & np.isfinite(table[y].astype(float))
        & np.isfinite(table[x].astype(float))
    )
    done = table.assign(x=table[x].astype(float), y=table[y].astype(float))
    broken = done[(table["state"] == "failed") | ((table["state"] == "done") & ~finite)]
    groups = done[finite & done["tokens"].notna()].groupby(keys, dropna=False)
    means = groups.agg(
        x=("x", "mean"), y=("y", "mean"), std=("y", "std"), num_draws=("y", "size")
    ).reset_index()
    half = _half_width(means["num_draws"].to_numpy(), means["std"].to_numpy(dtype=float))
    means = means.assign(
        low=means["y"] - half, high=means["y"] + half, order=means["learning_rate"]
    )
    if len(broken):
        whole = set(map(tuple, broken[keys].to_numpy().tolist()))
        means = means[[tuple(key) not in whole for key in means[keys].to_numpy().tolist()]]
    marks = (
        broken.groupby(keys, dropna=False)
        .agg(label=("y", "size"), measurement=("measurement", "first"))
        .reset_index()
    )
    marks = marks.assign(label=[f"{count}×∞" for count in marks["label"]], x=marks["learning_rate"])
    draws = done[finite][[*keys, "x", "y", "measurement"]]
    edges = to_rows("edge", marks) if x == "learning_rate" else []
    return cut(to_rows("mean", means.drop(columns="std")) + to_rows("draw", draws)) + edges


def fronts(rows: list[dict[str, Any]], larger_is_better: bool) -> list[dict[str, Any]]:
    """Rows of `swept` with x what was learned and y what was forgotten: means that another rate of the same checkpoint beats in
    both become "dominated", so that the line left is the Pareto front."""
    sign = -1 if larger_is_better else 1
    means = [row for row in rows if row["what"] == "mean"]

    def beaten(row: dict[str, Any]) -> bool:
        same = (
            other
            for other in means
            if all(other[name] == row[name] for name in ("tokens", *FACETS))
        )
        at = (sign * row["x"], row["y"])
        return any(
            x <= at[0] and y <= at[1] and (x, y) != at
            for x, y in ((sign * other["x"], other["y"]) for other in same)
        )

    return [
        {**row, "what": "dominated"} if row["what"] == "mean" and beaten(row) else row
        for row in rows
    ]


def _half_width(num: Array, std: Array) -> Array:
    from scipy.special import stdtrit

    return np.asarray(
        stdtrit(np.maximum(num - 1, 1), 0.975) * std / np.sqrt(np.maximum(num, 1)), dtype=float
    )


def table_cells(table: pd.DataFrame, spec: TuningFields) -> list[dict[str, Any]]:
    """Table 1: what was learned, ± its standard error over seeds, and perplexity before, after and its change: means over seeds on
    the loss, with 95% t intervals."""
    name = learned(spec)
    rows = []
    for where, group in families(table, spec.methods[0]):
        for (tokens, rate), mine in group.groupby(["tokens", "learning_rate"]):
            done = mine[mine["state"] == "done"]
            metric, base = (
                done[name].astype(float),
                float(done["base"].astype(float).mean(skipna=False)),
            )
            after = (
                mean_interval(done["nll_mean"].to_numpy(dtype=float))
                if len(done)
                else (np.nan,) * 3
            )
            with np.errstate(over="ignore"):
                texts = {
                    "accuracy" if name == "accuracy" else "task loss": f"{metric.mean():.3f}"
                    + (f" ± {metric.std() / np.sqrt(len(done)):.2g}" if len(done) > 1 else ""),
                    "before": f"{np.exp(base):.2f}",
                    "after": _spread([float(np.exp(loss)) for loss in after], ".2f"),
                    "change": _spread(
                        [float(np.exp(loss) - np.exp(base)) for loss in after], "+.2f"
                    ),
                    "seeds": str(len(done)),
                }
            place = {**where, "tokens": tokens, "learning_rate": rate}
            rows += [
                {"what": "cell", **place, "column": k, "label": text if len(done) else "…"}
                for k, text in texts.items()
            ]
    return rows


def _spread(three: Sequence[float], number: str) -> str:
    """Mean and interval in a cell."""
    mean, low, high = three
    return f"{mean:{number}}" + (
        f" ({low:{number}} to {high:{number}})" if np.isfinite([low, high]).all() else ""
    )


def compared(table: pd.DataFrame, spec: TuningFields) -> pd.DataFrame:
    """Rows of every method, and of interpolations as method "wise_ft" at the rate that is best for full fine-tuning."""
    import pandas as pd

    parts = [table[(table["method"] != "base") & (table["alpha"] == 1)]]
    for where, tokens, _, best in best_rates(table, spec, "full") if spec.alphas else []:
        same = {
            **where,
            "tokens": tokens,
            "learning_rate": spec.rates[best.index],
            "method": "full",
        }
        here = np.logical_and.reduce([table[name] == value for name, value in same.items()])
        parts.append(table[here].assign(method="wise_ft"))
    return (
        pd.concat([part for part in parts if len(part)], ignore_index=True)
        if any(map(len, parts))
        else parts[0]
    )


def training_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Training loss over steps, finished or running; one line per point of the first evaluation set."""
    rows = []
    chosen = table[(table["method"] != "base") & (table["alpha"] == 1)]
    for run in chosen.drop_duplicates(["revision", "method", "learning_rate", "seed"]).to_dict(
        "records"
    ):
        if run["state"] == "done":
            steps, losses = (
                run["series"].get("training_steps", []),
                run["series"].get("training_loss", []),
            )
        elif run["live"]:
            losses = run["live"]["series"].get("loss", [])
            steps = run["live"]["series"].get("done", [])[-len(losses) :] if losses else []
        else:
            continue
        place = {
            name: run[name]
            for name in ("tokens", "replicate", "learning_rate", "method", "measurement")
        }
        pairs = [
            (step, loss)
            for step, loss in zip(steps, losses, strict=False)
            if step and loss is not None
        ]
        rows += [
            {"what": "mean", **place, "line": run["measurement"], "x": step, "order": step, "y": y}
            for step, y in pairs
        ]
    return rows


def conditions(
    table: pd.DataFrame, spec: TuningFields, method: str
) -> list[tuple[Where, dict[float, Condition]]]:
    """Losses and base of every family of one method, a Condition per learning rate that has rows."""
    found = []
    for where, group in families(table, method):
        base = table[(table["method"] == "base") & (table["evaluation"] == where["evaluation"])]
        base = base[base["replicate"] == where["replicate"]].assign(gamma=0.0)
        family = {}
        for rate, rows in sorted(group.groupby("learning_rate")):
            tokens, losses, measured = paired(rows, draw="seed")
            scope = f"learning rate {rate:g}, {method}, replicate {where['replicate']}"
            scope += f", {where['evaluation']}" if len(spec.evaluations) > 1 else ""
            blocks = base_blocks(base, tokens)
            family[cast(float, rate)] = Condition(
                scope, tokens, losses, blocks, measured, draw_name="seeds", looks=spec.looks
            )
        found.append((where, family))
    return found


def beside_published(table: pd.DataFrame, spec: TuningFields) -> pd.DataFrame:
    """The rows that published numbers are compared with: the first method's, and the bases."""
    return table[
        (table["method"] == "base") | ((table["method"] == spec.methods[0]) & (table["alpha"] == 1))
    ]


def published_of(spec: TuningFields) -> list[replication.Reference]:
    """The published numbers of this experiment's suite, task, recipe, one of its rates and one of its evaluation sets."""
    recipe = (
        "optimiser",
        "schedule",
        "weight_decay",
        "max_examples",
        "prompt",
        "label_words",
        "steps",
    )
    same = (
        spec.task == "label_words"
        and spec.data in (None, "sst2")
        and spec.epochs in (None, 3)
        and spec.methods[0] == "full"
    )
    same = same and spec.rows == 32 and not {spec.window, spec.stride} - {None, WINDOW}
    if not same or any(
        getattr(spec, name) != type(spec).model_fields[name].get_default() for name in recipe
    ):
        return []
    sets: Sequence[str | None] = spec.evaluations or [None]
    found = [one for name in sets for one in replication.builtin(spec.suite, name)]
    return [
        one
        for one in found
        if one.labels.get("learning_rate", 0.0) in (0.0, *spec.rates) and "gamma" not in one.labels
    ]
