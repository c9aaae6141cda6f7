"""The figures of interpolation: loss along the lines, barriers and averages over tokens.

figures(table)       # of `ucurve.analysis.interpolation`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import statistics
from ucurve.analysis.curve_rows import clip_bands, curve_rows
from ucurve.analysis.interpolation import Height, Line, barrier, gain, lines, prepared
from ucurve.figures.axes import Axis
from ucurve.figures.sweep_charts import along_lines, over_tokens
from ucurve.figures.tabs import placed
from ucurve.schemas.results import Figure

if TYPE_CHECKING:
    import pandas as pd

POSITION = Axis("t", "position t on the line, from the first end to the second")
HEIGHT = Axis("y", "barrier / nats", "symlog", constant=0.01)
GAIN = Axis("y", "better end minus average / nats", "symlog", constant=0.01)
EXCESS = Axis("y", "loss minus chord / nats", "symlog", constant=0.01)
REPLICATES = (
    "There are no draws: the replicates are 8 long blocks of consecutive evaluation windows, the "
    "same at every position, so that intervals reflect the evaluation text only. Triangles at the "
    "top: non-finite or failed evaluations."
)
LINES = "One line per pair of models, coloured by the tokens of its first end; the ends are "
LINE_LABELS = ["line", "revision", "to_revision", "tokens", "to_tokens", "seed", "to_seed"]
OWN_AXES = "Each panel has a y axis of its own."
PLACES = {
    "loss": ("Along the line", "loss"),
    "excess": ("Along the line", "loss minus chord"),
    "task_loss": ("Along the line", "new task"),
    "barrier": ("Over tokens", "barrier"),
    "average": ("Over tokens", "average of the weights"),
}


def figures(table: pd.DataFrame) -> dict[str, Figure]:
    """Return all figures by name, of the rows measured so far."""
    positions, every_line = prepared(table), lines(table)
    usable = [line for line in every_line if not line.obstacle]
    every_figure = {
        "loss": Figure(
            "Loss between two checkpoints",
            LINES
            + f"unperturbed or fine-tuned models. {OWN_AXES} Bands: 95% intervals for comparing "
            f"positions of one line. {REPLICATES}",
            along_lines(POSITION, Axis("y", "loss / nats")),
            {"curves": _rows(positions, every_line, "nll_mean", _losses)},
        ),
        "excess": Figure(
            "Loss minus the chord",
            LINES + "at zero. The chord (1 − t)·L(0) + t·L(1) is what a straight line of the loss "
            f"would give; above zero is a barrier, below zero a line through one basin. {OWN_AXES} "
            f"Bands: 95% t intervals over blocks. {REPLICATES}",
            along_lines(POSITION, EXCESS),
            {"curves": _rows(positions, every_line, "excess", _excess)},
        ),
        "barrier": Figure(
            "Barrier over tokens",
            "The highest loss inside a line minus the chord, at the tokens of the end that was "
            "trained longer. Below zero: no barrier. Bars: 95% intervals that hold although the "
            f"highest position was selected. {REPLICATES}",
            over_tokens(HEIGHT),
            {"curves": _heights(usable, barrier)},
        ),
        "average": Figure(
            "Average of the weights against the better end",
            "Loss of the better end minus that of the average of both (t = 0.5), at the tokens of "
            "the end that was trained longer. Above zero the average is better than both. Bars: "
            f"95% intervals. {REPLICATES}",
            over_tokens(GAIN),
            {"curves": _heights(usable, gain)},
        ),
    }
    return placed({**every_figure, **_task_loss(positions)}, PLACES)


def _task_loss(positions: pd.DataFrame) -> dict[str, Figure]:
    """Return the figure of the loss on the new task, where a fine-tuned model is measured."""
    if "id_loss" not in positions or positions["to_seed"].isna().all():
        return {}
    tuned = positions[positions["to_seed"].notna()]
    title = "Loss on the new task between two models"
    words = (
        LINES + f"fine-tuned models, or a checkpoint, whose loss on the new task is not measured. "
        f"{OWN_AXES} No bands: the error of the validation data is not drawn."
    )
    rows = curve_rows(tuned, "t", "id_loss", LINE_LABELS, facets=["between"])
    drawn = [
        row for row in rows if row["what"] == "mean" or (row["what"] == "edge" and row["t"] > 0)
    ]
    chart = along_lines(POSITION, Axis("y", "loss on the new task / nats"))
    return {"task_loss": Figure(title, words, chart, {"curves": drawn})}


# ---- rows


def _losses(line: Line) -> tuple[statistics.Array, statistics.Array, statistics.Array]:
    """Return positions and bands of the losses of a line."""
    return (line.t, *statistics.paired_intervals(line.losses))


def _excess(line: Line) -> tuple[statistics.Array, statistics.Array, statistics.Array]:
    """Return positions and bands of the losses inside a line minus the chord."""
    ends = np.array([statistics.mean_interval(row)[1:] for row in line.excess], dtype=float)
    low, high = ends.reshape(-1, 2).T
    return line.t[1:-1], low, high


def _rows(
    positions: pd.DataFrame,
    every_line: Sequence[Line],
    value: str,
    band_of: Callable[[Line], tuple[statistics.Array, ...]],
) -> list[dict[str, Any]]:
    """Return the rows of lines over t, with bands where every position of a line is measured."""
    table = positions.assign(excess=positions["nll_mean"] - positions["chord"])
    if value == "excess":
        ends = table["t"].isin((0.0, 1.0)) & table["excess"].notna()
        table.loc[ends, "excess"] = 0.0  # not what is left of rounding
    rows = curve_rows(table, "t", value, LINE_LABELS, facets=["between"])
    bands = {
        (number, float(at)): (float(low), float(high))
        for number, line in enumerate(every_line)
        if not line.obstacle
        for at, low, high in zip(*band_of(line), strict=True)
    }
    return clip_bands(
        [_with_band(row, bands) for row in rows if row["what"] != "draw"]  # each is its own mean
    )


def _with_band(
    row: dict[str, Any], bands: Mapping[tuple[int, float], tuple[float, float]]
) -> dict[str, Any]:
    place = row.get("line"), row.get("t")
    if row["what"] != "mean" or place not in bands:
        return row
    low, high = bands[place]  # type: ignore[index]  # it is in there
    return {**row, "low": low, "high": high}


def _heights(
    every_line: Sequence[Line], height_of: Callable[[Line], Height]
) -> list[dict[str, Any]]:
    """Return a row per line with its height, at the tokens of its second end."""
    rows = []
    for line in every_line:
        height = height_of(line)
        rows.append(
            {
                "what": "mean",
                "tokens": line.to_tokens,
                "between": line.between,
                "curve": line.curve,
                "revision": line.first,
                "to_revision": line.second,
                "seed": line.seed,
                "to_seed": line.to_seed,
                "t": height.t,
                "y": height.value,
                "low": height.interval[0],
                "high": height.interval[1],
            }
        )
    return clip_bands(rows)
