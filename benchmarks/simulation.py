"""Simulated losses: draws with noise shared over checkpoints; normal, heavy-tailed or skewed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis.conditions import Condition

Array = NDArray[np.float64]
SIZES = ((5, 5), (5, 8), (15, 8))


@dataclass(frozen=True)
class World:
    """The distribution of simulated losses; spread: std of a draw's own noise, per checkpoint."""

    num_checkpoints: int = 5
    num_draws: int = 5
    tails: str = "normal"
    rho: float = 0.0
    spread_ratio: float = 1.0  # of the last checkpoint over the first
    shared: float = 3.0  # std of the noise that a draw has at all checkpoints alike

    @property
    def error(self) -> float:
        """Standard error of the mean difference of two uncorrelated checkpoints, spread 1."""
        return float(np.sqrt(2 / self.num_draws))

    def noise(self, rng: np.random.Generator) -> Array:
        """Draw noise [num_checkpoints, num_draws] of mean zero."""
        own = standard(rng, self.tails, (self.num_checkpoints, self.num_draws))
        for c in range(1, self.num_checkpoints):
            own[c] = self.rho * own[c - 1] + np.sqrt(1 - self.rho**2) * own[c]
        spread = np.geomspace(1, self.spread_ratio, self.num_checkpoints)[:, None]
        return spread * own + self.shared * standard(rng, self.tails, (1, self.num_draws))

    def noises(self, num: int, rng: np.random.Generator) -> Array:
        """Draw noise [num, num_checkpoints, num_draws]: `num` tables at once."""
        own = standard(rng, self.tails, (num, self.num_checkpoints, self.num_draws))
        for c in range(1, self.num_checkpoints):
            own[:, c] = self.rho * own[:, c - 1] + np.sqrt(1 - self.rho**2) * own[:, c]
        own *= np.geomspace(1, self.spread_ratio, self.num_checkpoints)[:, None]
        return own + self.shared * standard(rng, self.tails, (num, 1, self.num_draws))

    def condition(
        self, truth: Array, rng: np.random.Generator, relevant: float = 1e-9
    ) -> Condition:
        """A condition whose base loss falls by 1 in total and is known to 0.01."""
        x = lengths(self.num_checkpoints)
        base = np.linspace(1, 0, self.num_checkpoints)[:, None] + 0.01 * rng.standard_normal(
            (self.num_checkpoints, 32)
        )
        return Condition(
            "", x, 10 + truth[:, None] + self.noise(rng), base, smallest_effect=relevant
        )


def lengths(num_checkpoints: int) -> Array:
    """Pre-training lengths, each twice the one before."""
    return np.geomspace(1.0, 2.0 ** (num_checkpoints - 1), num_checkpoints)


def standard(rng: np.random.Generator, tails: str, shape: tuple[int, ...]) -> Array:
    """Draw numbers of mean 0 and std 1."""
    if tails == "laplace":
        return rng.laplace(size=shape) / np.sqrt(2)
    if tails == "left weibull":
        return -standard(rng, "weibull", shape)
    if tails == "weibull":
        shape_parameter = 1.1  # skewness 1.7
        first, second = (math.gamma(1 + k / shape_parameter) for k in (1, 2))
        return (rng.weibull(shape_parameter, shape) - first) / np.sqrt(second - first**2)
    if tails == "heavy":
        return np.asarray(rng.standard_t(3, shape) / np.sqrt(3), dtype=np.float64)
    if tails == "skewed":
        sigma = 0.5
        values = np.exp(sigma * rng.standard_normal(shape))
        std = np.sqrt((np.exp(sigma**2) - 1) * np.exp(sigma**2))
        return np.asarray((values - np.exp(sigma**2 / 2)) / std, dtype=np.float64)
    return rng.standard_normal(shape)
