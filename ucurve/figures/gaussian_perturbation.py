"""The figures of Gaussian perturbation: loss before and after noise on the weights, over tokens.

    figures(table, verdicts, gammas=[0.1, 0.2])       # {"perplexity": Figure, ...}

The table is that of `ucurve.analysis.gaussian_perturbation`; its verdicts hold the minima.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis.base_loss import with_base_intervals, with_text_blocks
from ucurve.analysis.bits_per_byte import CAPTION, in_bits_per_byte
from ucurve.analysis.curve_rows import YTransform, curve_rows, minimum_rows
from ucurve.analysis.gaussian_perturbation import perturbed, prepared
from ucurve.analysis.text_error import CAPTION as TEXT
from ucurve.figures import charts, layer_sensitivity, loss_increase_law
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.colours import LineEncoding
from ucurve.figures.grids import heat_map, text_table
from ucurve.figures.tabs import CURVES, placed
from ucurve.schemas.bits_per_byte import BITS_PER_BYTE
from ucurve.schemas.results import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

GROUPS = ("embedding", "attention", "mlp", "norm", "unembedding")
RARE_GROUPS = ("mixer", "other")  # shown where a model has them
FACETS = ("scale", "replicate")
CURVE = (*FACETS, "gamma", "group")
TOKENS = tokens_axis()
NATS = Axis("y", "loss increase / nats", "symlog", constant=0.01)
BANDS = (
    "Bands: 95% t intervals of the mean loss over noise seeds (unperturbed model: over paired "
    f"blocks of evaluation windows), clipped near the outermost point. {TEXT} Dots: individual "
    "noise seeds. Triangles at the top: non-finite or failed evaluations, whose mean is not drawn. "
    "Intervals reflect noise seeds only, not variation between pre-training runs."
)
PLACES = {
    **CURVES,
    "heat_map": ("Heat map",),
    "table": ("Table",),
    "weights": ("Weights",),
    "by_group": ("Tensor groups",),
    "by_layer": ("Layers", "heat map"),
    "by_layer_table": ("Layers", "table"),
}
MINIMA = (
    "Triangles pointing down: minimum with 95% bootstrap interval; filled if the rise after it "
    "is significant."
)


def figures(
    table: pd.DataFrame,
    verdicts: Sequence[Verdict],
    gammas: Sequence[float],
    group_gamma: float | None = None,
    layer_gamma: float | None = None,
    noise: str = "",
) -> dict[str, Figure]:
    """Return all figures by name, from the rows measured so far.

    verdicts: their minima are marked. group_gamma: also draw the loss increase by tensor group,
    measured at this gamma. layer_gamma: the same by layer. noise: which noise seeds were used, a
    sentence for captions of curves.
    """
    table = _with_blocks(prepared(table))
    base, after = table[table["gamma"] == 0], perturbed(table)
    scales = [scale for scale in dict.fromkeys(table["scale"]) if isinstance(scale, str)]
    before_and_after = _stacked([*(base.assign(scale=scale) for scale in scales), after])
    lines = LineEncoding("gamma", "γ", list(gammas))
    lines_and_base = LineEncoding("gamma", "γ", [0.0, *gammas], neutral=[0.0])
    losses = partial(_rows, before_and_after, blocks="loss_blocks")
    perplexity = with_base_intervals(losses(lambda loss, _: np.exp(loss)), table, "gamma", np.exp)
    loss = with_base_intervals(losses(lambda loss, _: loss), table, "gamma", np.asarray)
    increase = _rows(after, lambda loss, row: loss - row["base"])
    change = _rows(after, lambda loss, row: np.exp(loss) - np.exp(row["base"]))
    absolute = _absolute(perplexity, loss, verdicts, lines_and_base)
    result = {
        **absolute,
        **_bits(absolute["loss"], table, lines_and_base),
        **_changes(change, increase, lines),
        "heat_map": _heat_map(table, increase, lines, len(scales)),
        "table": Figure(
            "Perplexity before and after",
            "Perplexity (exp of the mean loss over noise seeds) of every checkpoint, unperturbed "
            "model first, ± half the 95% interval over noise seeds (unperturbed model: over "
            "evaluation windows).",
            text_table(TOKENS, lines_and_base, row="replicate", column="scale", width=92),
            {"cells": cells(perplexity, ".4g", spread=True)},
        ),
        "weights": _weights(base),
        **loss_increase_law.figures(verdicts, lines, row="replicate", column="scale"),
    }
    if group_gamma is not None:
        result["by_group"] = _by_group(table, group_gamma)
    if layer_gamma is not None:
        width = _cell_width(table, len(scales))
        result |= layer_sensitivity.figures(table, layer_gamma, width)
    return placed(_with_noise(result, noise) if noise else result, PLACES)


def _with_noise(figures: Mapping[str, Figure], noise: str) -> dict[str, Figure]:
    """Return the figures with the noise seeds in the captions that speak of their intervals."""
    return {
        name: replace(figure, caption=f"{figure.caption} {noise}")
        if figure.caption.endswith(BANDS)
        else figure
        for name, figure in figures.items()
    }


def _heat_map(
    table: pd.DataFrame, increase: list[dict[str, Any]], lines: LineEncoding, num_scales: int
) -> Figure:
    width = _cell_width(table, num_scales)
    return Figure(
        "Loss increase by checkpoint and noise",
        "Mean loss increase in nats. ± marks cells whose 95% interval over noise seeds includes "
        "zero.",
        heat_map(TOKENS, lines, NATS, row="replicate", column="scale", width=width),
        {"cells": cells(increase, ".3g")},
    )


def _cell_width(table: pd.DataFrame, num_scales: int) -> int:
    """Return the width of a cell of a heat map over tokens, in pixels."""
    num_checkpoints = table["tokens"].nunique() or 5  # of a table that has not arrived yet
    room = 860 // (num_checkpoints * max(1, num_scales))  # the page would cut off a long suite's
    return max(16, min(max(46, 180 // num_checkpoints), room))  # and titles need 180 pixels


def cells(
    rows: Sequence[Mapping[str, Any]], number: str, spread: bool = False
) -> list[dict[str, Any]]:
    """Return a row per checkpoint, gamma and facet with `y` and a `label`.

    The label is the mean (± half its interval), or why there is none.
    """
    by_place: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if row["what"] in ("mean", "waiting", "edge"):
            key = tuple(row[name] for name in ("tokens", "gamma", *FACETS))
            cell = by_place.setdefault(key, {**row, "y": None, "label": "…"})
            if row["what"] != "waiting":
                half = (
                    (row["high"] - row["low"]) / 2
                    if row.get("low") is not None and row.get("high") is not None
                    else None
                )
                text = row.get("label") or format(row["y"], number) + (
                    f" ±{half:.2g}" if spread and half is not None else ""
                )
                cell |= {
                    "y": row.get("y"),
                    "low": row.get("low"),
                    "high": row.get("high"),
                    "label": text,
                }
    return list(by_place.values())


def _with_blocks(table: pd.DataFrame) -> pd.DataFrame:
    return with_text_blocks(table, CURVE, table["gamma"] == 0)


def _rows(
    frame: pd.DataFrame,
    transform: YTransform,
    line: str = "gamma",
    blocks: str = "increase_blocks",
) -> list[dict[str, Any]]:
    by = [line, "phase", "base"]
    return curve_rows(
        frame, "tokens", "nll_mean", by, facets=FACETS, transform=transform, blocks=blocks
    )


def _curves(
    title: str,
    caption: str,
    y: Axis,
    lines: LineEncoding,
    rows: list[dict[str, Any]],
    **options: Any,
) -> Figure:
    chart = charts.curves(
        TOKENS, y, lines, row="replicate", column="scale", also=["phase"], **options
    )
    return Figure(title, f"{caption} {BANDS}", chart, {"curves": rows})


def _absolute(
    perplexity: list[dict[str, Any]],
    loss: list[dict[str, Any]],
    verdicts: Sequence[Verdict],
    lines: LineEncoding,
) -> dict[str, Figure]:
    """Return the U-curve in perplexity and in nats."""
    labels = (*FACETS, "gamma")
    return {
        "perplexity": _curves(
            "Perplexity after noise",
            "Perplexity (exp of the mean loss) against pre-training tokens, unperturbed model in "
            "grey. " + MINIMA,
            Axis("y", "perplexity", "log"),
            lines,
            [*perplexity, *minimum_rows(verdicts, labels, "tokens", np.exp)],
            metric="perplexity",
        ),
        "loss": _curves(
            "Loss after noise",
            f"Mean loss against pre-training tokens, unperturbed model in grey. {MINIMA}",
            Axis("y", "loss / nats"),
            lines,
            [*loss, *minimum_rows(verdicts, labels, "tokens", float)],
        ),
    }


def _bits(loss: Figure, table: pd.DataFrame, lines: LineEncoding) -> dict[str, Figure]:
    """Return the U-curve in bits per byte; none where the bytes of the text are unknown."""
    rows = in_bits_per_byte(loss.datasets["curves"], table, ("replicate", "tokens"))
    axis = Axis("y", "bits per byte")
    title = "Bits per byte after noise"
    return {BITS_PER_BYTE: _curves(title, f"{CAPTION} {MINIMA}", axis, lines, rows)} if rows else {}


def _changes(
    perplexity: list[dict[str, Any]], loss: list[dict[str, Any]], lines: LineEncoding
) -> dict[str, Figure]:
    """Return the figures of after minus before."""
    return {
        "perplexity_change": _curves(
            "Change in perplexity after noise",
            "Perplexity after noise minus perplexity before, against pre-training tokens.",
            Axis("y", "change in perplexity", "symlog"),
            lines,
            perplexity,
            zero_line=True,
            metric="perplexity_change",
        ),
        "loss_change": _curves(
            "Loss increase",
            "Loss after noise minus loss before, in nats. Comparable across checkpoints, unlike a "
            "change in perplexity.",
            NATS,
            lines,
            loss,
            zero_line=True,
        ),
    }


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the frames that have rows."""
    import pandas as pd

    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[-1]


def _weights(base: pd.DataFrame) -> Figure:
    """Return the size of the weights over tokens: noise in proportion to it changes with it."""
    sizes = [
        base.assign(group=group, rms=base[f"rms_{group}"])
        for group in (*GROUPS, *RARE_GROUPS)
        if f"rms_{group}" in base and len(base)
    ]
    legend = _legend(group for group in RARE_GROUPS if f"rms_{group}" in base)
    lines = LineEncoding("group", "tensor group", legend, ordered=False)
    rows = (
        curve_rows(_stacked(sizes), "tokens", "rms", ["group"], facets=["replicate"])
        if sizes
        else []
    )
    return Figure(
        "Weight magnitude",
        "Root mean square (RMS) of the unperturbed weights by tensor group. Where it grows, noise "
        "relative to current weights (current_std) grows with it.",
        charts.curves(TOKENS, Axis("y", "RMS of the weights", "log"), lines, row="replicate"),
        {"curves": [row for row in rows if row["what"] != "note"]},
    )


def _legend(groups: Iterable[str]) -> list[str]:
    """Return the groups of a legend, in an order that does not depend on what is measured."""
    present = set(groups)
    return [*GROUPS, *(group for group in RARE_GROUPS if group in present)]


def _by_group(table: pd.DataFrame, gamma: float) -> Figure:
    """Return the figure of which part of the model carries the sensitivity."""
    return _curves(
        "Loss increase by tensor group",
        f"Loss increase in nats when noise of gamma {gamma:g} is added to one tensor group only.",
        NATS,
        LineEncoding("group", "tensor group", _legend(table["group"]), ordered=False),
        _rows(
            table[(table["gamma"] > 0) & table["group"].isin([*GROUPS, *RARE_GROUPS])],
            lambda loss, row: loss - row["base"],
            "group",
        ),
        zero_line=True,
    )
