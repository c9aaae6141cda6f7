"""Rows that the figures at the best learning rate draw, from sweeps.

best_rate_curve(sweeps, "retention")   # forgetting over tokens: means with bands, and notes
front_rows(sweeps, design.rates)       # Pareto fronts: "mean" for rates on it, "band" for steps
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ucurve.analysis import text_error
from ucurve.analysis.pareto_fronts import FrontBand, front_band
from ucurve.analysis.statistics import Array, mean_interval
from ucurve.analysis.tuned_rate_sweeps import Sweep
from ucurve.analysis.tuned_rates import MIN_SEEDS

Row = dict[str, Any]
MARGIN = 0.3  # of the fronts' range, to which bands are drawn beyond it


def best_rate_curve(sweeps: Sequence[Sweep], of: Literal["retention", "task"]) -> list[Row]:
    """Return forgetting, or what was learned, at the best rate over tokens.

    The band holds the 95% interval of the estimate; of retention, also those at all rates that may
    be the best.
    """
    rows: list[Row] = []
    for sweep in sweeps:
        if sweep.num_seeds < MIN_SEEDS and len(sweep.x):
            label = f"{sweep.num_seeds} of at least {MIN_SEEDS} seeds measured at every rate"
            rows.append({"what": "note", **sweep.panel, "label": label})
        if not sweep.is_judged:
            continue
        for i, tokens in enumerate(sweep.x):
            y, low, high = _estimate(sweep, i, of)
            place = {**sweep.panel, "tokens": float(tokens), "line": "best learning rate"}
            row = {"what": "mean", **place, "y": y, "low": low, "high": high}
            rows.append({**row, "num_draws": sweep.num_seeds})
    return rows


def _estimate(sweep: Sweep, i: int, of: str) -> tuple[float, float, float]:
    """Return the value at the best rate of checkpoint i with the limits of its band."""
    values = sweep.task if of == "task" else sweep.retention
    blocks = sweep.task_blocks if of == "task" else sweep.blocks
    base = 0.0 if of == "task" else float(sweep.base[i].mean())
    of_text = None if of == "task" else sweep.base[i]
    y, low, high = _with_text(
        sweep.at_best_rate(values)[i],
        None if blocks is None else sweep.at_best_rate(blocks)[i],
        of_text,
    )
    if of == "retention":
        for rate in sweep.candidates[i]:
            one = None if blocks is None else blocks[i, rate]
            _, rate_low, rate_high = _with_text(values[i, rate], one, of_text)
            low, high = min(low, rate_low), max(high, rate_high)
    return y - base, low - base, high - base


def _with_text(
    values: Array, blocks: Array | None, base: Array | None
) -> tuple[float, float, float]:
    """Return the mean over draws with an interval over draws and, where it is known, text."""
    mean, low, high = mean_interval(values)
    if blocks is None or (base is not None and len(base) != blocks.shape[1]):
        return mean, low, high
    half = text_error.half_width(blocks if base is None else blocks - base)
    return mean, *text_error.widened((low, high), mean, half)


def front_rows(sweeps: Sequence[Sweep], rates: Sequence[float]) -> list[Row]:
    """Return the Pareto fronts of all checkpoints, and their bands as steps within the picture."""
    rows: list[Row] = []
    for sweep in sweeps:
        bands = {
            float(tokens): band
            for tokens, task, retention in zip(sweep.x, sweep.task, sweep.retention, strict=True)
            if (band := front_band(task, retention))
        }
        if not bands:
            continue
        corners = np.array([place[1:] for band in bands.values() for place in band.front])
        margin = MARGIN * np.maximum(np.ptp(corners, axis=0), 1e-3)
        least, most = corners.min(axis=0) - margin, corners.max(axis=0) + margin
        for tokens, band in bands.items():
            place = {**sweep.panel, "tokens": tokens, "num_draws": sweep.num_seeds}
            rows += [
                {"what": "mean", **place, "learning_rate": rates[rate], "x": x, "y": y, "order": x}
                for rate, x, y in band.front
            ]
            _, _, y = band.front[-1]
            rows.append(
                {"what": "end", **place, "x": float(most[0]), "y": y, "order": float(most[0])}
            )
            rows += [{**row, **place} for row in _steps(band, least, most)]
    return rows


def _steps(band: FrontBand, least: Array, most: Array) -> list[Row]:
    """Return the steps of a band between two corners of the picture."""
    inside = [step for step in band.steps if least[0] <= step[0] < most[0]]
    before = [step for step in band.steps if step[0] < least[0]]
    steps = [(float(least[0]), *step[1:]) for step in before[-1:]] + inside
    if steps:
        steps.append((float(most[0]), *steps[-1][1:]))
    return [
        {
            "what": "band",
            "x": place,
            "order": place,
            "band_low": float(np.clip(low, least[1], most[1])),
            "band_high": float(np.clip(high, least[1], most[1])),
        }
        for place, low, high in steps
    ]
