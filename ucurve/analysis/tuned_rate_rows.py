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
Estimate = tuple[float, float, float]  # with the limits of its band
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
        estimates = _task(sweep) if of == "task" else _forgetting(sweep)
        for tokens, (y, low, high) in zip(sweep.x, estimates, strict=True):
            place = {**sweep.panel, "tokens": float(tokens), "line": "best learning rate"}
            row = {"what": "mean", **place, "y": y, "low": low, "high": high}
            rows.append({**row, "num_draws": sweep.num_seeds})
    return rows


def _task(sweep: Sweep) -> list[Estimate]:
    """Return the new task's loss or error rate at the best rate of each checkpoint."""
    values, blocks = sweep.at_best_rate(sweep.task), None
    if sweep.task_blocks is not None:
        blocks = sweep.at_best_rate(sweep.task_blocks)
    return [
        _with_text(values[i], None if blocks is None else blocks[i]) for i in range(len(sweep.x))
    ]


def _forgetting(sweep: Sweep) -> list[Estimate]:
    """Return forgetting at the best rate of each checkpoint; limits hold all that may be it."""
    increase, blocks = sweep.retention - sweep.base.mean(axis=1)[:, None, None], None
    if sweep.blocks is not None and sweep.blocks.shape[3] == sweep.base.shape[1]:
        blocks = sweep.blocks - sweep.base[:, None, None, :]
    values = sweep.at_best_rate(increase)
    values_by_block = None if blocks is None else sweep.at_best_rate(blocks)
    estimates = []
    for i, rates in enumerate(sweep.candidates):
        of_text = None if values_by_block is None else values_by_block[i]
        y, low, high = _with_text(values[i], of_text)
        for rate in rates:
            of_text = None if blocks is None else blocks[i, rate]
            _, rate_low, rate_high = _with_text(increase[i, rate], of_text)
            low, high = min(low, rate_low), max(high, rate_high)
        estimates.append((y, low, high))
    return estimates


def _with_text(values: Array, blocks: Array | None) -> Estimate:
    """Return the mean over draws with an interval over draws and, where it is known, text."""
    mean, low, high = mean_interval(values)
    half = text_error.half_width(blocks)
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
