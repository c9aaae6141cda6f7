"""Fields of a pre-training recipe, shared by the experiment types that train from scratch.

    class Budgets(ModelFields): ...                     # fields of its own, in the middle
    class Pretraining(OptimiserFields, Budgets): ...

The form shows the fields of a type from its last base to its first.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ucurve.registry.suites import Dataset
from ucurve.spec import ADVANCED, Catalogue, Name, Resources, Spec, SpecError

Step = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**31)]
DATASET: dict[str, Any] = {"widget": "dataset"}  # the form offers the registered datasets
LANGUAGE_WORDS = 330  # vocabulary of the built-in language
# Fields that are part of a point's recipe under their own names.
RECIPE = (
    "hidden_size",
    "num_layers",
    "num_heads",
    "intermediate_size",
    "context",
    "batch_rows",
    "learning_rate",
    "warmup_steps",
    "schedule",
    "beta1",
    "beta2",
    "weight_decay",
    "decayed",
    "grad_clip",
    "precision",
)


class ModelFields(Spec):
    """Name of the suite, data, and architecture."""

    suite: str = Field(
        "my-suite",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$",
        max_length=80,
        description="Name of the new suite. Another name trains again, even with the same recipe.",
    )
    data: Name = Field(
        "tiny-language",
        title="Training dataset",
        description="The built-in language, or a registered text.",
        json_schema_extra=DATASET,
    )
    evaluation: Name | None = Field(
        None,
        title="Evaluation set",
        description="Held-out set for the loss of every checkpoint, and the evaluation set of the "
        "suite. Default: tiny-held-out for the language; for a text its last 1 %, which is never "
        "trained on.",
        json_schema_extra=DATASET,
    )
    vocabulary: int = Field(
        512,
        ge=257,
        le=65_536,
        title="Vocabulary size",
        description="Of the byte-level BPE tokenizer trained on the text; unused for the language.",
    )
    tokenizer: Name | None = Field(
        None,
        description="Name of a tokenizer.json registered as a text. Default: train one.",
    )
    hidden_size: int = Field(
        32, ge=8, le=4096, title="Hidden size", description="Width of the model."
    )
    num_layers: int = Field(
        2, ge=1, le=48, title="Layers", description="Number of transformer layers."
    )
    num_heads: int = Field(
        2, ge=1, le=64, title="Heads", description="hidden_size must be a multiple of 8 x heads."
    )
    intermediate_size: int = Field(
        128, ge=8, le=16_384, title="Intermediate size", description="Width of the MLP."
    )
    context: int = Field(64, ge=8, le=2048, description="Tokens per row.")
    init_std: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Of matrices. Default: sqrt(2/5d).",
        json_schema_extra=ADVANCED,
    )

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden_size % (8 * self.num_heads):
            raise ValueError(
                f"hidden_size must be a multiple of 8 x num_heads = {8 * self.num_heads}"
            )
        return self

    def num_parameters(self, vocab_size: int) -> int:
        """Return the parameters of the model; input and output embeddings are untied."""
        d, m = self.hidden_size, self.intermediate_size
        return 2 * vocab_size * d + self.num_layers * (4 * d * d + 2 * d * m + 9 * d + m) + 2 * d

    def datasets_of(self, catalogue: Catalogue) -> tuple[Dataset, Dataset | None, Dataset | None]:
        """Return training data, evaluation set and registered tokenizer, resolved and compatible.

        Raises SpecError naming the field.
        """
        data = catalogue.dataset(self.data, field="data")
        name = self.evaluation or ("tiny-held-out" if data.kind == "language" else None)
        evaluation = catalogue.dataset(name, field="evaluation") if name else None
        tokenizer = catalogue.dataset(self.tokenizer, field="tokenizer") if self.tokenizer else None
        for field, dataset in (
            ("data", data),
            ("evaluation", evaluation),
            ("tokenizer", tokenizer),
        ):
            if dataset is not None and (dataset.unresolved or not dataset.sha256):
                raise SpecError(
                    field,
                    f"{dataset.name} is not usable yet: "
                    f"{dataset.unresolved or 'its hash is unknown'}",
                )
        if evaluation is not None and evaluation.kind != data.kind:
            raise SpecError(
                "evaluation",
                f"{evaluation.name} is a {evaluation.kind}, which a model of {data.name} cannot "
                "read.",
            )
        for field, dataset, split in (
            ("data", data, "held-out"),
            ("evaluation", evaluation, "train"),
        ):
            if dataset is not None and dataset.parameters.get("split") == split:
                raise SpecError(
                    field,
                    f"{dataset.name} is the {split} split of the language: choose another dataset.",
                )
        if data.kind == "language" and self.tokenizer:
            raise SpecError(
                "tokenizer",
                "The built-in language is made of tokens and needs no tokenizer; leave this empty.",
            )
        if evaluation is not None and int(evaluation.parameters.get("context", 0)) > self.context:
            raise SpecError(
                "context",
                f"The rows of {evaluation.name} have {evaluation.parameters['context']} tokens.",
            )
        return data, evaluation, tokenizer


class OptimiserFields(ModelFields):
    """Batches, learning rate and optimiser."""

    batch_rows: int = Field(32, ge=1, le=4096, title="Batch size", description="Rows per step.")
    learning_rate: float = Field(5e-3, gt=0, le=1, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(100, ge=0, le=100_000, title="Warm-up steps", description="Linear.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="After the warm-up; cosine and linear end at zero."
    )
    beta1: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="AdamW: decay of the mean of gradients.",
        json_schema_extra=ADVANCED,
    )
    beta2: float = Field(
        0.95,
        ge=0,
        lt=1,
        description="AdamW: decay of the mean of squared gradients.",
        json_schema_extra=ADVANCED,
    )
    weight_decay: float = Field(
        0.15, ge=0, le=10, description="Of AdamW, multiplied by the learning rate."
    )
    decayed: Literal["matrices", "all"] = Field(
        "matrices",
        title="Weight-decay parameters",
        description="all: gains and biases too.",
    )
    grad_clip: float = Field(
        1.0, gt=0, le=1e6, description="Maximum norm of the gradient.", json_schema_extra=ADVANCED
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Of the forward pass.", json_schema_extra=ADVANCED
    )

    def tokens_per_step(self) -> int:
        """Return the tokens that an update reads."""
        return self.batch_rows * self.context

    def size_of(self, data: Dataset) -> int:
        """Return the parameters of a model of this data."""
        return self.num_parameters(LANGUAGE_WORDS if data.kind == "language" else self.vocabulary)

    def seconds_per_step(self, data: Dataset) -> float:
        """Estimate the seconds of an update on one CPU core."""
        return 0.005 + 6 * self.size_of(data) * self.tokens_per_step() / 5e10

    def resources_of(self, data: Dataset) -> Resources:
        """Return what training needs of its worker."""
        rows = self.tokens_per_step()
        activations = rows * (34 * self.hidden_size * self.num_layers + 12 * self.vocabulary)
        return Resources(memory_gb=round((16 * self.size_of(data) + activations) / 1e9, 2))

    def run_inputs(
        self,
        data: Dataset,
        evaluation: Dataset | None,
        tokenizer: Dataset | None,
        seed: int,
        num_steps: int,
    ) -> dict[str, Any]:
        """Return everything that determines the weights of one run and their held-out loss."""
        read = {"sha256": tokenizer.sha256} if tokenizer else {"bpe": self.vocabulary}
        return {
            "recipe": {
                **{name: getattr(self, name) for name in RECIPE},
                "init_std": self.init_std or math.sqrt(2 / (5 * self.hidden_size)),
                "num_steps": num_steps,
            },
            "data": {"sha256": data.sha256, "tokenizer": None if data.kind == "language" else read},
            "evaluation": {"sha256": evaluation.sha256} if evaluation else {"last": 0.01},
            "seed": seed,
        }
