"""Points of Gaussian noise beside the sharpness of a checkpoint: those of noise experiments.

yield from noise_beside(base, choice, initial, gammas=[0.05], seeds=range(8))

Both noise scales, and the unperturbed loss; a team that has measured them shares the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from ucurve.experiments import evaluation_points
from ucurve.experiments.noise_points import Scale, noise_inputs, stds_of
from ucurve.experiments.tensor_choice import TensorChoice
from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.spec import Context, Point, Resources

if TYPE_CHECKING:
    from ucurve.modeling.checkpoints import LoadedCheckpoint

SCALES: tuple[Scale, ...] = ("init_std", "current_std")
SCALED_TRACE = "hessian_trace/2"


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
            "gamma": 0.0,
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
    gammas: Sequence[float],
    seeds: Sequence[int],
) -> Iterator[Point]:
    """Yield the noise of every seed and gamma under both noise scales at one checkpoint."""
    tensors = choice.inputs(None)
    start: dict[str, Any] = {"initial": initial and initial.model_dump(mode="json")}
    for (draw, seed), gamma, scale in product(enumerate(seeds), gammas, SCALES):
        change = noise_inputs(tensors, scale, initial, gamma, seed)
        labels = {"part": "gaussian", "draw": draw, "scale": scale, "gamma": gamma}
        yield replace(
            base,
            inputs={**base.inputs, "perturbation": change},
            labels={**base.labels, **labels},
            artifacts={**base.artifacts, **(start if scale == "init_std" else {})},
        )


def scaled(probe: Point, initial: Checkpoint | None) -> Point:
    """Return a probe of the trace that also weighs every tensor by its sigma^2 of both scales.

    A protocol of its own: a worker of an earlier release would leave these numbers out.
    """
    weights = initial.weights_sha256 if initial else "config"
    change = {**probe.inputs["curvature"], "protocol": SCALED_TRACE, "initial": weights}
    start = initial and initial.model_dump(mode="json")
    return replace(
        probe,
        inputs={**probe.inputs, "curvature": change},
        artifacts={**probe.artifacts, "initial": start},
    )


def stds_by_scale(
    point: Point, context: Context, loaded: LoadedCheckpoint
) -> dict[str, dict[str, float]]:
    """Return sigma of every parameter by canonical name under both noise scales."""
    from ucurve.modeling import perturb

    tensors = perturb.select(loaded.model, names="canonical")
    start = point.artifacts["initial"]
    initial = start and Checkpoint.model_validate(start)
    config = loaded.model.config
    return {
        scale: stds_of(tensors, scale, initial, "canonical", context, config) for scale in SCALES
    }
