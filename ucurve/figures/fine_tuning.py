"""The figures of experiments II and III: loss before and after fine-tuning over tokens, and over learning rates.

figures(table, spec)        # {"table_1": Figure, "perplexity": Figure, ...}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import claims
from ucurve.analysis import fine_tuning as numbers
from ucurve.analysis.base_loss import with_base_intervals
from ucurve.analysis.replication import compared
from ucurve.experiments.fine_tuning_fields import TuningFields
from ucurve.figures import charts, sweep_charts
from ucurve.figures.charts import Axis, Lines
from ucurve.figures.published import beside
from ucurve.spec import Figure

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]
Shown = Callable[["pd.Series", "pd.DataFrame"], Any]
TOKENS, RATE = charts.tokens_axis(), Axis("x", "learning rate", "log")
PERPLEXITY, CHANGE = Axis("y", "perplexity", "log"), Axis("y", "change of perplexity", "symlog")
FORGETTING = Axis("y", "forgetting / nats", "symlog", constant=0.01)
TASK = {"id_loss": "loss on the new task / nats", "accuracy": "accuracy on the new task"}
curves = partial(charts.curves, row="replicate", column="evaluation")
by_checkpoint = partial(sweep_charts.by_checkpoint, row="replicate", column="evaluation")
BANDS = (
    "Bands and bars: 95% t interval over seeds, drawn no further than a little beyond the outermost point; of the base: over "
    "paired blocks of windows of the evaluation text. Dots: single seeds; triangles at the top: seeds that diverged, or failed. "
    "Seeds describe one pre-training run; replicates are further runs."
)
SPREAD = f"One line per checkpoint, from small learning rates to large ones. {BANDS}"
METHODS = ("full", "wise_ft", "l2_sp", "ewc", "lora", "head")


def figures(table: pd.DataFrame, spec: TuningFields) -> dict[str, Figure]:
    """All figures by name, from whatever rows there are."""
    table = numbers.prepared(table)
    made = {
        "table_1": _table_1(table, spec),
        **_over_tokens(table, spec),
        **(_over_rates(table, spec) if len(spec.rates) > 1 else {}),
    }
    made |= {"displacement": _displacement(table, spec)}
    if len(spec.methods) > 1 or spec.alphas:
        made["methods"] = _methods(table, spec)
    made["training"] = _training(table, spec)
    given = numbers.published_of(spec)
    return (
        beside(made, given, compared(given, numbers.beside_published(table, spec)))
        if given
        else made
    )


def _table_1(table: pd.DataFrame, spec: TuningFields) -> Figure:
    learned = "accuracy" if numbers.learned(spec) == "accuracy" else "task loss"
    columns = Lines("column", "", [learned, "before", "after", "change", "seeds"])
    cells = charts.text_table(TOKENS, columns, row="learning_rate", column="replicate", width=170)
    first = [
        row
        for row in numbers.table_cells(table, spec)
        if row["evaluation"] == table["evaluation"].iloc[0]
    ]
    caption = (
        "What was learned (± standard error over seeds), and perplexity on the first evaluation set before, after and their "
        "difference: means over seeds with 95% t intervals."
    )
    return Figure("Table 1", caption, cells, {"cells": first})


def _over_tokens(table: pd.DataFrame, spec: TuningFields) -> dict[str, Figure]:
    """Figures 2, 3a, 3b: one line per learning rate, method the spec's first."""
    lines, metric = (
        Lines("learning_rate", "learning rate", [0.0, *spec.rates], neutral=[0.0]),
        numbers.learned(spec),
    )
    after = numbers.tuned(table, spec.methods[0])
    both = _stacked([table[table["method"] == "base"], after])
    bases = table[table["method"] == "base"].assign(gamma=0.0)

    def rows(frame: pd.DataFrame, shown: Shown | None = None, value: str = "nll_mean") -> Rows:
        by = ["learning_rate", "phase", "base"]
        return charts.curve_rows(frame, "tokens", value, by, facets=numbers.FACETS, shown=shown)

    def drawn(
        title: str, caption: str, y: Axis, data: Rows, shows: str = "", zero_line: bool = False
    ) -> Figure:
        chart = curves(TOKENS, y, lines, also=["phase"], zero_line=zero_line, metric=shows)
        return Figure(title, f"{caption} {BANDS}", chart, {"curves": data})

    return {
        "perplexity": drawn(
            "Perplexity before and after fine-tuning",
            "Perplexity on the evaluation set against pre-training tokens, base in grey. Pointing down: the lowest point with its "
            "95% bootstrap interval, filled where the rise after it is established.",
            PERPLEXITY,
            [
                *with_base_intervals(
                    rows(both, lambda loss, _: np.exp(loss)), bases, "learning_rate", np.exp
                ),
                *_bottoms(table, spec),
            ],
            "perplexity",
        ),
        "forgetting": drawn(
            "Forgetting, as change of perplexity",
            "Perplexity after fine-tuning minus before, against pre-training tokens.",
            CHANGE,
            rows(after, lambda loss, row: np.exp(loss) - np.exp(row["base"])),
            "perplexity_change",
            zero_line=True,
        ),
        "forgetting_nats": drawn(
            "Forgetting",
            "Loss after minus before in nats: comparable between checkpoints, which a change of perplexity is not.",
            FORGETTING,
            rows(after, lambda loss, row: loss - row["base"]),
            zero_line=True,
        ),
        "learned": drawn(
            "What was learned",
            f"The {TASK[metric].split(' / ')[0]} after fine-tuning, on validation data, against pre-training tokens.",
            Axis("y", TASK[metric]),
            rows(after, value=metric),
            metric,
        ),
    }


def _over_rates(table: pd.DataFrame, spec: TuningFields) -> dict[str, Figure]:
    """Figures 4, 5a, 5b, the trade-off, forgetting at matched loss, displacement, and the methods compared."""
    metric, after = numbers.learned(spec), numbers.tuned(table, spec.methods[0])
    task, one = Axis("x", TASK[metric]), Lines("line", "", ["best"], ordered=False)
    by_rate = ["learning_rate"]
    best = Axis("y", "best learning rate", "log")
    return {
        "best_rate": Figure(
            "Best learning rate",
            f"The rate with the best {TASK[metric].split(' / ')[0]}, and as a band all within one standard error of it. A "
            "triangle around a point: the best is at the edge of the grid, so that the optimum may lie beyond.",
            curves(TOKENS, best, one),
            {"curves": numbers.best_rate_rows(table, spec)},
        ),
        "forgetting_by_rate": Figure(
            "Forgetting by learning rate",
            SPREAD,
            by_checkpoint(RATE, FORGETTING, zero_line=True),
            {"curves": numbers.swept(after, "learning_rate", "forgetting", by_rate)},
        ),
        "learned_by_rate": Figure(
            "What was learned, by learning rate",
            SPREAD,
            by_checkpoint(RATE, Axis("y", TASK[metric])),
            {"curves": numbers.swept(after, "learning_rate", metric, by_rate)},
        ),
        "trade_off": Figure(
            "Trade-off between learning and forgetting",
            "The Pareto front of every checkpoint: what was learned and what was forgotten at each learning rate; hollow: rates "
            "that another one beats in both. " + SPREAD,
            by_checkpoint(task, FORGETTING, zero_line=True),
            {
                "curves": numbers.fronts(
                    numbers.swept(after, metric, "forgetting", by_rate), metric == "accuracy"
                )
            },
        ),
        "matched": Figure(
            "Forgetting at matched loss on the new task",
            "Forgetting where each checkpoint's loss on the new task first comes down to the lowest that all of them reach, "
            "linear between learning rates. Triangles: upper bounds, for checkpoints that even the smallest rate brings below that "
            f"loss. {BANDS}",
            curves(
                TOKENS, FORGETTING, Lines("line", "", ["matched"], ordered=False), zero_line=True
            ),
            {"curves": numbers.matched(table, spec)},
        ),
    }


def _displacement(table: pd.DataFrame, spec: TuningFields) -> Figure:
    rows = numbers.swept(
        numbers.tuned(table, spec.methods[0]), "displacement", "forgetting", ["learning_rate"]
    )
    return Figure(
        "Displacement and forgetting",
        f"Relative displacement |theta - base| / |base| and forgetting: a larger step, or a more sensitive model? {SPREAD}",
        by_checkpoint(Axis("x", "relative displacement", "log"), FORGETTING, zero_line=True),
        {"curves": rows},
    )


def _methods(table: pd.DataFrame, spec: TuningFields) -> Figure:
    metric = numbers.learned(spec)
    methods = [
        name for name in METHODS if name in spec.methods or (name == "wise_ft" and spec.alphas)
    ]
    forgetting, lines = (
        Axis("x", "forgetting / nats", "symlog", constant=0.01),
        Lines("method", "method", methods, ordered=False),
    )
    return Figure(
        "Methods compared",
        "What was forgotten and what was learned by every method, a point per learning rate; of wise_ft, one per alpha at "
        f"full's best rate. First evaluation set. {BANDS}",
        sweep_charts.by_method(
            forgetting, Axis("y", TASK[metric]), lines, row="replicate", column="tokens"
        ),
        {"curves": _compared(table, spec, metric)},
    )


def _compared(table: pd.DataFrame, spec: TuningFields, metric: str) -> Rows:
    mine = table[table["evaluation"] == (table["evaluation"].iloc[0] if len(table) else "")]
    rows = numbers.swept(
        numbers.compared(mine, spec), "forgetting", metric, ["method", "learning_rate", "alpha"]
    )
    return [
        {**row, "order": row["alpha"] if row["method"] == "wise_ft" else row["learning_rate"]}
        for row in rows
    ]


def _training(table: pd.DataFrame, spec: TuningFields) -> Figure:
    lines = Lines("learning_rate", "learning rate", list(spec.rates))
    chart = sweep_charts.by_method(
        Axis("x", "step"), Axis("y", "training loss / nats"), lines, row="replicate", dots=False
    )
    return Figure(
        "Training loss",
        "Mean loss of the batches in each bin of steps, per scored token; live while it runs.",
        chart,
        {"curves": numbers.training_rows(table)},
    )


def _bottoms(table: pd.DataFrame, spec: TuningFields) -> Rows:
    """Where the perplexity after fine-tuning is lowest, with its bootstrap interval, unless at the last checkpoint."""
    rows = []
    for where, family in numbers.conditions(table, spec, spec.methods[0]):
        asked_for = list(family.values())
        found = claims.inflection_point(asked_for, claims.catastrophic_overtraining(asked_for))
        for (rate, asked), verdict in zip(family.items(), found, strict=True):
            condition = asked.complete()
            if verdict.interval is None or verdict.effect == condition.x[-1]:
                continue
            lowest = float(np.exp(condition.losses.mean(axis=1)[condition.x == verdict.effect][0]))
            if np.isfinite(lowest):
                low, high = verdict.interval
                place = {
                    **where,
                    "learning_rate": rate,
                    "tokens": verdict.effect,
                    "y": lowest,
                    "x_low": low,
                    "x_high": high,
                }
                what = "bottom" if verdict.answer == "yes" else "open bottom"
                rows.append({"what": what, **place, "label": verdict.sentence})
    return rows


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    full = [frame for frame in frames if len(frame)]
    return pd.concat(full, ignore_index=True) if full else frames[-1]
