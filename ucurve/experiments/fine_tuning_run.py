"""Run one point of fine-tuning: train or reuse the weights, measure the new task and forgetting.

    result = fine_tuning_run.run(point, context)
    result.metrics["nll_mean"]  # loss on pre-training text after fine-tuning, in nats per token
    result.metrics["id_loss"]  # loss on the new task

Only running imports torch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucurve.experiments import evaluation_points
from ucurve.registry.suites import Dataset
from ucurve.registry.tensors.config_words import context_length
from ucurve.spec import Context, Point, Result, canonical

if TYPE_CHECKING:
    import torch

    from ucurve.modeling.checkpoints import LoadedCheckpoint
    from ucurve.modeling.finetuned_weights import FinetunedWeights
    from ucurve.modeling.finetuning_data import FinetuningTask

EVALUATION_SHARE = 0.1  # duration of the evaluations relative to the training, for progress


def run(point: Point, context: Context) -> Result:
    """Fine-tune unless the weights are cached, and measure the new task and forgetting.

    The model has its pre-trained weights again afterwards.
    """
    change = point.inputs["perturbation"]
    if change is None:
        return evaluation_points.base(point, context)
    from ucurve.modeling.pretrain import loss_curve

    # The checkpoint first: the cache is small and drops the entry used longest ago.
    loaded = evaluation_points.loaded_for(point, context)
    task = _task(point, context, loaded)
    tuned = _finetuned(point, context, loaded, task)
    summary = tuned.summary
    steps, losses = loss_curve(summary.losses, 1)
    metrics: dict[str, float] = {
        "steps_done": summary.steps,
        "tokens_read": summary.tokens,
        "seconds_training": summary.seconds,
    }
    if summary.diverged:
        metrics |= {"nll_mean": math.nan, "id_loss": math.nan}
        return Result(metrics, {"training_steps": steps, "training_loss": losses})
    measured = _measure(point, context, loaded, task, tuned)
    return Result(
        metrics={**metrics, **measured.metrics},
        series={"training_steps": steps, "training_loss": losses, **measured.series},
    )


def _measure(
    point: Point,
    context: Context,
    loaded: LoadedCheckpoint,
    task: FinetuningTask,
    tuned: FinetunedWeights,
) -> Result:
    """Measure the new task, forgetting and the displacement of the weights."""
    from ucurve.modeling import finetune, finetuned_weights
    from ucurve.modeling.batches import FinetunedModel

    change, steps = point.inputs["perturbation"], tuned.summary.steps
    line = change["interpolation"] or {}
    head = finetune.build_head(loaded.model, task.num_classes, change["seed"])
    trainee = FinetunedModel(loaded.model, head)
    parameters, weights = finetune.all_parameters(trainee), tuned.weights
    metrics: dict[str, float] = {}
    if "second" in line:
        second = _finetuned(_other_end(point), context, loaded, task)
        if second.summary.diverged:
            return Result({"nll_mean": math.nan, "id_loss": math.nan})
        weights, metrics["distance"] = finetuned_weights.between(
            parameters, weights, second.weights, line
        )
    with finetuned_weights.interpolated(
        parameters, weights, line.get("alpha", 1.0), new_head=head is not None
    ) as displacement:
        learned = task.validate(
            trainee, point.inputs["precision"]["evaluation"], _progress(steps, context, 0.0)
        )
        forgotten = evaluation_points.measure(
            point, context, loaded, _progress(steps, context, 0.5)
        )
    metrics |= {**learned.metrics, **displacement, **forgotten.metrics}
    return Result(metrics, {**learned.series, **forgotten.series})


def _other_end(point: Point) -> Point:
    """Return the point of the second fine-tuning of a line."""
    second = point.inputs["perturbation"]["interpolation"]["second"]
    return replace(
        point, inputs={**point.inputs, "perturbation": {**second, "interpolation": None}}
    )


def _progress(steps: int, context: Context, start: float) -> Callable[[float, float], None]:
    """Return a progress callback for one half of the evaluations.

    start: share of the evaluations that is done before, 0 or 0.5.
    """
    return lambda done, total: context.progress(
        steps * (1 + EVALUATION_SHARE * (start + done / total / 2)), steps * (1 + EVALUATION_SHARE)
    )


def _task(point: Point, context: Context, loaded: LoadedCheckpoint) -> FinetuningTask:
    """Return the task with its data, cached between points."""
    from ucurve.modeling.finetuning_data import build_task

    inputs = point.inputs["perturbation"]["task"]
    data = Dataset.model_validate(point.artifacts["data"])
    limit = context_length(loaded.model.config.to_dict()) or inputs["context"]
    alive = lambda done, total: context.progress(0, 1)  # noqa: E731
    return context.cached(
        f"task/{canonical(inputs)}/{limit}",
        lambda: build_task(inputs, data, loaded.tokenizer, limit, context.artefacts, alive),
    )


def _finetuned(
    point: Point, context: Context, loaded: LoadedCheckpoint, task: FinetuningTask
) -> FinetunedWeights:
    """Return the fine-tuned weights: read from their folder, or trained now and written there.

    Other workers that need the same weights wait for the lock and read them.
    """
    from ucurve.modeling import finetune, finetuned_weights

    change, folder = point.inputs["perturbation"], _folder(point, context)
    with finetuned_weights.exclusive_lock(folder, lambda: context.progress(0, 1)):
        if (tuned := finetuned_weights.read(folder)) is not None:
            return tuned
        recipe = dict(change["recipe"])
        steps = finetune.num_steps_of(recipe.pop("length"), task, recipe["batch_rows"])
        fisher = _fisher(point, context, loaded) if "fisher" in change["method"] else None
        config = finetune.FinetuningConfig(num_steps=steps, **recipe)
        training = finetune.FinetuningRun(
            loaded.model, task, config, change["method"], change["seed"], fisher
        )
        tuned = training.run(folder, context.progress, steps * (1 + EVALUATION_SHARE))
        finetuned_weights.write(folder, tuned)
    return tuned


def _folder(point: Point, context: Context) -> Path:
    """Return the folder of the weights, named by the hash of everything that determines them."""
    change: dict[str, Any] = dict(point.inputs["perturbation"])
    del change["interpolation"]
    inputs = {"checkpoint": point.inputs["checkpoint"], **change}
    name = hashlib.sha256(canonical(inputs).encode()).hexdigest()
    repetition = f"-{point.repetition}" if point.repetition else ""
    return context.artefacts / "tuned" / (name + repetition)


def _fisher(point: Point, context: Context, loaded: LoadedCheckpoint) -> dict[str, torch.Tensor]:
    """Return the diagonal Fisher information of the checkpoint for EWC, cached between points."""
    from ucurve.modeling.finetuning_data import pretraining_rows
    from ucurve.modeling.regularizers import fisher

    inputs = point.inputs["perturbation"]["method"]["fisher"]
    data = Dataset.model_validate(point.artifacts["ewc"])
    rows = pretraining_rows(
        data, loaded.tokenizer, inputs["rows"], inputs["context"], context.artefacts
    )
    alive = lambda done, total: context.progress(0, 1)  # noqa: E731
    key = f"fisher/{canonical([point.inputs['checkpoint'], inputs])}"
    return context.cached(key, lambda: fisher(loaded.model, rows, alive))
