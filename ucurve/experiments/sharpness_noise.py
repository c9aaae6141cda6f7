"""Points of Gaussian noise beside the sharpness of a checkpoint: those of noise experiments.

yield from noise_beside(base, choice, initial, gamma=0.05, seeds=range(8))

Both noise scales, and the unperturbed loss; a team that has measured them shares the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ucurve.experiments import evaluation_points
from ucurve.experiments.noise_points import Scale, noise_inputs
from ucurve.experiments.tensor_choice import TensorChoice
from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.spec import Point, Resources

SCALES: tuple[Scale, ...] = ("init_std", "current_std")


def unperturbed(checkpoint: Checkpoint, dataset: Dataset, window: int | None, stage: int) -> Point:
    """Return the loss of a checkpoint on the whole evaluation set, as all experiments have it."""
    size = (checkpoint.num_parameters or 0) / 1e9
    return Point(
        inputs={
            "checkpoint": evaluation_points.weights_of(checkpoint),
            "perturbation": None,
            **evaluation_points.evaluation_of(checkpoint, dataset, window, None, "fp32"),
        },
        labels={
            **evaluation_points.labels_of(checkpoint),
            "part": "unperturbed",
            "draw": None,
            "sigma": 0.0,
            "group": None,
            "scale": None,
        },
        artifacts={
            "checkpoint": checkpoint.model_dump(mode="json"),
            "initial": None,
            "dataset": dataset.model_dump(mode="json"),
        },
        affinity=checkpoint.weights_sha256 or "",
        priority_stage=stage,
        estimated_seconds=evaluation_points.seconds_of(checkpoint, dataset),
        resources=Resources(memory_gb=round(0.5 + 12 * size, 2)),
    )


def noise_beside(
    base: Point,
    choice: TensorChoice,
    initial: Checkpoint | None,
    gamma: float,
    seeds: Sequence[int],
) -> Iterator[Point]:
    """Yield the noise of every seed under both noise scales at one checkpoint."""
    tensors = choice.inputs(None)
    start: dict[str, Any] = {"initial": initial and initial.model_dump(mode="json")}
    for draw, seed in enumerate(seeds):
        for scale in SCALES:
            change = noise_inputs(tensors, scale, initial, gamma, seed)
            yield replace(
                base,
                inputs={**base.inputs, "perturbation": change},
                labels={**base.labels, "part": "gaussian", "draw": draw, "scale": scale},
                artifacts={**base.artifacts, **(start if scale == "init_std" else {})},
            )
