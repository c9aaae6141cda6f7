"""Run one point of interventions: train a trunk and its branch, save it, measure it under noise.

    result = interventions_run.run(point, context)
    result.metrics["nll_mean"]                 # loss of the branch in nats per token
    result.series["noise_loss_init_std"]       # after noise: by gamma, then by noise seed

Branches of one trunk find its state in the artefacts, and a branch that was trained before, for
fewer noise seeds, is not trained again. Only running imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ucurve.experiments import evaluation_points, noise_points, pretraining_run
from ucurve.registry.artifacts import replacement
from ucurve.registry.suites import Checkpoint, Dataset, Suite
from ucurve.spec import Context, Point, Result, canonical

if TYPE_CHECKING:
    from ucurve.modeling.interventions import BranchRun, Trunk
    from ucurve.modeling.token_data import TrainingData

T = TypeVar("T")
KEPT_SECONDS = 7 * 24 * 3600.0  # states that were not used for a week are removed
PHASES = {"constant": "constant", "anneal": "annealed"}  # others end in that of the recipe


@dataclass
class Part:
    """The context of a part of a point: its progress is shown as that of all of it."""

    point_context: Context
    done: float
    share: float  # of the total, when the part is finished
    total: float

    def __post_init__(self) -> None:
        """Take device and folders from the point_context."""
        self.device: str = self.point_context.device
        self.state_dir: Path = self.point_context.state_dir
        self.artefacts: Path = self.point_context.artefacts

    def progress(self, done: float, total: float, **metrics: float) -> None:
        """Report progress of the point_context point."""
        self.point_context.progress(
            self.done + self.share * done / max(total, 1), self.total, **metrics
        )

    def cached(self, key: str, make: Callable[[], T]) -> T:
        """Return the value that the process has under this key, or make it."""
        return self.point_context.cached(key, make)


def run(point: Point, context: Context) -> Result:
    """Train the branch, save it, and measure it before and after noise."""
    from ucurve.modeling import interventions, pretrain

    data, branch = pretraining_run.data_of(point, context), point.inputs["branch"]
    recipe = pretrain.PretrainingConfig(vocab_size=data.vocab_size, **point.inputs["recipe"])
    config = interventions.BranchConfig(
        **asdict(recipe),
        branch_at=branch["at"],
        intervention=branch["intervention"],
        strength=branch["strength"],
    )
    training = interventions.BranchRun(config, point.inputs["seed"], context.device)
    changes = [change for _, _, change in _changes(point)]
    weight = max(1, round(len(data.held_out) / (3 * recipe.batch_rows * recipe.context)))
    total = training.last_step + weight * (1 + len(changes))
    _train(training, data, point, Part(context, 0, training.last_step, total))
    suite = _suite(point, training)
    if training.diverged:
        return Result(
            metrics=_metrics(training, {}), series=_training_series(training), suite=suite
        )
    parts = [
        Part(context, training.last_step + weight * k, weight, total)
        for k in range(1 + len(changes))
    ]
    checkpoint = Checkpoint.model_validate(training.kept[training.last_step])
    base, losses = _measured(point, checkpoint, training, parts)
    return Result(
        metrics=_metrics(training, base.metrics),
        series={
            **_training_series(training),
            evaluation_points.BLOCKS: base.series[evaluation_points.BLOCKS],
            **_noise_series(point, losses),
        },
        suite=suite,
    )


# ---- training


def _train(training: BranchRun, data: TrainingData, point: Point, context: Part) -> None:
    """Train the branch and save its checkpoints; resume what an earlier try left."""
    own, shared = context.state_dir / "branch.pt", _shared(context, "branch", _training(point))
    state = own if own.exists() or not shared.exists() else shared

    def keep(step: int) -> dict[str, Any]:
        if step:
            training.load_average()
        saved = pretraining_run.save_checkpoint(training, data, point, context.point_context, step)
        phase = PHASES.get(training.recipe.intervention) if step else None
        return saved.model_copy(update={"phase": phase or saved.phase}).model_dump(mode="json")

    if not state.exists():
        first = {step: keep(step) for step in point.inputs["keep"] if step == 0}
        training.take_over(_trunk(training, data, point, context))
        training.kept = first
        training.save(own)
        state = own
    training.run(data.batches, state, point.inputs["keep"], keep, context.progress)
    folder = context.artefacts / "suites" / point.inputs["suite"]
    for step, saved in training.kept.items():
        if step and not (folder / saved["revision"]).exists():
            training.kept[step] = keep(step)
    if state == own:
        _publish(own, shared)
    _remove_unused(shared.parent)


def _trunk(branch: BranchRun, data: TrainingData, point: Point, context: Part) -> Trunk:
    """Return the trunk of a branch, trained by the first that needs it."""
    from ucurve.modeling import interventions, pretrain

    inputs = {name: point.inputs[name] for name in ("recipe", "data", "seed")}
    at, own = point.inputs["branch"]["at"], context.state_dir / "trunk.pt"
    shared = _shared(context, "trunk", {**inputs, "at": at})
    recipe = pretrain.PretrainingConfig(vocab_size=data.vocab_size, **inputs["recipe"])

    def none(step: int) -> dict[str, Any]:
        raise AssertionError("a trunk saves no checkpoint")

    if not shared.exists():
        trunk = interventions.Trunk(recipe, branch.seed, context.device, at)

        def progress(done: float, total: float, **losses: float) -> None:
            context.progress(done, branch.last_step, **losses)

        trunk.run(data.batches, own, [], none, progress)
        _publish(own, shared)
    # Of two workers that trained it, both go on from the one that was first.
    trunk = interventions.Trunk(recipe, branch.seed, context.device, at)
    trunk.restore(shared)
    return trunk


def _training(point: Point) -> dict[str, Any]:
    """Return the inputs that determine the weights of the branch."""
    return {name: value for name, value in point.inputs.items() if name != "noise"}


def _shared(context: Part, name: str, inputs: Mapping[str, Any]) -> Path:
    """Return the file of a state that several points use; touch it, so that it stays."""
    digest = hashlib.sha256(canonical(inputs).encode()).hexdigest()
    path = context.artefacts / "state" / "branches" / f"{name}-{digest[:32]}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        os.utime(path)
    return path


def _publish(own: Path, shared: Path) -> None:
    """Share a finished state under its name; the first one stays."""
    with contextlib.suppress(FileExistsError):
        os.link(own, shared)


def _remove_unused(folder: Path) -> None:
    """Remove the states that were not used for a week."""
    for path in folder.glob("*.pt"):
        with contextlib.suppress(FileNotFoundError):  # another worker was faster
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()


# ---- measuring


def _changes(point: Point) -> list[tuple[str, float, dict[str, Any]]]:
    """Return noise scale, gamma and perturbation of every evaluation after noise."""
    noise = point.inputs["noise"]
    fixed = {name: noise[name] for name in ("protocol", "tensors")}
    return [
        (scale, gamma, {**fixed, "scale": scale, "gamma": gamma, "seed": seed})
        for scale in noise["scales"]
        for gamma in noise["gammas"]
        for seed in noise["seeds"]
    ]


def _measured(
    point: Point, checkpoint: Checkpoint, training: BranchRun, parts: list[Part]
) -> tuple[Result, list[float]]:
    """Return the unperturbed result, and the loss after every change, as a noise experiment does.

    Losses are kept in the state, so that an interrupted point continues with the next one.
    """
    from ucurve.modeling import perturb, pretrain

    dataset = Dataset.model_validate(point.artifacts["evaluation"])
    inputs = {
        "checkpoint": evaluation_points.weights_of(checkpoint),
        **evaluation_points.evaluation_of(checkpoint, dataset, None, None, "fp32"),
    }
    artifacts = {
        "checkpoint": checkpoint.model_dump(mode="json"),
        "initial": None,
        "dataset": dataset.model_dump(mode="json"),
    }
    at_start = pretrain.build(training.recipe, training.seed)
    stds = perturb.current_std(perturb.select(at_start))
    base = noise_points.run(Point({**inputs, "perturbation": None}, {}, artifacts), parts[0])
    file = parts[0].state_dir / "noise.json"
    losses: list[float] = json.loads(file.read_text()) if file.exists() else []
    changes = [change for _, _, change in _changes(point)]
    for change, part in list(zip(changes, parts[1:], strict=True))[len(losses) :]:
        result = noise_points.run(
            Point({**inputs, "perturbation": change}, {}, artifacts), part, stds
        )
        losses.append(result.metrics["nll_mean"])
        with replacement(file) as temporary:
            temporary.write_text(json.dumps(losses))
    return base, losses


def _noise_series(point: Point, losses: list[float]) -> dict[str, list[float]]:
    """Return gammas and noise seeds, and by noise scale the losses after noise."""
    noise, changes = point.inputs["noise"], _changes(point)
    return {
        "noise_gamma": list(noise["gammas"]),
        "noise_seed": [float(seed) for seed in noise["seeds"]],
        **{
            f"noise_loss_{name}": [
                loss for (scale, _, _), loss in zip(changes, losses, strict=True) if scale == name
            ]
            for name in noise["scales"]
        },
    }


def _training_series(training: BranchRun) -> dict[str, list[float]]:
    from ucurve.modeling import pretrain

    rows = training.recipe.batch_rows * training.recipe.context
    tokens, losses = pretrain.loss_curve(training.losses, rows)
    return {"training_tokens": tokens, "training_loss": losses}


def _metrics(training: BranchRun, base: Mapping[str, float]) -> dict[str, float]:
    """Return the loss and the size of the weights, the training loss, steps and speed."""
    recent = training.losses[-100:]
    tokens = training.step * training.recipe.batch_rows * training.recipe.context
    return {
        "nll_mean": math.nan,
        "num_tokens": 0.0,
        **base,
        "training_loss": math.nan if training.diverged else math.fsum(recent) / len(recent),
        "steps_done": training.step,
        "tokens_per_second": tokens / max(training.seconds, 1e-9),
    }


def _suite(point: Point, training: BranchRun) -> Suite | None:
    """Return the suite of the saved checkpoints."""
    saved = [Checkpoint.model_validate(training.kept[step]) for step in sorted(training.kept)]
    if not saved:
        return None
    return Suite(
        name=point.inputs["suite"],
        recipe=point.artifacts["recipe"],
        evaluation=(point.artifacts["evaluation"] or {}).get("name"),
        checkpoints=saved,
    )
