"""Experiment types that change weights without a draw: what rounding and pruning have in common.

class Rounded(WeightChange):
    level, unchanged = "bits", 32.0
    def changes(self): ...       # labels and inputs of every change
    def run(point, context): return measure(point, context, lambda change, _: Rounding.of(change))

It plans the unperturbed loss and one point per change at every checkpoint. The same blocks of
evaluation windows are the replicates before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ucurve.experiments import evaluation_points
from ucurve.experiments.checkpoint_selection import (
    Choice,
    bisection_levels,
    by_replicate,
    choose,
    count_chosen,
    selection_warnings,
)
from ucurve.experiments.evaluation_fields import EvaluationSet, Stride, Window
from ucurve.experiments.tensor_choice import TensorChoice
from ucurve.registry.suites import Checkpoint, Dataset, Suite
from ucurve.spec import (
    ADVANCED,
    Catalogue,
    Context,
    Figure,
    Name,
    Pattern,
    Point,
    Resources,
    Result,
    Spec,
    SpecError,
    Verdict,
)

if TYPE_CHECKING:
    import pandas as pd

    from ucurve.modeling.changed_matrices import Change, Tensors

Labelled = tuple[dict[str, Any], dict[str, Any]]  # labels and inputs of a change
METRICS = {
    "nll_mean": "loss / nats",
    "relative_change": "relative change of the weights",
    "zeros": "share of weights that are 0",
}


class WeightChange(Spec):
    """A change of matrices at every checkpoint, and the loss before and after."""

    # The label that says how large a change is, and its value at the unperturbed model.
    level: ClassVar[str]
    unchanged: ClassVar[float]
    level_title: ClassVar[str]

    suite: Name = Field(
        "tiny", description="Name of a registered suite.", json_schema_extra={"widget": "suite"}
    )
    checkpoints: Choice = Field(
        "all",
        description='"all", {"log_spaced": n} per pre-training seed, or a list of revisions. '
        "Step 0 only if listed.",
    )
    include: list[Pattern] = Field(
        [],
        max_length=50,
        description='Only matrices that match, such as "*.attention.*", by the names in the '
        "checkpoint's files or those of transformers. Biases and norms are never changed.",
        json_schema_extra=ADVANCED,
    )
    exclude: list[Pattern] = Field(
        [],
        max_length=50,
        description='No matrices that match, such as "*embed*".',
        json_schema_extra=ADVANCED,
    )
    evaluation: EvaluationSet = None
    window: Window = None
    stride: Stride = None
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Of the evaluation; the change of the weights is exact.",
        json_schema_extra=ADVANCED,
    )

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        if self.stride and self.window and self.stride > self.window:
            raise ValueError(
                "stride must not be larger than window, or tokens between windows would be skipped"
            )
        return self

    def changes(self) -> list[Labelled]:
        """Return labels (level and scheme) and inputs of every change, without the tensors."""
        raise NotImplementedError

    @property
    def levels(self) -> list[float]:
        """The levels of the changes in ascending order."""
        return sorted({float(labels[self.level]) for labels, _ in self.changes()})

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield the unperturbed loss and all changes, checkpoint by checkpoint.

        First and last checkpoints come first, those between follow by bisection.
        """
        suite = catalogue.suite(self.suite)
        name = self.evaluation or suite.evaluation
        if name is None:
            raise SpecError("evaluation", f"{suite.name!r} has no evaluation set: name one.")
        dataset = evaluation_points.usable_set(catalogue, name, "evaluation")
        choice = self._choice(suite)
        choice.check()
        chosen = choose(suite, self.checkpoints)
        evaluation_points.expect_one_curve(chosen, dataset, self.window)
        for replicate in by_replicate(chosen):
            stages = bisection_levels(len(replicate))
            for checkpoint, stage in zip(replicate, stages, strict=True):
                yield from self._points(checkpoint, dataset, choice, stage)

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points: one unperturbed and all changes per checkpoint."""
        num = count_chosen(catalogue.suite(self.suite), self.checkpoints)
        return num * (1 + len(self.changes()))

    def warnings(self, catalogue: Catalogue) -> list[str]:
        """Return which checkpoints are left out, and what cannot be checked yet."""
        suite = catalogue.suite(self.suite)
        return [
            *selection_warnings(suite, self.checkpoints),
            *self._choice(suite).warnings(by_group=False),
        ]

    def _choice(self, suite: Suite) -> TensorChoice:
        return TensorChoice(suite, "matrices", self.include, self.exclude)

    def _points(
        self, checkpoint: Checkpoint, dataset: Dataset, choice: TensorChoice, stage: int
    ) -> Iterator[Point]:
        size = checkpoint.num_parameters or 0
        evaluation = evaluation_points.evaluation_of(
            checkpoint, dataset, self.window, self.stride, self.precision
        )
        unperturbed = Point(
            inputs={
                "checkpoint": evaluation_points.weights_of(checkpoint),
                "perturbation": None,
                **evaluation,
            },
            labels={
                **evaluation_points.labels_of(checkpoint),
                self.level: self.unchanged,
                "scheme": None,
            },
            artifacts={
                "checkpoint": checkpoint.model_dump(mode="json"),
                "dataset": dataset.model_dump(mode="json"),
            },
            affinity=checkpoint.weights_sha256 or "",
            priority_stage=stage,
            estimated_seconds=evaluation_points.seconds_of(checkpoint, dataset),
            resources=Resources(memory_gb=round(0.5 + 4 * size / 1e9, 2)),
        )
        yield unperturbed
        resources = Resources(memory_gb=round(0.6 + 16 * size / 1e9, 2))
        for labels, change in self.changes():
            yield replace(
                unperturbed,
                inputs={
                    **unperturbed.inputs,
                    "perturbation": {**change, "tensors": choice.matrices()},
                },
                labels={**unperturbed.labels, **labels},
                resources=resources,
            )

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return loss and perplexity over tokens, their change, and what was changed."""
        from ucurve.figures import weight_changes

        levels = weight_changes.Levels(self.level, self.level_title, self.levels, self.unchanged)
        return weight_changes.figures(table, verdicts, levels)

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return the summaries of every scheme, then verdicts per level and pre-training seed."""
        from ucurve.analysis import weight_changes

        return weight_changes.verdicts(table, self.level, self.level_text)

    @staticmethod
    def level_text(level: float) -> str:
        """Return a level for people: "3 bits"."""
        raise NotImplementedError


def measure(
    point: Point, context: Context, change_of: Callable[[Mapping[str, Any], Tensors], Change]
) -> Result:
    """Change the matrices of the loaded model, evaluate it, and restore its weights.

    change_of: returns the change of these tensors that the inputs of a point ask for.
    """
    from ucurve.modeling import perturb
    from ucurve.modeling.changed_matrices import changed, relative

    inputs = point.inputs["perturbation"]
    if inputs is None:
        return evaluation_points.base(point, context)
    loaded = evaluation_points.loaded_for(point, context)
    evaluation_points.expect_stored_names(point, context, loaded)
    tensors = perturb.select(loaded.model, **inputs["tensors"])
    with changed(tensors, change_of(inputs, tensors)) as matrices:
        measured = evaluation_points.measure(point, context, loaded)
    num = sum(tensor.numel() for tensor in tensors.values())
    zeros = sum(tensors[name].numel() * matrix.zeros for name, matrix in matrices.items())
    moved = sum(matrix.moved for matrix in matrices.values())
    size = sum(matrix.size for matrix in matrices.values())
    metrics = {
        "relative_change": relative(moved, size),
        "zeros": zeros / num,
        "num_matrices": float(len(matrices)),
    }
    numbers = {f"matrix/{name}": matrix.numbers for name, matrix in matrices.items()}
    return Result(metrics={**measured.metrics, **metrics}, series={**measured.series, **numbers})
