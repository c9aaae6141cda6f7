"""Pre-training: create a suite, as one annealed run per budget (the paper) or as a single run.

    {"kind": "pretraining", "suite": "mine", "steps": [437, 875, 1750], "seeds": [0]}

This spec trains three models of 46,592 parameters on the built-in language. It registers the suite
"mine" with a step-0 checkpoint and one checkpoint per budget, for all other experiment types.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ucurve.formatting import file_size
from ucurve.registry.suites import Dataset
from ucurve.spec import (
    ADVANCED,
    Catalogue,
    Context,
    Figure,
    Name,
    Point,
    Resources,
    Result,
    Spec,
    SpecError,
    TableRoles,
    Verdict,
    canonical,
)

if TYPE_CHECKING:
    import pandas as pd

Step = Annotated[int, Field(ge=1, le=1_000_000)]
DATASET: dict[str, Any] = {"widget": "dataset"}  # the form offers the registered datasets
Seed = Annotated[int, Field(ge=0, le=2**31)]
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


class Pretraining(Spec):
    """Create a suite: GPT-NeoX models trained from scratch, saved after different token counts.

    The most important choice is the protocol: separate runs, each annealed to zero, or one run
    whose checkpoints also differ in learning rate.
    """

    kind: Literal["pretraining"] = "pretraining"
    title: ClassVar[str] = "Pre-training"
    order: ClassVar[int] = 4
    name_template: ClassVar[str] = "{title} of {suite}"
    columns: ClassVar[TableRoles] = TableRoles(
        "tokens", metrics={"nll_mean": "loss / nats"}, fields=("steps", "seeds")
    )
    repeatable: ClassVar[bool] = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "like tiny: separate annealed runs, weight decay": {"seeds": [0, 1]},
        "like tiny-constant: one run, constant rate, no decay": {
            "protocol": "one_run",
            "schedule": "constant",
            "weight_decay": 0.0,
            "steps": [128, 256, 512, 1024, 2048, 4096, 8192, 14000],
        },
    }

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
    protocol: Literal["run_per_budget", "one_run"] = Field(
        "run_per_budget",
        description="One annealed run per number of steps (the paper), or one run with "
        "checkpoints.",
    )
    steps: list[Step] = Field(
        [437, 875, 1750, 3500, 7000],
        min_length=1,
        max_length=64,
        description="Ascending: the budgets of the runs, or the checkpoints of the one run.",
    )
    seeds: list[Seed] = Field(
        [0],
        min_length=1,
        max_length=16,
        description="Pre-training seeds of initial weights and order of the data; one replicate "
        "each.",
    )
    keep_initial: bool = Field(
        True,
        title="Keep step 0",
        description="Also save the weights before training; noise relative to initialisation "
        "(init_std) needs them.",
    )
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden_size % (8 * self.num_heads):
            raise ValueError(
                f"hidden_size must be a multiple of 8 x num_heads = {8 * self.num_heads}"
            )
        if any(b <= a for a, b in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError("steps must ascend")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds must differ")
        if self.warmup_steps >= self._runs[0][0]:
            raise ValueError(
                f"warmup_steps must be fewer than the {self._runs[0][0]} steps of the shortest run"
            )
        size = 4 * self.num_parameters(self.vocabulary) * len(self.seeds) * (len(self.steps) + 1)
        if size > 2e12:
            raise ValueError(
                f"the suite would take {file_size(size)}: use fewer checkpoints or a smaller model"
            )
        return self

    def num_parameters(self, vocab_size: int) -> int:
        """Return the parameters of the model; input and output embeddings are untied."""
        d, m = self.hidden_size, self.intermediate_size
        return 2 * vocab_size * d + self.num_layers * (4 * d * d + 2 * d * m + 9 * d + m) + 2 * d

    @property
    def _runs(self) -> list[tuple[int, list[int]]]:
        """(length, steps to save) of every run of a seed; the first one also saves step 0."""
        first = [0] * self.keep_initial
        if self.protocol == "one_run":
            return [(self.steps[-1], first + self.steps)]
        return [
            (self.steps[0], [*first, self.steps[0]]),
            *((step, [step]) for step in self.steps[1:]),
        ]

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield one point per seed and run, short runs first."""
        data, evaluation, tokenizer = self._datasets(catalogue)
        inputs = [
            self._inputs(data, evaluation, tokenizer, seed, *run)
            for seed in self.seeds
            for run in self._runs
        ]
        recipe = hashlib.sha256(canonical(inputs).encode()).hexdigest()
        existing = catalogue.find_suite(self.suite)
        if existing is not None and existing.recipe != recipe:
            raise SpecError(
                "suite",
                f"A suite named {self.suite!r} exists with another recipe: choose another name.",
            )
        named = {"dataset": data, "evaluation": evaluation, "tokenizer": tokenizer}
        source = {
            name: dataset and dataset.model_dump(mode="json") for name, dataset in named.items()
        }
        rows, runs = self.batch_rows * self.context, [run[0] for run in self._runs]
        size = self.num_parameters(LANGUAGE_WORDS if data.kind == "language" else self.vocabulary)
        memory = (
            16 * size + rows * (34 * self.hidden_size * self.num_layers + 12 * self.vocabulary)
        ) / 1e9
        for point in inputs:
            num_steps = point["recipe"]["num_steps"]
            yield Point(
                inputs=point,
                labels={
                    "suite": self.suite,
                    "replicate": point["seed"],
                    "step": num_steps,
                    "tokens": num_steps * rows,
                },
                artifacts={**source, "recipe": recipe},
                affinity=f"pretraining/{data.sha256}",
                priority_stage=runs.index(num_steps),
                estimated_seconds=num_steps * (0.005 + 6 * size * rows / 5e10),
                resources=Resources(memory_gb=round(memory, 2)),
            )

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points, one per seed and run."""
        return len(self.seeds) * len(self._runs)

    def _datasets(self, catalogue: Catalogue) -> tuple[Dataset, Dataset | None, Dataset | None]:
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

    def _inputs(
        self,
        data: Dataset,
        evaluation: Dataset | None,
        tokenizer: Dataset | None,
        seed: int,
        num_steps: int,
        keep: list[int],
    ) -> dict[str, Any]:
        """Return everything that determines the weights of one run and their held-out loss."""
        read = {"sha256": tokenizer.sha256} if tokenizer else {"bpe": self.vocabulary}
        return {
            "protocol": "pretrain/1",
            "suite": self.suite,
            "recipe": {
                **{name: getattr(self, name) for name in RECIPE},
                "init_std": self.init_std or math.sqrt(2 / (5 * self.hidden_size)),
                "num_steps": num_steps,
            },
            "data": {"sha256": data.sha256, "tokenizer": None if data.kind == "language" else read},
            "evaluation": {"sha256": evaluation.sha256} if evaluation else {"last": 0.01},
            "seed": seed,
            "keep": keep,
        }

    # ---- run

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Train the model, save the checkpoints, and evaluate each on the held-out set."""
        from ucurve.experiments import pretraining_run

        return pretraining_run.run(point, context)

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return live training loss, held-out perplexity and weight growth over tokens."""
        from ucurve.figures import pretraining

        lengths, rows = [run[0] for run in self._runs], self.batch_rows * self.context
        return pretraining.figures(table, lengths, self._runs[0][1][0] * rows, self.seeds, rows)

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return which runs diverged, and whether the held-out loss keeps falling."""
        from ucurve.analysis import pretraining

        return pretraining.verdicts(table)
