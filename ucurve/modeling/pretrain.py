"""Pre-training GPT-NeoX: seeded, interruptible at every step, resumable bit for bit on a CPU.

    config = PretrainingConfig(hidden_size=32, ..., num_steps=437)
    run = PretrainingRun(config, seed=0, device="cpu")
    run.run(batches, folder / "state.pt", [0, 437], keep=save_checkpoint, progress=context.progress)

All that the next step depends on is in `PretrainingRun` (weights, optimiser, step); the batch of a
step comes from a counter-based generator. So a run resumed from its last saved state ends in the
same weights as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch.nn import functional
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from ucurve.modeling.perturb import group_of
from ucurve.modeling.throughput import count_tokens
from ucurve.modeling.token_data import Batches
from ucurve.modeling.training_state import ResumableRun

SAVE_EVERY_SECONDS = 20.0
Progress = Callable[..., None]  # progress(done, total, loss=...), raises to stop


@dataclass(frozen=True)
class PretrainingConfig:
    """Architecture and hyperparameters of a run, named as in the spec."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    context: int
    init_std: float
    num_steps: int
    batch_rows: int
    learning_rate: float
    warmup_steps: int
    schedule: Literal["cosine", "linear", "constant"]
    beta1: float
    beta2: float
    weight_decay: float
    decayed: Literal["matrices", "all"]
    grad_clip: float
    precision: Literal["fp32", "bf16"]


def build(recipe: PretrainingConfig, seed: int) -> GPTNeoXForCausalLM:
    """Return the model at initialisation, the same on every device.

    Matrices are drawn from N(0, init_std^2); gains are 1 and biases 0.
    """
    config = GPTNeoXConfig(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=recipe.context,
        initializer_range=recipe.init_std,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPTNeoXForCausalLM(config)


class Scheduled(Protocol):
    """The part of a configuration that the learning rate depends on."""

    @property
    def num_steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def schedule(self) -> Literal["cosine", "linear", "constant"]: ...


def learning_rate(recipe: Scheduled, step: int) -> float:
    """Return the rate of the update after `step` updates: linear warm-up, then the schedule.

    The schedule is constant, or a linear or cosine decay that ends at zero.
    """
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.num_steps - recipe.warmup_steps)
    factor = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[
        recipe.schedule
    ]
    return recipe.learning_rate * factor


def phase(recipe: PretrainingConfig, step: int) -> str:
    """Return the learning-rate phase after `step` updates, as named in `Checkpoint.phase`."""
    if step <= recipe.warmup_steps and step < recipe.num_steps:
        return "warm-up"
    if recipe.schedule == "constant":
        return "constant"
    return "annealed" if step == recipe.num_steps else "decay"


def rms(model: PreTrainedModel) -> dict[str, float]:
    """Return the root mean square of the weights by group.

    Groups are the parts of the transformer and "matrices" for all of them, "gains", and "biases".
    """
    sums: dict[str, tuple[float, int]] = {}
    for name, parameter in model.named_parameters():
        matrix = parameter.dim() > 1
        for group in (
            (group_of(name), "matrices")
            if matrix
            else ("biases" if name.endswith("bias") else "gains",)
        ):
            total, number = sums.get(group, (0.0, 0))
            sums[group] = (
                total + float(parameter.detach().double().square().sum()),
                number + parameter.numel(),
            )
    return {group: math.sqrt(total / number) for group, (total, number) in sums.items()}


class PretrainingRun(ResumableRun):
    """A pre-training run between two steps.

    `step` updates are done; losses[i] is the loss of the batch of update i in nats per token.
    """

    progress_names = ("step", "losses", "seconds", "kept", "diverged")

    def __init__(self, recipe: PretrainingConfig, seed: int, device: str) -> None:
        self.recipe, self.seed, self.device = recipe, seed, device
        self.model = build(recipe, seed).to(device)  # type: ignore[arg-type]
        self.model.train()
        matrices = [p for p in self.model.parameters() if p.dim() == 2]
        others = [p for p in self.model.parameters() if p.dim() != 2]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": recipe.weight_decay},
                {
                    "params": others,
                    "weight_decay": recipe.weight_decay if recipe.decayed == "all" else 0.0,
                },
            ],
            lr=recipe.learning_rate,
            betas=(recipe.beta1, recipe.beta2),
            fused=True,
        )
        self.step = 0
        self.losses: list[float] = []
        self.seconds = 0.0
        self.kept: dict[int, dict[str, Any]] = {}  # by step: the record that `keep` returned
        self.diverged = False  # the last loss or gradient was not finite; no update follows

    @property
    def last_step(self) -> int:
        """The number of updates after which the run ends."""
        return int(self.recipe.num_steps)

    def run(
        self,
        batches: Batches,
        state: Path,
        steps: Collection[int],
        keep: Callable[[int], dict[str, Any]],
        progress: Progress,
    ) -> None:
        """Train until the last step, until divergence, or until `progress` raises.

        Args:
            batches: source of the training batches.
            state: file to resume from if it exists, saved every SAVE_EVERY_SECONDS and when
                `progress` raises.
            steps: numbers of updates after which `keep` is called.
            keep: saves a checkpoint; the plain JSON that it returns becomes part of the state.
            progress: called before each step with the steps done, all steps and the last loss.
        """
        self.restore(state)
        saved = time.monotonic()
        with one_thread(self.device):
            while True:
                finished = self.step == self.last_step or self.diverged
                try:
                    if self.step in steps and self.step not in self.kept and not self.diverged:
                        self.kept[self.step] = keep(self.step)
                    progress(
                        self.step,
                        self.last_step,
                        **({"loss": self.losses[-1]} if self.losses else {}),
                    )
                except BaseException:
                    self.save(state)
                    raise
                if finished or time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    self.save(state)
                    saved = time.monotonic()
                if finished:
                    return
                self._update(self._rows(batches))

    def _rows(self, batches: Batches) -> torch.Tensor:
        """Return the rows of the next update, int64 [batch_rows, context]."""
        return batches(self.seed, self.step, self.recipe.batch_rows)

    def _update(self, rows: torch.Tensor) -> None:
        """Make one optimiser step on `rows`."""
        began = time.monotonic()
        count_tokens(rows.numel())
        loss = self._gradient(rows.to(self.device))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.grad_clip)
        self._set_rates()
        self.losses.append(loss.item())
        self.diverged = not (math.isfinite(self.losses[-1]) and bool(norm.isfinite()))
        if not self.diverged:
            self.optimiser.step()
            self.step += 1
        self.seconds += time.monotonic() - began

    def _gradient(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute the gradient of the loss of `rows`, and return the loss."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            logits = self.model(input_ids=rows).logits
        loss = functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), rows[:, 1:].flatten())
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _set_rates(self) -> None:
        """Give the optimiser the learning rate of the next update."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Return the model's tensors by name."""
        weights: Mapping[str, torch.Tensor] = self.model.state_dict()
        return weights


def loss_curve(
    losses: list[float], tokens_per_step: int, num_points: int = 80
) -> tuple[list[float], list[float]]:
    """Return last token and mean loss of at most `num_points` bins on a log axis of tokens."""
    edges = sorted(
        {0, *(round(len(losses) ** (k / (num_points - 1))) for k in range(num_points) if losses)}
    )
    means = [math.fsum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    return [float(edge * tokens_per_step) for edge in edges[1:]], means


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """Use one thread on a CPU, where sums depend on the number of threads, for equal bits."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
