"""Points of lines with fine-tuned ends, which are measurements of fine-tuning experiments too.

tuned_lines(spec, base, checkpoint, sets)   # base: the unperturbed loss of the checkpoint

From a checkpoint to its fine-tuned weights the line is WiSE-FT; between two fine-tunings of it, the
rule of "interpolation/1".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ucurve.experiments.checkpoint_selection import bisection_levels
from ucurve.experiments.fine_tuning_datasets import FinetuningDatasets
from ucurve.experiments.fine_tuning_fields import TuningFields
from ucurve.experiments.fine_tuning_points import (
    datasets_of,
    seconds_of,
    tuned_inputs,
    tuned_point,
    wise_ft,
)
from ucurve.experiments.interpolation_fields import InterpolationFields
from ucurve.registry.suites import Checkpoint
from ucurve.spec import Point

NOT_TUNED = dict.fromkeys(("seed", "to_seed", "learning_rate", "method", "optimiser"))
RULES = {"arithmetic": "fp64", "buffers": "first"}


def tuned_lines(
    spec: InterpolationFields, base: Point, checkpoint: Checkpoint, sets: FinetuningDatasets
) -> Iterator[Point]:
    """Yield the fine-tuned ends of a checkpoint, then the lines to them and between them."""
    models = _FinetunedModels(spec, base, checkpoint, sets)
    seeds = list(dict.fromkeys(spec.tuning_seeds))
    for seed in seeds:
        yield models.at(seed, None, seed=seed)
    if "fine_tuning" in spec.pairs:
        for seed in seeds:
            yield from models.to_tuned(seed)
    if "fine_tuning_seeds" in spec.pairs:
        for first, second in itertools.pairwise(seeds):
            yield from models.between(first, second)


@dataclass(frozen=True)
class _FinetunedModels:
    """A checkpoint, fine-tuned with every seed."""

    spec: InterpolationFields
    base: Point
    checkpoint: Checkpoint
    sets: FinetuningDatasets

    def to_tuned(self, seed: int) -> Iterator[Point]:
        """Yield the line from the checkpoint to its fine-tuned weights."""
        between = f"before and after fine-tuning, {self._run}"
        for stage, t in self._positions():
            point = self.at(seed, wise_ft(t), **self._place(between, t), to_seed=seed)
            yield replace(point, priority_stage=stage)

    def between(self, first: int, second: int) -> Iterator[Point]:
        """Yield the line between the weights of two fine-tunings."""
        between = f"fine-tuning seeds {first} and {second}, {self._run}"
        for stage, t in self._positions():
            line = {
                "protocol": "interpolation/1",
                "second": self._change(second),
                "t": t,
                **RULES,
            }
            point = self.at(first, line, **self._place(between, t), seed=first, to_seed=second)
            yield replace(point, priority_stage=stage)

    def at(self, seed: int, interpolation: dict[str, Any] | None, /, **labels: Any) -> Point:
        """Return the point of a fine-tuned model, or of one on a line from or to it."""
        same = {
            "learning_rate": self._tuning.rates[0],
            "method": self.spec.method,
            "optimiser": self.spec.optimiser,
        }
        seconds = seconds_of(
            self._tuning, self.checkpoint, self.sets, self.base, trains=interpolation is None
        )
        return replace(
            tuned_point(self.base, self._datasets, self._change(seed), interpolation),
            labels={**self.base.labels, **same, **labels},
            estimated_seconds=seconds,
        )

    @cached_property
    def _tuning(self) -> TuningFields:
        return self.spec.tuning

    @cached_property
    def _datasets(self) -> dict[str, Any]:
        return datasets_of(self.sets, self.spec.method)

    @property
    def _run(self) -> str:
        return f"pre-training seed {self.checkpoint.replicate}"

    def _positions(self) -> Iterator[tuple[int, float]]:
        """Yield stage and t of the positions inside a line."""
        num = self.spec.steps
        for k, stage in enumerate(bisection_levels(num + 1)[1:-1], start=1):
            yield stage, k / num

    def _place(self, between: str, t: float) -> dict[str, Any]:
        to = {"to_revision": self.checkpoint.revision, "to_tokens": self.checkpoint.tokens}
        return {**to, "between": between, "t": t}

    def _change(self, seed: int) -> dict[str, Any]:
        tuning, method = self._tuning, self.spec.method
        return tuned_inputs(tuning, self.checkpoint, self.sets, method, tuning.rates[0], seed)
