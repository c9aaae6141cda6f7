"""Losses at the best learning rate of each checkpoint, chosen on other seeds than they are read on.

    weights = cross_fitted(task)                   # task [num_checkpoints, num_rates, num_seeds]
    at_best_rate = draws(weights, retention)       # [num_checkpoints, num_seeds], as paired draws

A rate that is chosen and judged on the same seeds looks better than it is (winner's curse), and
its error over seeds does not know that other seeds might have chosen another. So the seeds are
split in halves; the rate with the lowest mean loss on the new task in one half is judged in the
other, both ways round, and the mean over all splits is taken, so that no split is chosen either
(above 10 seeds, 128 random ones). Both directions use every seed and are correlated; the error of
their mean comes from leaving out one seed at a time (jackknife), choices included, whose variance
is too large rather than too small (Efron and Stein 1981). `draws` are n numbers with that mean and
that error, so that every test over paired draws applies to them.

Where two rates are nearly equally good, all halves may agree by accident. So a verdict also looks
at the rates in the confidence set of the best one (`extreme`) that speak most against it.
Calibration: `benchmarks/rate_calibration.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np

from ucurve.analysis.statistics import Array

MIN_SEEDS = 3  # with two, leaving one out leaves no other to judge on
ALL_SPLITS = 10  # up to this many seeds, all splits in halves are used: 252
RANDOM_SPLITS = 128


@lru_cache(maxsize=64)
def halves(num_seeds: int) -> Array:
    """Return the splits [num_splits, num_seeds]: 1 for seeds that choose, 0 for seeds that judge.

    Every split is there both ways round.
    """
    half = num_seeds // 2
    if num_seeds <= ALL_SPLITS:
        sizes = sorted({half, num_seeds - half})
        chosen = [part for size in sizes for part in combinations(range(num_seeds), size)]
        splits = np.zeros((len(chosen), num_seeds))
        for split, part in zip(splits, chosen, strict=True):
            split[list(part)] = 1.0
        return splits
    generator = np.random.default_rng(0)
    splits = np.zeros((RANDOM_SPLITS, num_seeds))
    for split in splits:
        split[generator.permutation(num_seeds)[:half]] = 1.0
    return np.concatenate([splits, 1 - splits])


def cross_fitted(task: Array) -> Array:
    """Return weights of the losses at the best rate, for `draws`.

    task [num_checkpoints, num_rates, num_seeds]: what a rate is chosen by, lower is better; inf
    where a rate is not to be chosen, and at least one rate of each checkpoint is finite. At least
    MIN_SEEDS seeds. Returns [num_seeds, num_checkpoints, num_rates, num_seeds].
    """
    num_seeds = task.shape[2]
    assert num_seeds >= MIN_SEEDS, "leaving one seed out needs two others"
    every = _weights(task, halves(num_seeds))
    without = np.stack([_weights(task, halves(num_seeds), seed) for seed in range(num_seeds)])
    spread = np.sqrt(num_seeds * (num_seeds - 1))  # variance of the mean: sum of squared changes
    return np.asarray(every - spread * (without - without.mean(axis=0)), dtype=np.float64)


def _weights(task: Array, splits: Array, left_out: int | None = None) -> Array:
    """Return the weight of each loss in the mean over splits: [num_checkpoints, rates, seeds]."""
    judges = 1 - splits
    if left_out is not None:
        splits, judges = splits.copy(), judges.copy()
        splits[:, left_out] = judges[:, left_out] = 0.0
        usable = (splits.sum(axis=1) > 0) & (judges.sum(axis=1) > 0)
        splits, judges = splits[usable], judges[usable]
    usable = np.isfinite(task).all(axis=2, keepdims=True)
    sums = np.where(usable, task, 0.0) @ splits.T
    means = np.where(usable, sums / splits.sum(axis=1), np.inf)
    chosen = means.argmin(axis=1)  # [num_checkpoints, num_splits]
    is_chosen = chosen[:, None, :] == np.arange(task.shape[1])[None, :, None]
    shares = judges / judges.sum(axis=1, keepdims=True) / len(splits)
    return np.asarray(is_chosen.astype(float) @ shares, dtype=np.float64)


def draws(weights: Array, values: Array) -> Array:
    """Return values at the best rate as paired draws, [num_checkpoints, num_seeds, ...].

    values [num_checkpoints, num_rates, num_seeds, ...]; those of rates that are not to be chosen do
    not count. The mean over draws is the estimate, and their variance over num_seeds that of it.
    """
    finite = np.where(np.isfinite(values), values, 0.0)
    return np.asarray(np.einsum("dcrs,crs...->cd...", weights, finite), dtype=np.float64)


def extreme(
    values: Array, candidates: Sequence[Sequence[int]], highest: Sequence[bool]
) -> list[int]:
    """Return the rate of every checkpoint's confidence set with the highest or lowest mean value.

    values [num_checkpoints, num_rates, num_seeds].
    """
    means = values.mean(axis=2)
    return [
        (max if is_highest else min)(rates, key=lambda rate: float(mean[rate]))
        for mean, rates, is_highest in zip(means, candidates, highest, strict=True)
    ]
