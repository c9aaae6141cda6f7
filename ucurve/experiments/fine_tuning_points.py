"""Points of fine-tuned models, the same in every experiment type that fine-tunes.

change = tuned_inputs(spec, checkpoint, sets, "full", 1e-3, seed=0)
tuned_point(base, datasets_of(sets, "full"), change, wise_ft(0.5))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ucurve.experiments.fine_tuning_datasets import FinetuningDatasets
from ucurve.experiments.fine_tuning_fields import TuningFields
from ucurve.experiments.fine_tuning_optimisers import STATE_BYTES, name_of
from ucurve.experiments.training_fields import Method
from ucurve.registry.suites import Checkpoint
from ucurve.spec import Point, Resources


def tuned_inputs(
    spec: TuningFields,
    checkpoint: Checkpoint,
    sets: FinetuningDatasets,
    method: Method,
    rate: float,
    seed: int,
) -> dict[str, Any]:
    """Return the inputs that determine fine-tuned weights, apart from the checkpoint."""
    return {
        "protocol": "fine_tune/1",
        "task": spec.task_inputs(checkpoint, sets.data),
        "recipe": spec.recipe_inputs(sets.data, rate),
        "method": spec.method_inputs(method, sets.ewc),
        "seed": seed,
    }


def wise_ft(alpha: float) -> dict[str, Any] | None:
    """Return the inputs of the model at `alpha` between a checkpoint and its fine-tuned weights."""
    return None if alpha == 1 else {"protocol": "wise_ft/1", "alpha": alpha}


def datasets_of(sets: FinetuningDatasets, method: Method) -> dict[str, Any]:
    """Return the artifacts that training needs."""
    data, ewc = (part and part.model_dump(mode="json") for part in (sets.data, sets.ewc))
    return {"data": data, "ewc": ewc if method == "ewc" else None}


def tuned_point(
    base: Point,
    datasets: Mapping[str, Any],
    change: Mapping[str, Any],
    interpolation: Mapping[str, Any] | None,
) -> Point:
    """Return the evaluation of an unperturbed model after a change, and interpolation of it."""
    method = change["method"]["name"]
    size = (base.artifacts["checkpoint"]["num_parameters"] or 0) / 1e9
    return replace(
        base,
        inputs={**base.inputs, "perturbation": {**change, "interpolation": interpolation}},
        artifacts={**base.artifacts, **datasets},
        resources=Resources(
            memory_gb=round(1.5 + _bytes_per_weight(method, name_of(change["recipe"])) * size, 2)
        ),
    )


def _bytes_per_weight(method: Method, optimiser: str) -> int:
    """Return the memory of fine-tuning: weights, a copy, gradients, what was trained, and state.

    Penalties keep the pre-trained weights, too.
    """
    return (28 if method in ("l2_sp", "ewc") else 16) + STATE_BYTES[optimiser]


def seconds_of(
    spec: TuningFields,
    checkpoint: Checkpoint,
    sets: FinetuningDatasets,
    base: Point,
    *,
    trains: bool,
) -> float:
    """Estimate the duration of a point.

    trains: the point is the first of its fine-tuned model. Later ones read the weights from disk
    and differ in estimated time only.
    """
    tokens, steps = spec.size_of(sets.data)
    step = 0.005 + 6 * (checkpoint.num_parameters or 0) * tokens / 5e10
    return 2 * base.estimated_seconds + trains * steps * step
