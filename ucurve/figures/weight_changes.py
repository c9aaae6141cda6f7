"""The figures of changes without draws: loss before and after rounding or pruning, over tokens.

    figures(table, verdicts, Levels("bits", "bits", [2, 3, 4], unchanged=32))

The table is that of `ucurve.analysis.weight_changes`; its verdicts hold the minima.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis.base_loss import with_base_intervals
from ucurve.analysis.bits_per_byte import CAPTION, in_bits_per_byte
from ucurve.analysis.curve_rows import YTransform, curve_rows, minimum_rows
from ucurve.analysis.weight_changes import matrix_rows, prepared, with_intervals
from ucurve.figures import charts
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.colours import LineEncoding
from ucurve.figures.grids import heat_map, text_table
from ucurve.figures.tabs import CURVES, placed
from ucurve.schemas.bits_per_byte import BITS_PER_BYTE
from ucurve.schemas.results import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

FACETS = ("scheme", "replicate")
TOKENS = tokens_axis()
NATS = Axis("y", "loss increase / nats", "symlog", constant=0.01)
REPLICATES = (
    "There are no draws: the replicates are 8 long blocks of consecutive evaluation windows, the "
    "same before and after the change. Bands: 95% t intervals over paired blocks, clipped near the "
    "outermost point. They reflect the evaluation text only, not variation between pre-training "
    "runs. Triangles at the top: non-finite or failed evaluations."
)
PLACES = {
    **CURVES,
    "heat_map": ("Heat map",),
    "relative_change": ("Size of the change",),
    "matrices": ("Matrices",),
}
MINIMA = (
    "Triangles pointing down: minimum with 95% bootstrap interval over blocks; filled if the rise "
    "after it is significant."
)


@dataclass(frozen=True)
class Levels:
    """The label that distinguishes lines: title, values, and that of the unperturbed model."""

    field: str
    title: str
    values: Sequence[float]
    unchanged: float

    @property
    def lines(self) -> LineEncoding:
        """A line per level."""
        return LineEncoding(self.field, self.title, list(self.values))

    @property
    def lines_and_base(self) -> LineEncoding:
        """A line per level, and a grey one for the unperturbed model."""
        every = sorted([self.unchanged, *self.values])
        return LineEncoding(self.field, self.title, every, neutral=[self.unchanged])


def figures(table: pd.DataFrame, verdicts: Sequence[Verdict], levels: Levels) -> dict[str, Figure]:
    """Return all figures by name, of the rows measured so far, with the minima of verdicts."""
    table = prepared(table, levels.field)
    after = table[table["gamma"] > 0]
    increase = with_intervals(
        _rows(after, levels, lambda loss, row: loss - row["base"]),
        table,
        levels.field,
        np.asarray,
        increase=True,
    )
    absolute = _absolute(table, verdicts, levels)
    every_figure = {
        **absolute,
        **_bits(absolute["loss"], table, levels),
        "loss_change": _curves(
            "Loss increase",
            "Loss after the change minus loss before, in nats. Comparable across checkpoints, "
            "unlike a change in perplexity.",
            NATS,
            levels.lines,
            increase,
            zero_line=True,
        ),
        "heat_map": _heat_map(after, increase, levels),
        "relative_change": _relative_change(after, levels),
        "matrices": _matrices(table, levels),
    }
    return placed(every_figure, PLACES)


def _rows(frame: pd.DataFrame, levels: Levels, transform: YTransform) -> list[dict[str, Any]]:
    by = [levels.field, "phase", "base"]
    return curve_rows(frame, "tokens", "nll_mean", by, facets=FACETS, transform=transform)


def _curves(
    title: str,
    caption: str,
    y: Axis,
    lines: LineEncoding,
    rows: list[dict[str, Any]],
    **options: Any,
) -> Figure:
    chart = charts.curves(
        TOKENS, y, lines, row="replicate", column="scheme", also=["phase"], **options
    )
    drawn = [row for row in rows if row["what"] != "draw"]  # each is its own mean
    return Figure(title, f"{caption} {REPLICATES}", chart, {"curves": drawn})


def _absolute(
    table: pd.DataFrame, verdicts: Sequence[Verdict], levels: Levels
) -> dict[str, Figure]:
    """Return the U-curve in perplexity and in nats."""
    rows = _with_base_in_every_panel(table)
    labels = (*FACETS, levels.field)

    def banded(transform: Any) -> list[dict[str, Any]]:
        means = _rows(rows, levels, lambda loss, _: transform(loss))
        means = with_intervals(means, table, levels.field, transform)
        return with_base_intervals(
            [{**row, "gamma": float(row.get(levels.field) != levels.unchanged)} for row in means],
            table,
            "gamma",
            transform,
        )

    return {
        "perplexity": _curves(
            "Perplexity after the change",
            "Perplexity (exp of the mean loss) against pre-training tokens, unperturbed model in "
            "grey. " + MINIMA,
            Axis("y", "perplexity", "log"),
            levels.lines_and_base,
            [*banded(np.exp), *minimum_rows(verdicts, labels, "tokens", np.exp)],
            metric="perplexity",
        ),
        "loss": _curves(
            "Loss after the change",
            f"Mean loss against pre-training tokens, unperturbed model in grey. {MINIMA}",
            Axis("y", "loss / nats"),
            levels.lines_and_base,
            [*banded(np.asarray), *minimum_rows(verdicts, labels, "tokens", float)],
        ),
    }


def _with_base_in_every_panel(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of all changes, with the unperturbed ones under every scheme."""
    import pandas as pd

    base, after = table[table["gamma"] == 0], table[table["gamma"] > 0]
    schemes = list(dict.fromkeys(after["scheme"]))
    frames = [*(base.assign(scheme=scheme) for scheme in schemes), after]
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else after


def _bits(loss: Figure, table: pd.DataFrame, levels: Levels) -> dict[str, Figure]:
    """Return the U-curve in bits per byte; none where the bytes of the text are unknown."""
    rows = in_bits_per_byte(loss.datasets["curves"], table, ("replicate", "tokens"))
    if not rows:
        return {}
    axis, title = Axis("y", "bits per byte"), "Bits per byte after the change"
    figure = _curves(title, f"{CAPTION} {MINIMA}", axis, levels.lines_and_base, rows)
    return {BITS_PER_BYTE: figure}


def _heat_map(after: pd.DataFrame, increase: list[dict[str, Any]], levels: Levels) -> Figure:
    """Return the loss increase of every checkpoint and level."""
    num = max(1, after["revision"].nunique())
    width = max(16, min(46, 860 // (num * max(1, after["scheme"].nunique()))))
    cells = [
        {**row, "y": row.get("y"), "label": row.get("label") or "…"}
        for row in increase
        if row["what"] in ("mean", "edge", "waiting")
    ]
    return Figure(
        "Loss increase by checkpoint and change",
        "Loss increase in nats. ± marks cells whose 95% interval over blocks of evaluation windows "
        "includes zero.",
        heat_map(TOKENS, levels.lines, NATS, row="replicate", column="scheme", width=width),
        {"cells": cells},
    )


def _relative_change(after: pd.DataFrame, levels: Levels) -> Figure:
    """Return how far the weights are moved: the size of the change that causes the increase."""
    rows = curve_rows(after, "tokens", "relative_change", [levels.field], facets=FACETS)
    lines, y = levels.lines, Axis("y", "relative change of the weights", "log")
    return Figure(
        "Relative change of the weights",
        "Root of the sum of squared changes over that of squared weights, of the matrices that "
        "are changed. Where it is flat, the change is as large for every checkpoint, relative to "
        "its weights. No intervals: the weights determine it.",
        charts.curves(TOKENS, y, lines, row="replicate", column="scheme"),
        {"curves": [row for row in rows if row["what"] != "draw"]},
    )


def _matrices(table: pd.DataFrame, levels: Levels) -> Figure:
    """Return which matrices were changed, and how, as a table."""
    return Figure(
        "What was changed",
        "Every matrix that was changed, at the last measured checkpoint, layers folded into * with "
        "their number: relative change of its weights · share of its weights that are 0 after it · "
        "weights that share a range or are compared with each other (and of the last block of a "
        "row, where that is shorter). Other tensors keep their weights.",
        text_table(Axis("matrix", ""), levels.lines, row="replicate", column="scheme", width=190),
        {"cells": matrix_rows(table, levels.field)},
    )
