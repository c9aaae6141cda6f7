"""The figures of fine-tuning: loss before and after over tokens, and over learning rates.

    figures(table, verdicts, design, references)        # {"table_1": Figure, "perplexity": Figure,
    ...}

The table is that of `ucurve.analysis.fine_tuning`; its verdicts hold the minima.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import fine_tuning as numbers
from ucurve.analysis import fine_tuning_rows
from ucurve.analysis.base_loss import with_base_intervals, with_text_blocks
from ucurve.analysis.bits_per_byte import CAPTION, in_bits_per_byte
from ucurve.analysis.curve_rows import YTransform, curve_rows, minimum_rows
from ucurve.analysis.fine_tuning import Design
from ucurve.analysis.replication import Reference, compare
from ucurve.analysis.text_error import CAPTION as TEXT
from ucurve.figures import charts, loss_increase_law, sweep_charts, tuned_rates
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.colours import LineEncoding
from ucurve.figures.grids import text_table
from ucurve.figures.published import with_references
from ucurve.figures.tabs import CURVES, placed
from ucurve.schemas.bits_per_byte import BITS_PER_BYTE
from ucurve.schemas.results import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]
TOKENS, RATE = tokens_axis(), Axis("x", "learning rate", "log")
PERPLEXITY, CHANGE = Axis("y", "perplexity", "log"), Axis("y", "change in perplexity", "symlog")
FORGETTING = Axis("y", "forgetting / nats", "symlog", constant=0.01)
TASK = {"id_loss": "loss on the new task / nats", "accuracy": "accuracy on the new task"}
BEST, MATCHED = (LineEncoding("line", "", [name], ordered=False) for name in ("best", "matched"))
curves = partial(charts.curves, row="replicate", column="evaluation")
by_checkpoint = partial(sweep_charts.by_checkpoint, row="replicate", column="evaluation")
BANDS = (
    "Bands and bars: 95% t intervals over seeds (unperturbed model: over paired blocks of "
    f"evaluation windows), clipped near the outermost point. {TEXT} Bars over learning rates, and "
    "of the task, are on this text. Dots: individual seeds. Triangles at the top: seeds that "
    "diverged or failed. Intervals reflect fine-tuning seeds only, not variation between "
    "pre-training runs."
)
CURVE = (*numbers.FACETS, "method", "alpha", "learning_rate")
SPREAD = f"One line per checkpoint, from the smallest to the largest learning rate. {BANDS}"
PLACES = {
    **CURVES,
    "table_1": ("Table 1",),
    "forgetting": ("U-curve", "perplexity", "forgetting"),
    "forgetting_nats": ("U-curve", "loss", "forgetting"),
    "learned": ("New task",),
    "best_rate": ("Best rate", "learning rate"),
    "tuned_forgetting": ("Best rate", "forgetting"),
    "tuned_learned": ("Best rate", "new task"),
    "forgetting_by_rate": ("By rate", "forgetting"),
    "learned_by_rate": ("By rate", "new task"),
    "trade_off": ("Trade-off", "learning and forgetting"),
    "pareto_fronts": ("Trade-off", "Pareto fronts"),
    "matched": ("Trade-off", "at matched loss"),
    "displacement": ("Displacement",),
    "methods": ("Methods",),
    "training": ("Training",),
}
METHODS = ("full", "wise_ft", "l2_sp", "ewc", "lora", "head")


def figures(
    table: pd.DataFrame,
    verdicts: Sequence[Verdict],
    design: Design,
    references: Sequence[Reference] = (),
) -> dict[str, Figure]:
    """Return all figures by name, from the rows measured so far.

    verdicts: the minima of the first method are marked. references: published numbers of this
    experiment.
    """
    first = design.methods[0]
    verdicts = [v for v in verdicts if v.labels.get("method", first) == first]
    table = numbers.prepared(table)
    table = with_text_blocks(table, CURVE, table["method"] == "base")
    result = {
        **_over_tokens(table, verdicts, design),
        **_in_bits(table, verdicts, design),
        "table_1": _table_1(table, design),
    }
    if len(design.rates) > 1:
        result |= {**_over_rates(table, design), **tuned_rates.figures(table, design)}
    result["displacement"] = _displacement(table, design)
    if len(design.methods) > 1 or design.alphas:
        result["methods"] = _methods(table, design)
    rates = LineEncoding("learning_rate", "learning rate", list(design.rates))
    result |= loss_increase_law.figures(verdicts, rates, row="replicate", column="evaluation")
    result["training"] = _training(table, design)
    if design.optimiser != "adamw":
        stated = f" Optimiser: {design.optimiser}."
        result = {n: replace(fig, caption=fig.caption + stated) for n, fig in result.items()}
    if references:
        comparisons = compare(references, numbers.comparable_rows(table, design))
        result = with_references(result, references, comparisons)
    return placed(result, PLACES)


def _table_1(table: pd.DataFrame, design: Design) -> Figure:
    learned = "accuracy" if design.metric == "accuracy" else "task loss"
    columns = LineEncoding("column", "", [learned, "before", "after", "change", "seeds"])
    cells = text_table(TOKENS, columns, row="learning_rate", column="replicate", width=170)
    first = [
        row
        for row in fine_tuning_rows.table_cells(table, design)
        if row["evaluation"] == table["evaluation"].iloc[0]
    ]
    caption = (
        "Task metric (± standard error over seeds); perplexity on the first evaluation set "
        "before and after fine-tuning, and their difference (means over seeds with 95% t "
        "intervals on this text)."
    )
    return Figure("Table 1", caption, cells, {"cells": first})


def _rows(
    frame: pd.DataFrame,
    transform: YTransform | None = None,
    value: str = "nll_mean",
    blocks: str = "",
) -> Rows:
    by, facets = ["learning_rate", "phase", "base"], numbers.FACETS
    return curve_rows(frame, "tokens", value, by, facets=facets, transform=transform, blocks=blocks)


def _tokens_figure(
    lines: LineEncoding,
    title: str,
    caption: str,
    y: Axis,
    rows: Rows,
    metric: str = "",
    zero_line: bool = False,
) -> Figure:
    """Return a figure over pre-training tokens, a line per learning rate."""
    chart = curves(TOKENS, y, lines, also=["phase"], zero_line=zero_line, metric=metric)
    return Figure(title, f"{caption} {BANDS}", chart, {"curves": rows})


def _over_tokens(
    table: pd.DataFrame, verdicts: Sequence[Verdict], design: Design
) -> dict[str, Figure]:
    """Return figures 2, 3a, 3b: one line per learning rate, of the first method."""
    lines = LineEncoding("learning_rate", "learning rate", [0.0, *design.rates], neutral=[0.0])
    after = numbers.fine_tuned(table, design.methods[0])
    base = table[table["method"] == "base"]
    losses = _rows(_stacked([base, after]), lambda loss, _: np.exp(loss), blocks="loss_blocks")
    perplexity = with_base_intervals(losses, base.assign(gamma=0.0), "learning_rate", np.exp)
    increases = partial(_rows, after, blocks="increase_blocks")
    labels = (*numbers.FACETS, "learning_rate")
    learned = _capital(TASK[design.metric].split(" / ")[0])
    over_tokens = partial(_tokens_figure, lines)
    return {
        "perplexity": over_tokens(
            "Perplexity before and after fine-tuning",
            "Perplexity on the evaluation set against pre-training tokens, unperturbed model in "
            "grey. Triangles pointing down: minimum with 95% bootstrap interval; filled if the "
            "rise after it is significant.",
            PERPLEXITY,
            [*perplexity, *minimum_rows(verdicts, labels, "tokens", np.exp)],
            "perplexity",
        ),
        "forgetting": over_tokens(
            "Forgetting as a change in perplexity",
            "Perplexity after fine-tuning minus perplexity before, against pre-training tokens.",
            CHANGE,
            increases(transform=lambda loss, row: np.exp(loss) - np.exp(row["base"])),
            "perplexity_change",
            zero_line=True,
        ),
        "forgetting_nats": over_tokens(
            "Forgetting",
            "Loss after fine-tuning minus loss before, in nats. Comparable across checkpoints, "
            "unlike a change in perplexity.",
            FORGETTING,
            increases(transform=lambda loss, row: loss - row["base"]),
            zero_line=True,
        ),
        "learned": over_tokens(
            learned,
            f"{learned} after fine-tuning, on validation data, against pre-training tokens.",
            Axis("y", TASK[design.metric]),
            _rows(after, value=design.metric),
            design.metric,
        ),
    }


def _in_bits(table: pd.DataFrame, verdicts: Sequence[Verdict], design: Design) -> dict[str, Figure]:
    """Return figure 2 in bits per byte; none where the bytes of the texts are unknown."""
    lines = LineEncoding("learning_rate", "learning rate", [0.0, *design.rates], neutral=[0.0])
    base = table[table["method"] == "base"].assign(gamma=0.0)
    drawn = _stacked([base, numbers.fine_tuned(table, design.methods[0])])
    loss = with_base_intervals(
        _rows(drawn, blocks="loss_blocks"), base, "learning_rate", np.asarray
    )
    minima = minimum_rows(verdicts, (*numbers.FACETS, "learning_rate"), "tokens", float)
    rows = in_bits_per_byte([*loss, *minima], table, (*numbers.FACETS, "tokens"))
    if not rows:
        return {}
    title, axis = "Bits per byte before and after fine-tuning", Axis("y", "bits per byte")
    return {BITS_PER_BYTE: _tokens_figure(lines, title, CAPTION, axis, rows)}


def _over_rates(table: pd.DataFrame, design: Design) -> dict[str, Figure]:
    """Return figures 4, 5a, 5b, the trade-off, and forgetting at matched loss."""
    metric, after = design.metric, numbers.fine_tuned(table, design.methods[0])
    task = TASK[metric].split(" / ")[0]
    sweep = partial(fine_tuning_rows.sweep_rows, after, by=["learning_rate"])
    front = fine_tuning_rows.pareto_front(sweep(metric, "forgetting"), metric == "accuracy")
    return {
        "best_rate": Figure(
            "Best learning rate",
            f"Learning rate with the best {task}. Band: 95% confidence set, all rates that no "
            "other is significantly better than (paired over seeds). Triangle around a point: the "
            "best rate is at the edge of the grid, so the optimum may be outside.",
            curves(TOKENS, Axis("y", "best learning rate", "log"), BEST),
            {"curves": fine_tuning_rows.best_rate_rows(table, design)},
        ),
        "forgetting_by_rate": Figure(
            "Forgetting by learning rate",
            SPREAD,
            by_checkpoint(RATE, FORGETTING, zero_line=True),
            {"curves": sweep("learning_rate", "forgetting")},
        ),
        "learned_by_rate": Figure(
            f"{_capital(task)} by learning rate",
            SPREAD,
            by_checkpoint(RATE, Axis("y", TASK[metric])),
            {"curves": sweep("learning_rate", metric)},
        ),
        "trade_off": Figure(
            "Trade-off between learning and forgetting",
            f"Pareto front of every checkpoint: {task} and forgetting at each learning rate. "
            f"Hollow points are dominated by another learning rate. {SPREAD}",
            by_checkpoint(Axis("x", TASK[metric]), FORGETTING, zero_line=True),
            {"curves": front},
        ),
        "matched": _matched(table, design),
    }


def _matched(table: pd.DataFrame, design: Design) -> Figure:
    return Figure(
        "Forgetting at matched loss on the new task",
        "Forgetting at the lowest new-task loss that all checkpoints reach, interpolated linearly "
        "between learning rates. Triangles: upper bounds, for checkpoints whose smallest learning "
        f"rate already reaches a lower loss. {BANDS}",
        curves(TOKENS, FORGETTING, MATCHED, zero_line=True),
        {"curves": fine_tuning_rows.matched_rows(table, design)},
    )


def _displacement(table: pd.DataFrame, design: Design) -> Figure:
    rows = fine_tuning_rows.sweep_rows(
        numbers.fine_tuned(table, design.methods[0]),
        "displacement",
        "forgetting",
        ["learning_rate"],
    )
    return Figure(
        "Displacement and forgetting",
        "Forgetting against the relative distance from the pre-trained weights, "
        "|fine-tuned − pre-trained| / |pre-trained|: did the model move further, or is it more "
        f"sensitive? {SPREAD}",
        by_checkpoint(Axis("x", "relative displacement", "log"), FORGETTING, zero_line=True),
        {"curves": rows},
    )


def _methods(table: pd.DataFrame, design: Design) -> Figure:
    methods = [
        name for name in METHODS if name in design.methods or (name == "wise_ft" and design.alphas)
    ]
    chart = sweep_charts.by_method(
        Axis("x", "forgetting / nats", "symlog", constant=0.01),
        Axis("y", TASK[design.metric]),
        LineEncoding("method", "method", methods, ordered=False),
        row="replicate",
        column="tokens",
    )
    return Figure(
        "Methods compared",
        f"Forgetting and {TASK[design.metric].split(' / ')[0]} of every method on the first "
        "evaluation set, one point per learning rate. wise_ft: one point per alpha, at the best "
        f"learning rate of full fine-tuning. {BANDS}",
        chart,
        {"curves": _method_rows(table, design)},
    )


def _method_rows(table: pd.DataFrame, design: Design) -> Rows:
    first = table["evaluation"].iloc[0] if len(table) else ""
    rows = fine_tuning_rows.sweep_rows(
        numbers.by_method(table[table["evaluation"] == first], design),
        "forgetting",
        design.metric,
        ["method", "learning_rate", "alpha"],
    )
    return [
        {**row, "order": row["alpha"] if row["method"] == "wise_ft" else row["learning_rate"]}
        for row in rows
    ]


def _training(table: pd.DataFrame, design: Design) -> Figure:
    chart = sweep_charts.by_method(
        Axis("x", "step"),
        Axis("y", "training loss / nats"),
        LineEncoding("learning_rate", "learning rate", list(design.rates)),
        row="replicate",
        dots=False,
    )
    return Figure(
        "Training loss",
        "Mean training loss per scored token in each bin of steps. Updates live.",
        chart,
        {"curves": fine_tuning_rows.training_rows(table)},
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the frames that have rows."""
    import pandas as pd

    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[-1]
