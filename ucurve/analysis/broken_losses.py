"""Losses that are not finite: where, how many, what cannot be said because of them, what to do.

    losses = rankable(condition.losses)          # no checkpoint with broken draws is a minimum
    obstacle("inflection point", planned, used)  # "1 of 8 losses at 4M tokens (nll_mean) is ..."

The mean over draws of which one is not finite is not finite either. At the last checkpoint that is
a rise; at the checkpoint that a claim measures from, it leaves nothing to measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import statistics
from ucurve.analysis.statistics import Array

if TYPE_CHECKING:
    from ucurve.analysis.conditions import Condition

FROM_MINIMUM = ("catastrophic overtraining", "inflection point")
FROM_FIRST = ("progressive sensitivity", "growth of sensitivity")
BASE_REMEDY = "Leave that checkpoint out, or measure its nll_mean again in fp32."


def rankable(losses: Array) -> Array:
    """Return finite losses: each that is not finite becomes the largest finite one.

    Checkpoints before the last with such a draw are raised above all others, all draws alike:
    their mean is infinite, so that nothing can rise from them.
    """
    capped = statistics.capped(losses)
    broken = np.asarray(~np.isfinite(losses).all(axis=1))
    broken[-1:] = False
    return capped + broken[:, None] * (2 * np.ptp(capped) + 1)


def broken_minimum(losses: Array) -> int | None:
    """Return the checkpoint before the last that is lowest by its finite draws, if some are not."""
    if len(losses) < 2:
        return None
    finite = np.isfinite(losses[:-1])
    sums = np.where(finite, losses[:-1], 0.0).sum(axis=1)
    means = np.where(finite.any(axis=1), sums / np.maximum(finite.sum(axis=1), 1), np.inf)
    lowest = int(means.argmin())
    return None if finite[lowest].all() else lowest


def obstacle(claim: str, planned: Condition, used: Condition) -> str:
    """Return why a claim has nothing to measure from, with the remedy; empty where it has."""
    if claim in FROM_FIRST:
        is_ratio = claim == "growth of sensitivity"
        if set(planned.broken) & ({0, len(planned.x) - 1} if is_ratio else {0}):
            return (
                "No ratio of the last to the first loss increase can be given."
                if is_ratio
                else "What the loss increase grows from cannot be said."
            )
        if len(used.losses) and not np.isfinite(used.losses[0]).all():
            unsaid = (
                "no ratio can be given"
                if is_ratio
                else "the loss increase would grow from a value that is not finite"
            )
            return f"{said(used, [0])}, so {unsaid}. {remedy(used.labels)}"
    if claim in FROM_MINIMUM and (lowest := broken_minimum(used.losses)) is not None:
        return (
            f"{said(used, [lowest])}; the others are the lowest before the last checkpoint, so "
            f"where the minimum is cannot be said. {remedy(used.labels)}"
        )
    return ""


def said(condition: Condition, places: Sequence[int]) -> str:
    """Return for people how many losses are not finite at these checkpoints, and in which field."""
    counts = [int((~np.isfinite(condition.losses[index])).sum()) for index in places]
    field = " (nll_mean)" if condition.unit == "nats" else ""
    where = " and ".join(
        f"{count} of {condition.losses.shape[1]} losses at {condition.at(index)}{field}"
        for count, index in zip(counts, places, strict=True)
    )
    return f"{where} {'is' if counts == [1] else 'are'} not finite"


def remedy(labels: Mapping[str, Any]) -> str:
    """Return what to do about draws that are not finite."""
    sizes = {"learning_rate": "learning rate", "gamma": "gamma"}
    size = next((words for name, words in sizes.items() if name in labels), "change")
    return f"Measure a smaller {size}, at which the models do not break."
