"""Simulated learning-rate sweeps whose best rates are known, for the verdicts at the best rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis.tuned_rate_sweeps import Sweep

Array = NDArray[np.float64]
NUM_CHECKPOINTS, NUM_BLOCKS = 5, 32
RATES = 3e-4 * 10 ** (np.arange(6) / 2)  # as the built-in preset: half decades


@dataclass(frozen=True)
class RateWorld:
    """Six rates at five checkpoints.

    gap: how much worse the second-best rate is, in nats; its forgetting is 4.5 times as much. own:
    std of the loss on the new task of one seed at one rate. correlation: of that with forgetting.
    growth: of forgetting at equal rates, in all. task_growth: of the loss on the new task, in nats.
    """

    gap: float = 0.05
    own: float = 0.01
    correlation: float = 0.0
    skewed: bool = False
    growth: float = 1.0
    task_growth: float = 0.0

    def means(self) -> tuple[Array, Array]:
        """Return the expected loss on the new task and forgetting [num_checkpoints, num_rates]."""
        curve = np.array([0.4, 0.2, 0.0, self.gap, 0.12, 0.25])
        task = 2 + np.tile(curve, (NUM_CHECKPOINTS, 1))
        task += np.linspace(0, self.task_growth, NUM_CHECKPOINTS)[:, None]
        size = np.geomspace(1, self.growth, NUM_CHECKPOINTS)[:, None]
        return task, 0.02 * size * np.sqrt(10.0) ** (1.3 * (np.arange(len(RATES)) - 2))

    def truth(self) -> tuple[Array, Array]:
        """Return the loss on the new task and forgetting at the best rate [num_checkpoints]."""
        task, forgetting = self.means()
        best = task.argmin(axis=1)
        rows = np.arange(NUM_CHECKPOINTS)
        return task[rows, best], forgetting[rows, best]

    def draw(self, rng: np.random.Generator, num_seeds: int) -> Sweep:
        """Draw a sweep whose base is exact and flat: retention is forgetting."""
        task, forgetting = self.means()
        shape = (*task.shape, num_seeds)
        own = _standard(rng, shape, self.skewed)
        other = _standard(rng, shape, self.skewed)
        relative = self.correlation * own + np.sqrt(1 - self.correlation**2) * other
        shared = rng.standard_normal((2, 1, 1, num_seeds))
        per_checkpoint = rng.standard_normal((NUM_CHECKPOINTS, 1, num_seeds))
        losses = task[:, :, None] + 0.05 * shared[0] + 0.02 * per_checkpoint + self.own * own
        forgotten = forgetting[:, :, None] * (1 + 0.1 * relative + 0.1 * shared[1])
        x = 1e6 * 2.0 ** np.arange(NUM_CHECKPOINTS)
        base = np.zeros((NUM_CHECKPOINTS, NUM_BLOCKS))
        panel = {"replicate": 0, "evaluation": "text"}
        return Sweep(panel, x, losses, forgotten, base, None, None)


def validated(
    rng: np.random.Generator, task: Array, own: float, text: float, share: float, num_seeds: int
) -> Array:
    """Draw losses of one checkpoint [num_rates, num_seeds, num_blocks] on a common validation set.

    own: std over seeds of a rate; text: standard error of one loss from the validation data, of
    which the share (of its variance) is the same at all rates.
    """
    scale = text * np.sqrt(NUM_BLOCKS)
    common, single = (
        rng.standard_normal(NUM_BLOCKS),
        rng.standard_normal((len(task), 1, NUM_BLOCKS)),
    )
    errors = scale * (np.sqrt(share) * common + np.sqrt(1 - share) * single)
    each = 0.3 * scale * rng.standard_normal((len(task), num_seeds, NUM_BLOCKS))
    seeds = own * rng.standard_normal((len(task), num_seeds, 1))
    shared = 0.05 * rng.standard_normal((1, num_seeds, 1))
    return np.asarray(task[:, None, None] + shared + seeds + errors + each, dtype=np.float64)


def _standard(rng: np.random.Generator, shape: tuple[int, ...], skewed: bool) -> Array:
    """Draw numbers of mean 0 and std 1; skewed: log-normal of skewness 1.75."""
    values = rng.standard_normal(shape)
    if not skewed:
        return values
    std = np.sqrt((np.exp(0.25) - 1) * np.exp(0.25))
    return np.asarray((np.exp(0.5 * values) - np.exp(0.125)) / std, dtype=np.float64)
