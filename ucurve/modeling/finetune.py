"""Fine-tuning a checkpoint: seeded, resumable to the bit on a CPU, stoppable within a step.

    tuning = Tuning(base, task, recipe, method={"name": "full"}, seed=0)
    tuned = tuning.run(folder, progress=context.progress)      # the weights that were trained, and what it was like

Whatever the next step depends on is in `Tuning` (trained tensors, optimiser, step); the data of a step comes from a counter,
and dropout is off. So a run continued from its last saved state ends in the same weights as an undisturbed one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from ucurve.modeling.batches import Batch, FinetunedModel, num_scored, token_loss
from ucurve.modeling.finetuned_weights import STATE, FinetunedWeights, TrainingSummary
from ucurve.modeling.finetuning_data import FinetuningTask
from ucurve.modeling.perplexity import Precision, autocast
from ucurve.modeling.perturb import standard_normal
from ucurve.modeling.pretrain import learning_rate, one_thread
from ucurve.modeling.regularizers import Regularizer
from ucurve.modeling.training_state import ResumableRun

SAVE_EVERY_SECONDS = 20.0
ADAPTER = "default"  # peft's name for its first one
Progress = Callable[..., None]  # progress(done, total, loss=...), raises to stop


@dataclass(frozen=True)
class FinetuningConfig:
    """How the weights are moved, whatever is learned; the fields of the spec under the same names."""

    optimiser: Literal["adamw", "sgd"]
    learning_rate: float
    num_steps: int
    batch_rows: int
    schedule: Literal["linear", "cosine", "constant"]
    warmup: float
    weight_decay: float
    grad_clip: float
    beta1: float
    beta2: float
    precision: Precision

    @property
    def warmup_steps(self) -> int:
        """Warm-up is a fraction of all steps; the first step is never at rate 0."""
        return round(self.warmup * self.num_steps)


def num_steps_of(length: Mapping[str, float], task: FinetuningTask, batch_rows: int) -> int:
    """Optimiser steps of {"steps": n} or {"epochs": e}; the last batch of an epoch may be short."""
    if "steps" in length:
        return int(length["steps"])
    assert task.num_examples is not None, "what is endless has no epochs"
    return max(1, round(length["epochs"] * math.ceil(task.num_examples / batch_rows)))


def build_head(model: PreTrainedModel, num_classes: int, seed: int) -> torch.nn.Linear | None:
    """A linear head at initialisation, N(0, the config's initialiser), the same on every device; None without classes."""
    if not num_classes:
        return None
    size: int = model.config.hidden_size
    head = torch.nn.Linear(size, num_classes, bias=False, device=model.device)
    drawn = standard_normal(seed, "head.weight", num_classes * size, model.device).view(
        num_classes, size
    )
    head.weight.data = drawn * float(getattr(model.config, "initializer_range", 0.02))
    return head


def all_parameters(trainee: FinetunedModel) -> dict[str, torch.nn.Parameter]:
    """All parameters by name, the head's as head.weight."""
    head = (
        {f"head.{name}": parameter for name, parameter in trainee.head.named_parameters()}
        if trainee.head
        else {}
    )
    return {**dict(trainee.model.named_parameters()), **head}


class FinetuningRun(ResumableRun):
    """A fine-tuning between two steps: `step` updates are done, `losses[i]` was the loss of the batch of update i.

    method: {"name": "full" | "head" | "lora" | "l2_sp" | "ewc", ...}; with "lora" its rank, with a penalty its strength.
    weights: of EWC, the Fisher information by parameter name.
    """

    progress_names = ("step", "tokens", "seconds", "losses", "diverged")

    def __init__(
        self,
        base: PreTrainedModel,
        task: FinetuningTask,
        recipe: FinetuningConfig,
        method: Mapping[str, Any],
        seed: int,
        weights: dict[str, torch.Tensor] | None = None,
    ) -> None:
        self.task, self.recipe, self.seed = task, recipe, seed
        model = copy.deepcopy(base)
        model.train(False)  # dropout would need its random state to resume
        self.trainee = FinetunedModel(model, build_head(model, task.num_classes, seed))
        self.trained = _trained(self.trainee, method, seed)
        self.penalty = None
        if "strength" in method:
            anchor = {
                name: p.detach().clone()
                for name, p in self.trained.items()
                if not name.startswith("head.")
            }
            self.penalty = Regularizer(method["strength"], anchor, weights)
        self.optimiser = _optimiser(self.trained, recipe)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.losses: list[float] = []
        self.diverged = False  # the last loss or its gradient was not finite: no update was made, no step follows

    def run(self, folder: Path, progress: Progress, total: float | None = None) -> FinetunedWeights:
        """Train to the end, or until the loss is not finite, or until `progress` raises.

        folder: where a saved state is continued from if it is there, and saved to, every few seconds and when `progress`
        raises. total: what progress counts to, if more follows.
        """
        state = folder / STATE
        self.restore(state)
        saved = time.monotonic()
        with one_thread(self.trainee.model.device.type):
            while True:
                try:
                    progress(
                        self.step,
                        total or self.recipe.num_steps,
                        **({"loss": self.losses[-1]} if self.losses else {}),
                    )
                except BaseException:
                    self.save(state)
                    raise
                if self.step == self.recipe.num_steps or self.diverged:
                    break
                if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    self.save(state)
                    saved = time.monotonic()
                self._update(self.task.batch(self.seed, self.step, self.recipe.batch_rows))
        facts = TrainingSummary(self.step, self.tokens, self.seconds, self.diverged, self.losses)
        return FinetunedWeights(
            {} if self.diverged else merge_lora(self.trainee, self.trained), facts
        )

    def _update(self, batch: Batch) -> None:
        """One optimiser step on the mean loss of the batch's scored tokens."""
        began = time.monotonic()
        model = self.trainee.model
        self.tokens += int((batch.last + 1).sum())
        batch, total = batch.to(model.device), num_scored(self.trainee, batch)
        self.optimiser.zero_grad()
        loss = 0.0
        for part in batch.parts(_vocabulary(model)):
            with autocast(model, self.recipe.precision):
                share = token_loss(self.trainee, part) / total
            share.backward()  # type: ignore[no-untyped-call]
            loss += share.item()
        if self.penalty is not None:
            self.penalty.add_gradient_(self.trained)
        norm = torch.nn.utils.clip_grad_norm_(list(self.trained.values()), self.recipe.grad_clip)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        self.losses.append(loss)
        self.diverged = not (math.isfinite(loss) and bool(norm.isfinite()))
        if not self.diverged:
            self.optimiser.step()
            self.step += 1
        self.seconds += time.monotonic() - began

    def weights(self) -> Mapping[str, torch.Tensor]:
        return self.trained


def _trained(
    trainee: FinetunedModel, method: Mapping[str, Any], seed: int
) -> dict[str, torch.nn.Parameter]:
    """The parameters that the method trains, by name; all others are frozen."""
    if method["name"] == "lora":
        _add_lora_(trainee.model, method["rank"], seed)
        chosen = {
            name: p
            for name, p in all_parameters(trainee).items()
            if "lora_" in name or name.startswith("head.")
        }
    elif method["name"] == "head":
        unembedding = trainee.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        head_ids = {id(p) for p in (trainee.head or unembedding).parameters()}
        chosen = {name: p for name, p in all_parameters(trainee).items() if id(p) in head_ids}
    else:
        chosen = all_parameters(trainee)
        if (
            trainee.head is not None
        ):  # the unembedding takes no part: without a gradient, decay alone would move it
            unembedding = trainee.model.get_output_embeddings()  # type: ignore[no-untyped-call]
            idle = {id(p) for p in unembedding.parameters()} - {
                id(p) for p in trainee.model.base_model.parameters()
            }
            chosen = {name: p for name, p in chosen.items() if id(p) not in idle}
    for parameter in all_parameters(trainee).values():
        parameter.requires_grad_(False)
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen


def _add_lora_(model: PreTrainedModel, rank: int, seed: int) -> None:
    """Low-rank updates, scaled by 2, on every linear layer but the unembedding (Hu et al. 2021); the model is changed in place."""
    import peft

    last = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not last
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(
            peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=linear), model
        )


def merge_lora(
    trainee: FinetunedModel, trained: Mapping[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """The trained tensors under the names they have in the base: low-rank updates are added to their matrices."""
    merge_lora = {name: p.detach() for name, p in trained.items() if "lora_" not in name}
    for name, module in trainee.model.named_modules():
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer"):
            merge_lora[f"{name}.weight"] = (
                module.base_layer.weight + module.get_delta_weight(ADAPTER)
            ).detach()
    return merge_lora


def _optimiser(
    trained: Mapping[str, torch.nn.Parameter], recipe: FinetuningConfig
) -> torch.optim.Optimizer:
    parameters = list(trained.values())
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
    betas = (recipe.beta1, recipe.beta2)
    return torch.optim.AdamW(
        parameters,
        lr=recipe.learning_rate,
        betas=betas,
        eps=1e-8,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def _vocabulary(model: PreTrainedModel) -> int:
    return int(model.config.vocab_size)
