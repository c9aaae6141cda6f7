"""Run one point of pre-training: train a model, save its checkpoints, measure their held-out loss.

    result = pretraining_run.run(point, context)
    result.suite.checkpoints  # to register
    result.metrics["nll_mean"]  # held-out loss of the last checkpoint in nats per token

An interrupted run resumes from `context.state_dir`. Only running imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from ucurve.registry.suites import Checkpoint, Dataset, Location, Suite
from ucurve.spec import Context, Point, Result, canonical

if TYPE_CHECKING:
    from ucurve.modeling.pretrain import PretrainingRun
    from ucurve.modeling.token_data import TrainingData

# The held-out loss is stored as sums over 64 blocks of windows, for paired intervals.
NUM_BLOCKS = 64


def run(point: Point, context: Context) -> Result:
    """Train the model, save the checkpoints, and evaluate each on the held-out set."""
    from ucurve.modeling import pretrain

    inputs, data = point.inputs, data_of(point, context)
    recipe = pretrain.PretrainingConfig(vocab_size=data.vocab_size, **inputs["recipe"])
    training = pretrain.PretrainingRun(recipe, inputs["seed"], context.device)
    state = context.state_dir / "state.pt"
    keep = partial(_keep, training, data, point, context)
    training.run(data.batches, state, inputs["keep"], keep, context.progress)
    saved = [training.kept[step] for step in sorted(training.kept)]
    return Result(
        metrics=_metrics(training, saved),
        series=_series(training, saved),
        suite=_suite(point, saved) if saved else None,
    )


def data_of(point: Point, context: Context) -> TrainingData:
    """Return the training data and the held-out tokens of a point, cached between points."""
    inputs = point.inputs
    data_key = [inputs["data"], inputs["evaluation"], inputs["recipe"]["context"]]
    data: TrainingData = context.cached(canonical(data_key), lambda: _read(point, context))
    return data


def _suite(point: Point, saved: Sequence[Mapping[str, Any]]) -> Suite:
    """Return the suite of the saved checkpoints."""
    return Suite(
        name=point.inputs["suite"],
        recipe=point.artifacts["recipe"],
        evaluation=(point.artifacts["evaluation"] or {}).get("name"),
        checkpoints=[Checkpoint.model_validate(entry["checkpoint"]) for entry in saved],
    )


def _metrics(training: PretrainingRun, saved: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return training loss (mean of the last 100 steps), held-out loss in nats, and speed."""
    recent = training.losses[-100:]
    tokens = training.step * training.recipe.batch_rows * training.recipe.context
    num_tokens = sum(saved[-1]["num_tokens"]) if saved else 0
    return {
        "training_loss": math.nan if training.diverged else math.fsum(recent) / len(recent),
        "nll_mean": sum(saved[-1]["nll"]) / num_tokens if saved else math.nan,
        "num_tokens": num_tokens,
        "steps_done": training.step,
        "tokens_per_second": tokens / max(training.seconds, 1e-9),
    }


def _series(
    training: PretrainingRun, saved: Sequence[Mapping[str, Any]]
) -> dict[str, Sequence[float]]:
    """Return the training loss, and held-out loss and RMS of the weights by checkpoint."""
    from ucurve.modeling import pretrain

    rows = training.recipe.batch_rows * training.recipe.context
    tokens, losses = pretrain.loss_curve(training.losses, rows)
    return {
        "training_tokens": tokens,
        "training_loss": losses,
        "checkpoint_tokens": [entry["checkpoint"]["tokens"] for entry in saved],
        "checkpoint_nll": [nll for entry in saved for nll in entry["nll"]],
        "checkpoint_scored": [number for entry in saved for number in entry["num_tokens"]],
        **{
            f"rms_{group}": [entry["rms"][group] for entry in saved]
            for group in pretrain.rms(training.model)
        },
    }


def _read(point: Point, context: Context) -> TrainingData:
    """Read and tokenize the datasets of a point; train the tokenizer unless one is registered."""
    from ucurve.modeling import checkpoints, token_data

    artifacts, folder = point.artifacts, context.artefacts

    def alive() -> None:
        context.progress(0, point.inputs["recipe"]["num_steps"])

    dataset = Dataset.model_validate(artifacts["dataset"])
    evaluation = (
        Dataset.model_validate(artifacts["evaluation"]) if artifacts["evaluation"] else None
    )
    tokenizer = None
    if artifacts["tokenizer"]:
        tokenizer = checkpoints.read_tokenizer(
            token_data.text_file(Dataset.model_validate(artifacts["tokenizer"]), folder), folder
        )
    elif dataset.kind == "text":
        vocabulary = point.inputs["data"]["tokenizer"]["bpe"]
        tokenizer = token_data.train_tokenizer(dataset, vocabulary, folder, alive)
    return token_data.training_data(
        dataset, evaluation, tokenizer, point.inputs["recipe"]["context"], folder, alive
    )


def save_checkpoint(
    training: PretrainingRun, data: TrainingData, point: Point, context: Context, step: int
) -> Checkpoint:
    """Save the weights after `step` updates into the suite of the point."""
    from ucurve.modeling import checkpoints, pretrain

    recipe, suite = training.recipe, context.artefacts / "suites" / point.inputs["suite"]
    checkpoints.claim(suite, point.artifacts["recipe"])
    tokens = step * recipe.batch_rows * recipe.context
    revision = f"seed{training.seed}-step{step}-tokens{tokens}"
    saved = checkpoints.save(training.model, suite / revision, data.tokenizer)
    return Checkpoint(
        suite=suite.name,
        revision=revision,
        location=Location(scheme="artefacts", path=f"suites/{suite.name}/{revision}"),
        step=step,
        tokens=tokens,
        replicate=training.seed,
        phase=pretrain.phase(recipe, step),
        **asdict(saved),
    )


def _keep(
    training: PretrainingRun, data: TrainingData, point: Point, context: Context, step: int
) -> dict[str, Any]:
    """Save the checkpoint of a step and measure it.

    Returns plain JSON, which is part of the state to resume from. "nll" and "num_tokens" are sums
    over blocks of windows.
    """
    import numpy as np

    from ucurve.modeling import perplexity, pretrain

    checkpoint = save_checkpoint(training, data, point, context, step)
    losses = perplexity.window_losses(
        training.model,
        data.held_out,
        window=data.window,
        stride=data.window,
        progress=lambda done, total: context.progress(step, training.recipe.num_steps),
    )
    blocks = min(NUM_BLOCKS, len(losses.nll_sum))
    return {
        "checkpoint": checkpoint.model_dump(mode="json"),
        "rms": pretrain.rms(training.model),
        "nll": [float(block.sum()) for block in np.array_split(losses.nll_sum, blocks)],
        "num_tokens": [int(block.sum()) for block in np.array_split(losses.num_tokens, blocks)],
    }
