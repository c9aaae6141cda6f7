"""A small model of the built-in language, and fine-tunings of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.modeling.finetune import FinetuningConfig, FinetuningRun
from ucurve.modeling.finetuning_data import FinetuningTask, build_task, pretraining_rows
from ucurve.modeling.perturb import standard_normal
from ucurve.modeling.regularizers import fisher
from ucurve.modeling.synthetic_language import WORDS
from ucurve.registry.suites import Dataset
from ucurve.spec import PointInterrupted

RECIPE = FinetuningConfig(
    optimiser="adamw", learning_rate=3e-3, num_steps=12, batch_rows=4, schedule="linear",
    warmup=0.1, weight_decay=0.01,
    grad_clip=1.0, beta1=0.9, beta2=0.999, precision="fp32",
)  # fmt: skip
LANGUAGE = Dataset(
    name="redrawn",
    kind="language",
    parameters={"language": 1, "split": "train", "version": 1},
    sha256="a",
)
SENTIMENT = Dataset(
    name="s",
    kind="language",
    parameters={"language": 0, "task": "sentiment", "version": 1},
    sha256="b",
)
MUON: dict[str, Any] = {"protocol": "muon/1", "momentum": 0.95, "beta1": 0.9, "beta2": 0.999}
METHODS: list[dict[str, Any]] = [
    {"name": "full"},
    {"name": "head"},
    {"name": "lora", "rank": 2},
    {"name": "l2_sp", "strength": 0.1},
    {"name": "ewc", "strength": 10.0},
]


def model_of(seed: int = 0) -> GPTNeoXForCausalLM:
    """A small model of the built-in language, the same for every version of torch."""
    config = GPTNeoXConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.1, use_cache=False,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            parameter.data = 0.2 * standard_normal(seed, f"test/{name}", parameter.numel()).view_as(
                parameter
            )
    return model


def language_task(
    protocol: str = "language_modelling/1", dataset: Dataset = LANGUAGE
) -> FinetuningTask:
    return build_task({"protocol": protocol, "context": 32}, dataset, None, 64, Path())


def tuning_of(
    method: dict[str, Any],
    task: FinetuningTask | None = None,
    recipe: FinetuningConfig = RECIPE,
    seed: int = 0,
) -> FinetuningRun:
    base = model_of()
    rows = pretraining_rows(LANGUAGE, None, 3, 32, Path())
    return FinetuningRun(
        base,
        task or language_task(),
        recipe,
        method,
        seed,
        fisher(base, rows) if method["name"] == "ewc" else None,
    )


def quiet(done: float, total: float, **metrics: float) -> None: ...


class StopAt:
    """Progress that stops the run after so many steps."""

    def __init__(self, step: int) -> None:
        self.step, self.calls = step, []  # type: ignore[var-annotated]

    def __call__(self, done: float, total: float, **metrics: float) -> None:
        self.calls.append(done)
        if done >= self.step:
            raise PointInterrupted


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
