"""Simulated loss increases that follow a power law, with draws that all points share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from simulation import standard

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LawWorld:
    """c gamma^a tokens^b times draws of mean 1: a part of all points, of a checkpoint, of its own.

    spread: std of a draw relative to the law. bend: curvature over log gamma that is no law.
    """

    num_draws: int = 5
    tails: str = "normal"
    spread: float = 0.3
    a: float = 2.1
    b: float = 0.7
    level: float = 0.05
    bend: float = 0.0
    tokens: tuple[float, ...] = (9e5, 1.8e6, 3.6e6, 7.2e6, 1.44e7)
    gammas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)

    @property
    def truth(self) -> Array:
        """The mean loss increase, [num_checkpoints, num_gammas]; `level` at the centre."""
        x, size = np.log(self.tokens), np.log(self.gammas)
        x, size = x - x.mean(), size - size.mean()
        log = self.b * x[:, None] + self.a * size + self.bend * np.square(size)
        return np.asarray(self.level * np.exp(log), dtype=np.float64)

    @property
    def factor(self) -> float:
        """The factor c: the loss increase for gamma 1 and 1 token."""
        x, size = np.log(self.tokens).mean(), np.log(self.gammas).mean()
        return float(self.level * np.exp(-self.b * x - self.a * size))

    def draw(self, rng: np.random.Generator) -> Array:
        """Draw increases [num_checkpoints, num_gammas, num_draws]."""
        num_x, num_sizes = self.truth.shape
        shapes = ((1, self.num_draws), (num_x, self.num_draws), (num_x * num_sizes, self.num_draws))
        shared, of_checkpoint, own = (standard(rng, self.tails, shape) for shape in shapes)
        noise = np.sqrt(0.6) * shared[:, None] + np.sqrt(0.2) * of_checkpoint[:, None]
        noise = noise + np.sqrt(0.2) * own.reshape(num_x, num_sizes, self.num_draws)
        return np.asarray(self.truth[:, :, None] * (1 + self.spread * noise), dtype=np.float64)
