"""Fields of interpolation specs: checkpoints, lines, the fine-tuning of their ends, evaluation.

spec = parse({"kind": "interpolation", "pairs": ["fine_tuning"], "learning_rate": 1e-3})
spec.tuning.recipe_inputs(data, 1e-3)  # as a spec of fine-tuning has it
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from ucurve.experiments.checkpoint_selection import Choice
from ucurve.experiments.evaluation_fields import EvaluationSet, Stride, Window
from ucurve.experiments.fine_tuning_fields import TuningFields
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
from ucurve.spec import ADVANCED, Name, Spec

PairKind = Literal["checkpoints", "seeds", "fine_tuning", "fine_tuning_seeds"]
TUNED = ("fine_tuning", "fine_tuning_seeds")
TUNING_FIELDS = (
    "task",
    "data",
    "learning_rate",
    "method",
    "tuning_seeds",
    "epochs",
    "tuning_steps",
    "batch_rows",
    "optimiser",
    "momentum",
    "ewc_data",
)
# Of the same name and meaning in a fine-tuning spec; `steps` are those along the line here.
SAME_FIELDS = TuningFields.model_fields.keys() - {"kind", "steps"}


class InterpolationFields(Spec):
    """Fields of interpolation specs."""

    suite: Name = Field(
        "tiny", description="Name of a registered suite.", json_schema_extra={"widget": "suite"}
    )
    pairs: list[PairKind] = Field(
        ["checkpoints", "seeds"],
        min_length=1,
        max_length=4,
        title="Lines between",
        description="checkpoints: each and the next of its pre-training seed. seeds: the same "
        "tokens of a pre-training seed and the next. fine_tuning: a checkpoint before and after "
        "fine-tuning. fine_tuning_seeds: a checkpoint fine-tuned with one seed and with the next.",
    )
    steps: int = Field(
        8,
        ge=2,
        le=100,
        title="Steps along a line",
        description="Even, so that one is half-way: the average of both ends.",
    )
    checkpoints: Choice = Field(
        "all",
        description='"all", {"log_spaced": n} per pre-training seed, or a list of revisions. '
        "Step 0 only if listed.",
    )
    task: Task = Field(
        "language_modelling",
        title="Fine-tuning task",
        description="Of lines with fine-tuned ends, as in a fine-tuning experiment, which has "
        "these models too. Fields that are not here have its defaults.",
    )
    data: TrainingData = None
    learning_rate: Rate | None = Field(
        None,
        description="Of the fine-tuning. Default: as in a fine-tuning experiment.",
    )
    method: Method = Field("full", title="Fine-tuning method", description="As there.")
    tuning_seeds: list[Seed] = Field(
        [0, 1],
        min_length=1,
        max_length=16,
        title="Fine-tuning seeds",
        description="Of the order of the data. fine_tuning draws a line for each, and "
        "fine_tuning_seeds between each and the next.",
    )
    epochs: Epochs = Field(None, title="Fine-tuning epochs", json_schema_extra=ADVANCED)
    tuning_steps: TrainingSteps = Field(None, title="Fine-tuning steps", json_schema_extra=ADVANCED)
    batch_rows: BatchRows = Field(None, json_schema_extra=ADVANCED)
    optimiser: Optimiser = Field("adamw", json_schema_extra=ADVANCED)
    momentum: Momentum = None
    ewc_data: EwcData = None
    evaluation: EvaluationSet = None
    window: Window = None
    stride: Stride = None
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Of evaluation and fine-tuning; weights are interpolated in fp64 and rounded "
        "to fp32.",
        json_schema_extra=ADVANCED,
    )

    @field_validator("steps")
    @classmethod
    def _check_steps(cls, steps: int) -> int:
        if steps % 2:
            raise ValueError(f"must be even, so that one is half-way: {steps - 1} or {steps + 1}")
        return steps

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        if self.stride and self.window and self.stride > self.window:
            raise ValueError(
                "stride must not be larger than window, or tokens between windows would be skipped"
            )
        return self

    @model_validator(mode="after")
    def _check_tuning(self) -> Self:
        if self.epochs and self.tuning_steps:
            raise ValueError("give epochs or tuning_steps, not both")
        if "fine_tuning_seeds" in self.pairs and len(set(self.tuning_seeds)) < 2:
            raise ValueError("fine_tuning_seeds needs two tuning_seeds: a line joins two")
        return self

    @property
    def with_tuning(self) -> bool:
        """Whether an end of a line is fine-tuned."""
        return not set(TUNED).isdisjoint(self.pairs)

    @property
    def tuning(self) -> TuningFields:
        """The fine-tuning of the ends, in the fields of a fine-tuning spec."""
        same = SAME_FIELDS & type(self).model_fields.keys()
        return TuningFields(
            kind="fine_tuning",
            **{name: getattr(self, name) for name in same},
            methods=[self.method],
            learning_rates=[] if self.learning_rate is None else [self.learning_rate],
            seeds=self.tuning_seeds,
            steps=self.tuning_steps,
            evaluations=[self.evaluation] if self.evaluation else [],
        )
