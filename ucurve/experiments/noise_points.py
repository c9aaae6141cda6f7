"""Points of weight noise, the same in every experiment type that measures them.

change = noise_inputs(choice.inputs(None), "init_std", initial, gamma=0.1, seed=0)
noise_points.run(point, context)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from ucurve.experiments import evaluation_points
from ucurve.registry.suites import Checkpoint
from ucurve.spec import Context, Point, Result

if TYPE_CHECKING:
    import torch

Scale = Literal["current_std", "init_std", "matched_displacement"]
SCALES: tuple[Scale, ...] = ("current_std", "init_std", "matched_displacement")
MATCHED = "matched_displacement/1"  # one sigma for all matrices, from their length
PROTOCOLS = ("gaussian/1", "gaussian/2", MATCHED)
MOST_DRAWS = 1000  # also between the first noise seeds of two replicates, so that none is in both


def noise_inputs(
    tensors: Mapping[str, Any], scale: Scale, initial: Checkpoint | None, gamma: float, seed: int
) -> dict[str, Any]:
    """Return the inputs of noise on tensors. initial: the checkpoint of step 0, if there is one."""
    weights = initial.weights_sha256 if initial else "config"  # without them, the config's range
    if scale == "matched_displacement":  # gains are long and few: their length says nothing
        selected = {**tensors["tensors"], "which": "matrices"}
        tensors = {**tensors, "protocol": MATCHED, "tensors": selected}
    return {
        **tensors,
        "scale": scale,
        "initial": weights if scale == "init_std" else None,
        "gamma": gamma,
        "seed": seed,
    }


def run(point: Point, context: Context, initial_stds: Mapping[str, float] | None = None) -> Result:
    """Load the checkpoint, perturb and evaluate it, and restore its weights.

    initial_stds: standard deviations of the tensors at initialisation, where these are known
        without a checkpoint of step 0.
    """
    from ucurve.modeling import perturb

    change = point.inputs["perturbation"]
    if change is None:
        return evaluation_points.base(point, context)
    if change["protocol"] not in PROTOCOLS:
        raise ValueError(f"this release does not know {change['protocol']}: upgrade the worker")
    loaded = evaluation_points.loaded_for(point, context)
    evaluation_points.expect_stored_names(point, context, loaded)
    tensors = perturb.select(loaded.model, **change["tensors"])
    noise = context.cached(f"noise/{change['seed']}", lambda: perturb.Noise(change["seed"]))
    if change["scale"] == "init_std" and initial_stds is not None:
        stds = {name: initial_stds[name] for name in tensors}
    elif change["scale"] == "matched_displacement":
        stds = perturb.displacement_std(tensors, noise)
    else:
        start = point.artifacts["initial"]
        stds = stds_of(
            tensors,
            change["scale"],
            start and Checkpoint.model_validate(start),
            change["tensors"].get("names", "library"),
            context,
            loaded.model.config,
        )
    with perturb.perturbed(tensors, stds, change["gamma"], noise) as relative_change:
        measured = evaluation_points.measure(point, context, loaded)
    return Result(
        metrics={**measured.metrics, "relative_change": relative_change}, series=measured.series
    )


def stds_of(
    tensors: Mapping[str, torch.Tensor],
    scale: Scale,
    initial: Checkpoint | None,
    names: Literal["library", "canonical"],
    context: Context,
    config: Any,
) -> dict[str, float]:
    """Return sigma of every tensor by its own spread, now or at initialisation.

    initial: the checkpoint of step 0, None for the range in the config. names: of the tensors.
    """
    from ucurve.modeling import perturb
    from ucurve.modeling.checkpoints import load

    if scale == "current_std":
        return perturb.current_std(tensors)
    if initial is None:
        std = evaluation_points.initializer_std(config.to_dict())
        return perturb.init_std(tensors, std)
    stds = context.cached(
        f"init_std/{initial.weights_sha256}/{names}",
        lambda: perturb.current_std(
            perturb.select(
                load(initial, "cpu", context.artefacts, context.progress).model,
                names=names,
            )
        ),
    )
    return {name: stds[name] for name in tensors}
