"""Sweeps of learning rates as arrays: the new task and retention of every checkpoint and seed.

    for sweep in sweeps(prepared(table), design, "full"):
        sweep.task, sweep.retention                # [num_checkpoints, num_rates, num_seeds]
        sweep.at_best_rate(sweep.retention)        # [num_checkpoints, num_seeds], paired draws

Only the complete rectangle counts: checkpoints with few measurements are left out, then seeds with
a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ucurve.analysis import fine_tuning as numbers
from ucurve.analysis import learning_rate_fits, text_error, tuned_rates
from ucurve.analysis.base_loss import base_blocks, broken_bases
from ucurve.analysis.fine_tuning import Design, Panel
from ucurve.analysis.learning_rate_fits import Best
from ucurve.analysis.statistics import Array

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sweep:
    """All learning rates of one method, for one pre-training seed on one evaluation set.

    x: tokens of each checkpoint. task: what a rate is chosen by, lower is better (loss, or error
    rate); inf at rates that are not to be chosen because a seed diverged there. retention: loss on
    pre-training text after fine-tuning. base: that before, in blocks of windows. blocks,
    task_blocks [num_checkpoints, num_rates, num_seeds, num_blocks]: both losses in blocks of their
    text; None where not stored. error: standard error of one task value from the validation data,
    for those without blocks. num_unused: measurements left out, and planned ones still to come.
    """

    panel: Panel
    x: Array
    task: Array
    retention: Array
    base: Array
    blocks: Array | None
    task_blocks: Array | None
    error: float = 0.0
    num_unused: int = 0
    broken: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def num_seeds(self) -> int:
        """Number of seeds that are measured everywhere."""
        return int(self.task.shape[2])

    @property
    def is_judged(self) -> bool:
        """Whether there are seeds enough, and a rate to choose at every checkpoint."""
        return (
            self.num_seeds >= tuned_rates.MIN_SEEDS and len(self.x) >= 2 and not self.without_a_rate
        )

    @property
    def without_a_rate(self) -> list[int]:
        """The checkpoints at which a seed diverged at every rate."""
        is_broken = ~np.isfinite(self.task[:, :, 0])  # for all seeds alike
        return [i for i, rates in enumerate(is_broken) if rates.all()]

    @cached_property
    def best(self) -> list[Best | None]:
        """The best rate of each checkpoint by all seeds, with its confidence set."""
        return [
            learning_rate_fits.best_rate(
                self.task[i],
                None if self.task_blocks is None else self.task_blocks[i],
                self.error,
            )
            for i in range(len(self.x))
        ]

    @property
    def candidates(self) -> list[tuple[int, ...]]:
        """The rates that may be the best at each checkpoint."""
        return [best.candidates if best else () for best in self.best]

    @cached_property
    def weights(self) -> Array:
        """The weights of the losses at the best rate."""
        return tuned_rates.cross_fitted(self.task)

    def at_best_rate(self, values: Array) -> Array:
        """Return values [num_checkpoints, num_rates, num_seeds, ...] at the best rate, as draws."""
        return tuned_rates.draws(self.weights, values)

    def at_rates(self, values: Array, rates: list[int]) -> Array:
        """Return values at one rate of each checkpoint."""
        return values[np.arange(len(rates)), rates]


def sweeps(table: pd.DataFrame, design: Design, method: str) -> list[Sweep]:
    """Return the sweep of every family of one method; the table is `fine_tuning.prepared`."""
    return [_sweep(table, rows, panel, design) for panel, rows in numbers.families(table, method)]


def _sweep(table: pd.DataFrame, rows: pd.DataFrame, panel: Panel, design: Design) -> Sweep:
    bases = table[(table["method"] == "base") & (table["evaluation"] == panel["evaluation"])]
    bases = bases[bases["replicate"] == panel["replicate"]].assign(gamma=0.0)
    placed = rows[rows["tokens"].notna()]
    x, task = numbers.grid(placed, numbers.badness(placed, design), design.rates)
    losses = placed["nll_mean"].to_numpy(dtype=float)
    diverged = (placed["state"] == "done").to_numpy() & ~np.isfinite(losses)
    losses = np.where(diverged, np.inf, losses)
    _, retention = numbers.grid(placed, losses, design.rates)
    of_text = [text_error.of_series(series) for series in placed["series"]]
    blocks = numbers.block_grid(placed, losses, of_text, design.rates)
    task_blocks = numbers.task_blocks(placed, design)
    measured = ~(np.isnan(task) | np.isnan(retention))
    base = base_blocks(bases, x) if len(x) else np.zeros((0, 1))
    broken = x[broken_bases(bases, x)]
    per_checkpoint = measured.sum(axis=(1, 2))
    usable = np.isfinite(base).all(axis=1) & (2 * per_checkpoint >= per_checkpoint.max(initial=0))
    complete = measured[usable].all(axis=(0, 1)) & usable.any()
    complete_cells = np.ix_(usable, np.ones(len(design.rates), dtype=bool), complete)
    task, retention = task[complete_cells], retention[complete_cells]
    finite = (np.isfinite(task) & np.isfinite(retention)).all(axis=2, keepdims=True)
    return Sweep(
        panel,
        x[usable],
        np.where(finite, task, np.inf),
        retention,
        base[usable],
        None if blocks is None else blocks[complete_cells],
        None if task_blocks is None else task_blocks[complete_cells],
        numbers.validation_error(placed, design),
        len(placed) - task.size - int(placed["tokens"].isin(broken).sum()),
        broken,
    )
