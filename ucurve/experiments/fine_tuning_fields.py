"""Fields of fine-tuning specs, and the part of a measurement's inputs that each determines.

spec = parse({"kind": "fine_tuning", "learning_rates": [1e-3], "methods": ["full", "lora"]})
spec.method_inputs("lora", None)  # {"name": "lora", "rank": 4}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ucurve.experiments.checkpoint_selection import Choice
from ucurve.experiments.evaluation_fields import Stride, Window
from ucurve.experiments.fine_tuning_optimisers import default_rate, optimiser_inputs
from ucurve.experiments.training_fields import (
    BatchRows,
    Epochs,
    EwcData,
    Method,
    Momentum,
    Optimiser,
    Rate,
    Seed,
    Task,
    TrainingData,
    TrainingSteps,
)
from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.spec import ADVANCED, Looks, Name, Spec

Alpha = Annotated[float, Field(gt=0, lt=1)]


class TuningFields(Spec):
    """Fields of fine-tuning specs: checkpoints, task and data, recipe, evaluation sets."""

    suite: Name = Field(
        "tiny", description="Name of a registered suite.", json_schema_extra={"widget": "suite"}
    )
    checkpoints: Choice = Field(
        "all",
        description='"all", {"log_spaced": n} per pre-training seed, or a list of revisions. '
        "Step 0 only if listed.",
    )
    task: Task = Field(
        "language_modelling",
        description="language_modelling: every token of the new text, or the completions where "
        "examples have prompts. label_words: a prompt and one word per class, whose token is "
        "learned. linear_head: a new layer on the last token.",
    )
    data: TrainingData = None
    learning_rates: list[Rate] = Field(
        [],
        max_length=32,
        description="One: experiment II. Several: experiment III. Default: 0.00002, or 0.001 for "
        "language modelling; 0.3 of that for lion, 100 times that for sgd_momentum.",
    )
    methods: list[Method] = Field(
        ["full"],
        min_length=1,
        max_length=20,
        description="full: all weights are trained. head: the last layer only. lora: low-rank "
        "updates. l2_sp, ewc: all weights, with a penalty towards the pre-trained ones. Figures "
        "show the first; one figure compares all.",
    )
    alphas: list[Alpha] = Field(
        [],
        max_length=20,
        title="WiSE-FT alphas",
        description="Also evaluate (1 - alpha) pre-trained + alpha fine-tuned weights, for full.",
    )
    seeds: list[Seed] = Field(
        [0, 1, 2],
        min_length=1,
        max_length=64,
        description="Seeds of the order of the data, the same for all checkpoints. Three can "
        "confirm a rise at one learning rate; several rates, whose p values are corrected for "
        "multiple tests, need five. Verdicts at each checkpoint's best rate need three.",
    )
    evaluations: list[Name] = Field(
        [],
        max_length=8,
        title="Evaluation sets",
        description="Forgetting is measured on these. Default: that of the suite.",
    )
    epochs: Epochs = None
    steps: TrainingSteps = None
    batch_rows: BatchRows = None
    max_examples: int | None = Field(
        None,
        ge=1,
        title="Max train samples",
        description="A random subset, the same for all seeds. Default: all.",
    )
    optimiser: Optimiser = "adamw"
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="After the warm-up; linear and cosine end at zero."
    )
    warmup: float = Field(
        0.06, ge=0, lt=1, title="Warm-up ratio", description="Fraction of the steps; linear."
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Weight decay shrinks weights, which is itself a perturbation. Decoupled from "
        "the gradient, but for sgd and sgd_momentum, which add it to the gradient.",
    )
    grad_clip: float = Field(1.0, gt=0, le=1e6, description="Maximum norm of the gradient.")
    momentum: Momentum = None
    beta1: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="AdamW: decay of the mean of gradients.",
        json_schema_extra=ADVANCED,
    )
    beta2: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="AdamW: decay of the mean of squared gradients.",
        json_schema_extra=ADVANCED,
    )
    prompt: str = Field(
        "Review: {sentence}\\nSentiment:",
        max_length=10_000,
        description="{sentence} is the text, \\n a new line.",
        json_schema_extra=ADVANCED,
    )
    label_words: list[Name] = Field(
        ["negative", "positive"],
        max_length=1000,
        description="One per class, in the order of labels; a space is put before each.",
        json_schema_extra=ADVANCED,
    )
    context: int | None = Field(
        None,
        ge=8,
        le=1 << 16,
        json_schema_extra=ADVANCED,
        description="Tokens per row. Default: 64 for the built-in language, else 512.",
    )
    l2_sp_strength: float = Field(
        0.03,
        ge=0,
        title="L2-SP strength",
        description="Weight of the L2-SP penalty.",
        json_schema_extra=ADVANCED,
    )
    ewc_strength: float = Field(
        300.0,
        ge=0,
        title="EWC strength",
        description="Weight of the EWC penalty.",
        json_schema_extra=ADVANCED,
    )
    ewc_data: EwcData = None
    ewc_rows: int = Field(
        128,
        ge=1,
        le=100_000,
        title="EWC rows",
        description="Rows of pre-training text from which the Fisher information is estimated.",
        json_schema_extra=ADVANCED,
    )
    lora_rank: int = Field(
        4,
        ge=1,
        le=1024,
        title="LoRA rank",
        description="Rank of the LoRA updates.",
        json_schema_extra=ADVANCED,
    )
    window: Window = None
    stride: Stride = None
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Of training and evaluation; weights are always fp32."
    )
    looks: Looks = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.epochs and self.steps:
            raise ValueError("give epochs or steps, not both")
        if self.alphas and "full" not in self.methods:
            raise ValueError(
                'alphas interpolate the weights of method "full", which is not among the methods'
            )
        if "{sentence}" not in self.prompt:
            raise ValueError("prompt must contain {sentence}")
        if self.stride and self.window and self.stride > self.window:
            raise ValueError(
                "stride must not be larger than window, or tokens between windows would be skipped"
            )
        return self

    @property
    def rates(self) -> list[float]:
        """The learning rates in ascending order, without duplicates."""
        return sorted(set(self.learning_rates)) or [default_rate(self.optimiser, self.task)]

    @property
    def treatments(self) -> list[str]:
        """The methods, and the optimiser where it is not AdamW."""
        return [*self.methods, *([] if self.optimiser == "adamw" else [self.optimiser])]

    @property
    def rows(self) -> int:
        """Rows per training step."""
        return self.batch_rows or (16 if self.task == "language_modelling" else 32)

    def task_inputs(self, checkpoint: Checkpoint, data: Dataset) -> dict[str, Any]:
        """Return the inputs that determine the examples of the task."""
        language = data.kind == "language"
        words = self.task != "language_modelling" and not language
        return {
            "protocol": f"{self.task}/1",
            "data": data.sha256,
            "tokenizer": None if language else checkpoint.tokenizer_sha256,
            "context": self.context or (64 if language else 512),
            "prompt": self.prompt.replace("\\n", "\n") if words else None,
            "label_words": self.label_words if words else None,
            "max_examples": self.max_examples if data.kind == "examples" else None,
        }

    def recipe_inputs(self, data: Dataset, rate: float) -> dict[str, Any]:
        """Return the inputs that determine the training: optimiser, schedule, batch, length."""
        names = (
            "schedule",
            "warmup",
            "weight_decay",
            "grad_clip",
            "precision",
        )
        endless = data.kind == "language"
        length = (
            {"steps": self.steps or 200}
            if self.steps or endless
            else {"epochs": float(self.epochs or 3)}
        )
        return {
            **{name: getattr(self, name) for name in names},
            **optimiser_inputs(self.optimiser, self.momentum, (self.beta1, self.beta2)),
            "learning_rate": rate,
            "batch_rows": self.rows,
            "length": length,
        }

    def method_inputs(self, method: Method, ewc: Dataset | None) -> dict[str, Any]:
        """Return the inputs of a method: its name, and rank, strength or Fisher data."""
        if method == "lora":
            return {"name": method, "rank": self.lora_rank}
        if method == "l2_sp":
            return {"name": method, "strength": self.l2_sp_strength}
        if method == "ewc" and ewc is not None:
            fisher = {
                "data": ewc.sha256,
                "rows": self.ewc_rows,
                "context": self.context or (64 if ewc.kind == "language" else 512),
            }
            return {"name": method, "strength": self.ewc_strength, "fisher": fisher}
        return {"name": method}

    def size_of(self, data: Dataset) -> tuple[float, float]:
        """Estimate (tokens per step, steps), for durations only."""
        if data.kind == "examples":
            examples = min(int(data.parameters.get("train_rows", 1000)), self.max_examples or 10**9)
            return 40.0 * self.rows, self.steps or (self.epochs or 3) * examples / self.rows
        tokens = self.rows * (self.context or (64 if data.kind == "language" else 512))
        epoch = (data.size_bytes or 1e6) / 4.5 / tokens
        return tokens, self.steps or (
            200 if data.kind == "language" else (self.epochs or 3) * epoch
        )
