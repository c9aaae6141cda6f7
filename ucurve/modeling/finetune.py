"""Fine-tuning a checkpoint: seeded, interruptible at every step, resumable bit for bit on a CPU.

    run = FinetuningRun(model, task, config, method={"name": "full"}, seed=0)
    finetuned = run.run(folder, progress=context.progress)   # trained weights and a summary

All that the next step depends on is in `FinetuningRun` (trained tensors, optimiser, step); the
batch of a step comes from a counter-based generator, and dropout is off. So a run resumed from its
last saved state ends in the same weights as an uninterrupted one.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ucurve.modeling.batches import Batch, FinetunedModel, num_scored, token_loss
from ucurve.modeling.finetuned_weights import STATE, FinetunedWeights, TrainingSummary
from ucurve.modeling.finetuning_data import FinetuningTask
from ucurve.modeling.optimisers import build_optimiser
from ucurve.modeling.perplexity import Precision, autocast
from ucurve.modeling.perturb import standard_normal
from ucurve.modeling.pretrain import learning_rate, one_thread
from ucurve.modeling.regularizers import Regularizer
from ucurve.modeling.throughput import count_tokens
from ucurve.modeling.training_state import ResumableRun

SAVE_EVERY_SECONDS = 20.0
ADAPTER = "default"  # peft's name for its first adapter
FUSED = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")  # as peft has it
Progress = Callable[..., None]  # progress(done, total, loss=...), raises to stop


@dataclass(frozen=True)
class FinetuningConfig:
    """Hyperparameters of a fine-tuning run, named as in the spec."""

    optimiser: str | dict[str, Any]  # a name, or the protocol of one with its settings
    learning_rate: float
    num_steps: int
    batch_rows: int
    schedule: Literal["linear", "cosine", "constant"]
    warmup: float
    weight_decay: float
    grad_clip: float
    precision: Precision
    beta1: float = 0.9  # of AdamW only; other optimisers have theirs inside `optimiser`
    beta2: float = 0.999

    @property
    def warmup_steps(self) -> int:
        """Return the number of warm-up steps; `warmup` is a fraction of all steps."""
        return round(self.warmup * self.num_steps)


def num_steps_of(length: Mapping[str, float], task: FinetuningTask, batch_rows: int) -> int:
    """Return the optimiser steps of {"steps": n} or {"epochs": e}."""
    if "steps" in length:
        return int(length["steps"])
    assert task.num_examples is not None, "an endless task has no epochs: give steps"
    return max(1, round(length["epochs"] * math.ceil(task.num_examples / batch_rows)))


def build_head(model: PreTrainedModel, num_classes: int, seed: int) -> torch.nn.Linear | None:
    """Return a linear head drawn from N(0, initializer_range^2), None without classes.

    0.02 where the config has no field of this very name: stored numbers depend on it. The noise
    stream (seed, "head.weight") makes it the same on every device.
    """
    if not num_classes:
        return None
    size: int = model.config.hidden_size
    head = torch.nn.Linear(size, num_classes, bias=False, device=model.device)
    drawn = standard_normal(seed, "head.weight", num_classes * size, model.device).view(
        num_classes, size
    )
    head.weight.data = drawn * float(getattr(model.config, "initializer_range", 0.02))
    return head


def all_parameters(finetuned: FinetunedModel) -> dict[str, torch.nn.Parameter]:
    """Return all parameters by name, the linear head's as head.weight."""
    head = (
        {f"head.{name}": parameter for name, parameter in finetuned.head.named_parameters()}
        if finetuned.head
        else {}
    )
    return {**dict(finetuned.model.named_parameters()), **head}


def _head_ids(finetuned: FinetunedModel) -> set[int]:
    """Return the ids of the linear head's parameters: RWKV calls its own unembedding head, too."""
    return {id(p) for p in finetuned.head.parameters()} if finetuned.head else set()


class FinetuningRun(ResumableRun):
    """A fine-tuning run between two steps; `step` updates are done.

    Args:
        base: pre-trained model; it is copied.
        task: source of the batches.
        recipe: hyperparameters.
        method: {"name": "full" | "head" | "lora" | "l2_sp" | "ewc", ...}; "lora" has a "rank",
            "l2_sp" and "ewc" have a "strength".
        seed: of the batches and of new tensors.
        weights: for "ewc", the Fisher information by parameter name.
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
        self.finetuned = FinetunedModel(model, build_head(model, task.num_classes, seed))
        self.trained = _trained(self.finetuned, method, seed)
        self.penalty = None
        if "strength" in method:
            new = _head_ids(self.finetuned)
            anchor = {
                name: p.detach().clone() for name, p in self.trained.items() if id(p) not in new
            }
            self.penalty = Regularizer(method["strength"], anchor, weights)
        self.optimiser = build_optimiser(
            recipe.optimiser,
            self.trained,
            _hidden_matrices(model),
            rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            betas=(recipe.beta1, recipe.beta2),
        )
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.losses: list[float] = []
        self.diverged = False  # the last loss or gradient was not finite; no update follows

    def run(self, folder: Path, progress: Progress, total: float | None = None) -> FinetunedWeights:
        """Train until the last step, until divergence, or until `progress` raises.

        Args:
            folder: the state is resumed from here and saved here, every SAVE_EVERY_SECONDS and when
                `progress` raises.
            progress: called before each step with the steps done, `total` and the last loss.
            total: default the number of steps; larger when other work follows.
        """
        state = folder / STATE
        self.restore(state)
        saved = time.monotonic()
        with one_thread(self.finetuned.model.device.type):
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
            {} if self.diverged else merge_lora(self.finetuned, self.trained), facts
        )

    def _update(self, batch: Batch) -> None:
        """Make one optimiser step on the mean loss of the batch's scored tokens."""
        began = time.monotonic()
        model = self.finetuned.model
        num_tokens = int((batch.last + 1).sum())
        self.tokens += num_tokens
        count_tokens(num_tokens)
        batch, total = batch.to(model.device), num_scored(self.finetuned, batch)
        self.optimiser.zero_grad()
        loss = 0.0
        for part in batch.parts(_vocabulary(model)):
            with autocast(model, self.recipe.precision):
                share = token_loss(self.finetuned, part) / total
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
        """Return the trained tensors by name."""
        return self.trained


def _trained(
    finetuned: FinetunedModel, method: Mapping[str, Any], seed: int
) -> dict[str, torch.nn.Parameter]:
    """Freeze all parameters but those that the method trains; return these by name."""
    if method["name"] == "lora":
        _add_lora_(finetuned.model, method["rank"], seed)
        new = _head_ids(finetuned)
        chosen = {
            name: p
            for name, p in all_parameters(finetuned).items()
            if "lora_" in name or id(p) in new
        }
    elif method["name"] == "head":
        unembedding = finetuned.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        head_ids = {id(p) for p in (finetuned.head or unembedding).parameters()}
        chosen = {name: p for name, p in all_parameters(finetuned).items() if id(p) in head_ids}
    else:
        chosen = all_parameters(finetuned)
        if finetuned.head is not None:
            # The unembedding has no gradient here, but weight decay would still change it.
            unembedding = finetuned.model.get_output_embeddings()  # type: ignore[no-untyped-call]
            idle = {id(p) for p in unembedding.parameters()} - {
                id(p) for p in finetuned.model.base_model.parameters()
            }
            chosen = {name: p for name, p in chosen.items() if id(p) not in idle}
    for parameter in all_parameters(finetuned).values():
        parameter.requires_grad_(False)
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen


def _add_lora_(model: PreTrainedModel, rank: int, seed: int) -> None:
    """Add LoRA with alpha = 2 rank to every linear layer but the unembedding, in place.

    Hu et al. 2021.
    """
    import peft

    linear = _adapted_layers(model)
    transposed = any(isinstance(layer, Conv1D) for layer in linear.values())
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft sets fan_in_fan_out by layer where a model has both
        torch.manual_seed(seed)
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules=list(linear),
            fan_in_fan_out=transposed,
        )
        peft.inject_adapter_in_model(config, model)


def _linear_layers(model: PreTrainedModel) -> dict[str, torch.nn.Linear | Conv1D]:
    """Return the linear layers by name: all but the unembedding, GPT-2's Conv1D too."""
    last = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not last
    }


def _adapted_layers(model: PreTrainedModel) -> dict[str, torch.nn.Linear | Conv1D]:
    """Return the linear layers that LoRA adapts by name.

    State-space layers read the weights of `out_proj` (in a fused kernel) and `dt_proj` themselves,
    past any adapter.
    """
    unadapted = (".out_proj", ".dt_proj") if model.config.model_type in FUSED else ()
    layers = _linear_layers(model)
    return {name: module for name, module in layers.items() if not name.endswith(unadapted)}


def _hidden_matrices(model: PreTrainedModel) -> set[int]:
    """Return the ids of the weight matrices that Muon steps: no embedding, no new head.

    An unembedding that shares its tensor with the embedding is none of them either.
    """
    return {id(module.weight) for module in _linear_layers(model).values()}


def merge_lora(
    finetuned: FinetunedModel, trained: Mapping[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Return trained tensors by pre-trained name, with LoRA updates merged into matrices."""
    merge_lora = {name: p.detach() for name, p in trained.items() if "lora_" not in name}
    for name, module in finetuned.model.named_modules():
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer"):
            merge_lora[f"{name}.weight"] = (
                module.base_layer.weight + module.get_delta_weight(ADAPTER)
            ).detach()
    return merge_lora


def _vocabulary(model: PreTrainedModel) -> int:
    return int(model.config.vocab_size)
