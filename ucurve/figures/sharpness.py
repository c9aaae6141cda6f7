"""The figures of sharpness: curvature over tokens, by tensor group, and the quadratic regime.

    figures(table, sigmas=[0.001, 0.01])

The table is that of `ucurve.analysis.sharpness`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis.curve_rows import clip_bands, curve_rows
from ucurve.analysis.sharpness import LIMIT, curves, departures, prepared, regimes
from ucurve.analysis.sharpness_rows import departure_rows, regime_rows
from ucurve.figures import charts
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.colours import LineEncoding
from ucurve.figures.grids import text_table
from ucurve.figures.sharpness_noise import noise_figures
from ucurve.figures.tabs import placed
from ucurve.formatting import compact
from ucurve.registry.tensors.tensor_selection import GROUPS
from ucurve.schemas.measurements import finite_or_none
from ucurve.schemas.results import Figure

if TYPE_CHECKING:
    import pandas as pd

TOKENS = tokens_axis()
BANDS = (
    "Bands: 95% t intervals over directions, clipped near the outermost point. They reflect the "
    "directions only, neither the evaluation text nor variation between pre-training runs."
)
WITH_TEXT = (
    "Bands: 95% intervals over directions and blocks of the evaluation text, clipped near the "
    "outermost point; over directions only where losses by block are not stored. They do not "
    "reflect variation between pre-training runs."
)
HESSIAN = "Hessian"
PLACES = {
    "curvature": ("Over tokens", "trace"),
    "noise_cost": ("Over tokens", "cost of noise"),
    "growth": ("Over tokens", "growth"),
    "top_eigenvalue": ("Over tokens", "largest eigenvalue"),
    "trace_by_group": ("Tensor groups", "over tokens"),
    "groups": ("Tensor groups", "table"),
    "departure": ("Quadratic regime", "departure"),
    "regime": ("Quadratic regime", "its end"),
    "noise_departure": ("Quadratic regime", "departure of noise"),
    "noise_regime": ("Quadratic regime", "its end for noise"),
}
DEPARTURE = f"{LIMIT:.0%}"
NUMBERS = ["weights", "trace", "share of the trace", "trace per weight", "largest eigenvalue"]


def figures(
    table: pd.DataFrame, sigmas: Sequence[float], gammas: Sequence[float] = ()
) -> dict[str, Figure]:
    """Return all figures by name, of the rows measured so far."""
    table = prepared(table)
    every_figure = {
        "curvature": _curvature(table, sigmas),
        **noise_figures(table, sigmas, gammas),
        "top_eigenvalue": _eigenvalues(table),
        "trace_by_group": _by_group(table),
        **({"departure": _departure(table, sigmas), "regime": _regime(table)} if sigmas else {}),
        "groups": _groups(table),
    }
    return placed(every_figure, PLACES)


def _name_of(sigma: float) -> str:
    return f"σ {sigma:g}"


def _curvature(table: pd.DataFrame, sigmas: Sequence[float]) -> Figure:
    """Return the trace, and the measured rise over sigma^2 / 2, over tokens."""
    probes = table[table["part"] == "trace"]
    noise = table[table["part"] == "noise"]
    rows = curve_rows(
        probes.assign(estimate=HESSIAN),
        "tokens",
        "trace",
        ["estimate"],
        facets=["replicate"],
        blocks="text_blocks",
    ) + curve_rows(
        noise.assign(estimate=[_name_of(sigma) for sigma in noise["sigma"]]),
        "tokens",
        "curvature",
        ["estimate"],
        facets=["replicate"],
        blocks="text_blocks",
    )
    lines = LineEncoding("estimate", "from", [HESSIAN, *map(_name_of, sigmas)], ordered=False)
    return Figure(
        "Sharpness over tokens",
        "Trace of the Hessian, and the measured loss increase over σ²/2 along the same directions, "
        "which is the trace as long as the loss is quadratic: the lines then coincide. "
        f"Noise of the same σ on every weight costs σ²/2 times this. {WITH_TEXT}",
        charts.curves(TOKENS, Axis("y", "curvature / nats", zero=True), lines, row="replicate"),
        {"curves": _one_note(rows)},
    )


def _one_note(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with the first note of each panel: notes have one place."""
    seen: set[Any] = set()
    notes_once = []
    for row in rows:
        if row["what"] == "note":
            if row.get("replicate") in seen:
                continue
            seen.add(row.get("replicate"))
        notes_once.append(row)
    return notes_once


def _eigenvalues(table: pd.DataFrame) -> Figure:
    """Return the largest eigenvalue over tokens, of all tensors and of each group."""
    values = table[table["part"] == "eigenvalue"]
    values = values.assign(part=values["group"].fillna("all"))
    rows = curve_rows(
        values, "tokens", "top_eigenvalue", ["part", "residual"], facets=["replicate"]
    )
    with_bounds = [
        {**row, "low": row["y"] - row["residual"], "high": row["y"] + row["residual"]}
        if row["what"] == "mean" and row.get("residual") is not None
        else row
        for row in rows
        if row["what"] != "draw"  # each is its own mean
    ]
    return Figure(
        "Largest eigenvalue over tokens",
        "Largest eigenvalue of the Hessian in all tensors, and in each group with all others "
        "fixed. Bands: the bound of Lanczos' method, within which an eigenvalue lies but for the "
        "rounding errors of fp32 products. Whether it grows is not tested: there are no draws.",
        charts.curves(
            TOKENS,
            Axis("y", "eigenvalue / nats", zero=True),
            _part_lines(["all", *_planned_groups(table)]),
            row="replicate",
        ),
        {"curves": clip_bands(with_bounds)},
    )


def _planned_groups(table: pd.DataFrame) -> list[str]:
    """Return the tensor groups of the plan; none where only all tensors are examined."""
    planned = set(table["group"].dropna())
    return [group for group in GROUPS if group in planned]


def _part_lines(parts: Sequence[str]) -> LineEncoding:
    return LineEncoding("part", "tensors", parts, ordered=False)


def _by_group(table: pd.DataFrame) -> Figure:
    """Return the parts of the trace over tokens."""
    import pandas as pd

    probes = table[table["part"] == "trace"]
    present = [group for group in GROUPS if f"trace_{group}" in probes]
    frames = [
        probes.assign(part=group, value_of=probes[f"trace_{group}"])
        for group in present
        if len(probes)
    ]
    rows = (
        curve_rows(pd.concat(frames), "tokens", "value_of", ["part"], facets=["replicate"])
        if frames
        else []
    )
    lines = _part_lines(_planned_groups(table) or list(GROUPS))
    return Figure(
        "Trace by tensor group",
        f"The diagonal blocks of the Hessian, whose traces add up to that of all. {BANDS}",
        charts.curves(TOKENS, Axis("y", "trace / nats", zero=True), lines, row="replicate"),
        {"curves": _one_note(rows)},
    )


def _departure(table: pd.DataFrame, sigmas: Sequence[float]) -> Figure:
    """Return how far the measured rise is from what the Hessian says, over tokens."""
    rows = [
        row
        for replicate, curve in curves(table).items()
        for row in departure_rows(departures(curve), "sigma", {"replicate": replicate})
    ]
    return Figure(
        "Departure from the quadratic",
        "Measured loss increase over σ²/2 · vᵀHv along the same directions, minus 1: where it is "
        f"0, the Hessian says it all. {BANDS}",
        charts.curves(
            TOKENS,
            Axis("y", "departure", "symlog", constant=0.01),
            LineEncoding("sigma", "σ", list(sigmas)),
            row="replicate",
            zero_line=True,
        ),
        {"curves": clip_bands(rows)},
    )


def _regime(table: pd.DataFrame) -> Figure:
    """Return the sigma at which the departure reaches the limit, over tokens."""
    rows = [
        row
        for replicate, curve in curves(table).items()
        for row in regime_rows(
            regimes(departures(curve)), "σ", {"replicate": replicate, "departure": DEPARTURE}
        )
    ]
    return Figure(
        "End of the quadratic regime",
        f"The σ at which the departure reaches {LIMIT:.0%}, by straight lines between logarithms. "
        "Bands: where the ends of the departure's 95% interval reach it; an end beyond the "
        "measured σ has none. Triangles at the top: not reached within them.",
        charts.curves(
            TOKENS,
            Axis("y", f"σ at a departure of {LIMIT:.0%}", "log"),
            LineEncoding("departure", "departure", [DEPARTURE], ordered=False),
            row="replicate",
        ),
        {"curves": clip_bands(rows)},
    )


def _groups(table: pd.DataFrame) -> Figure:
    """Return the numbers of every tensor group at the first and last checkpoint, as a table."""
    cells = [
        {"what": "cell", "replicate": replicate, "group": part, "number": name, "label": text}
        for replicate, rows in table[table["tokens"].notna()].groupby("replicate")
        for part, numbers in _numbers(rows[rows["state"] == "done"]).items()
        for name, text in numbers.items()
    ]
    return Figure(
        "Tensor groups",
        "At the first and the last measured checkpoint, on the same text; ± is the standard error "
        "over directions, and of an eigenvalue the bound of Lanczos' method. The traces of the "
        "groups add up to that of all; their eigenvalues do not.",
        text_table(
            Axis("group", ""),
            LineEncoding("number", "", NUMBERS, ordered=False),
            row="replicate",
            width=185,
        ),
        {"cells": cells},
    )


def _numbers(rows: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return the texts of every group of one pre-training run."""
    probes = rows[rows["part"] == "trace"]
    if probes.empty:
        return {}
    ends = sorted({probes["tokens"].min(), probes["tokens"].max()})
    by_part: dict[str, dict[str, str]] = {}
    groups = [g for g in GROUPS if f"trace_{g}" in rows and probes[f"trace_{g}"].notna().any()]
    num_all = sum(float(probes[f"weights_{group}"].iloc[0]) for group in groups)
    for part in ["all", *groups]:
        column = "trace" if part == "all" else f"trace_{part}"
        num = num_all if part == "all" else float(probes[f"weights_{part}"].iloc[0])
        texts: dict[str, list[str]] = {name: [] for name in NUMBERS[1:]}
        for at in ends:
            here = probes[probes["tokens"] == at]
            values = here[column].to_numpy(dtype=float)
            mean, trace = float(values.mean()), float(here["trace"].mean())
            texts["trace"].append(_with_error(mean, _standard_error(values)))
            texts["share of the trace"].append(f"{mean / trace:.0%}" if trace > 0 else "–")
            texts["trace per weight"].append(f"{mean / num:.2g}")
            texts["largest eigenvalue"] += _eigenvalue(rows, part, at)
        by_part[part] = {"weights": f"{num:,.0f}"} | {
            name: " → ".join(text) for name, text in texts.items() if text
        }
    return by_part


def _eigenvalue(rows: pd.DataFrame, part: str, at: float) -> list[str]:
    group = rows["group"].isna() if part == "all" else rows["group"] == part
    here = rows[(rows["part"] == "eigenvalue") & group & (rows["tokens"] == at)]
    return [
        _with_error(float(value), float(bound))
        for value, bound in zip(here["top_eigenvalue"], here["residual"], strict=True)
    ]


def _standard_error(values: Any) -> float:
    if len(values) < 2:
        return np.nan
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _with_error(value: float, error: float) -> str:
    text = _rounded(value, 3)
    return text if finite_or_none(error) is None else f"{text} ± {_rounded(error, 1)}"


def _rounded(value: float, digits: int) -> str:
    """Return "1,200" rather than "1.2e+03"."""
    return compact(float(f"{value:.{digits}g}"))
