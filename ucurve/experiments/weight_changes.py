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
from itertools import product
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
from ucurve.experiments.evaluation_fields import EvaluationSets, Stride, Window, names_of, on_sets
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
    evaluation: EvaluationSets = None
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
    def on_sets(self) -> str:
        """The number of evaluation sets for the name, where there are several."""
        return on_sets(self.evaluation)

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
        datasets = evaluation_points.usable_sets(catalogue, suite, self.evaluation)
        choice = self._choice(suite)
        choice.check()
        chosen = choose(suite, self.checkpoints)
        for dataset in datasets:
            evaluation_points.expect_one_curve(chosen, dataset, self.window)
        for replicate in by_replicate(chosen):
            stages = bisection_levels(len(replicate))
            for checkpoint, stage in zip(replicate, stages, strict=True):
                unperturbed = [self._unperturbed(checkpoint, d, datasets, stage) for d in datasets]
                yield from self._points(checkpoint, unperturbed, choice)

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points: per checkpoint and set one unperturbed and all changes."""
        num = count_chosen(catalogue.suite(self.suite), self.checkpoints)
        num *= len(names_of(self.evaluation)) or 1
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
        self, checkpoint: Checkpoint, unperturbed: Sequence[Point], choice: TensorChoice
    ) -> Iterator[Point]:
        """Yield the unperturbed points of every set, then every change on all of them."""
        size = checkpoint.num_parameters or 0
        resources = Resources(memory_gb=round(0.6 + 16 * size / 1e9, 2))
        yield from unperturbed
        for (labels, change), before in product(self.changes(), unperturbed):
            yield replace(
                before,
                inputs={
                    **before.inputs,
                    "perturbation": {**change, "tensors": choice.matrices()},
                },
                labels={**before.labels, **labels},
                resources=resources,
            )

    def _unperturbed(
        self, checkpoint: Checkpoint, dataset: Dataset, datasets: Sequence[Dataset], stage: int
    ) -> Point:
        """Return the point of the unperturbed model on one of the evaluation sets."""
        size = checkpoint.num_parameters or 0
        evaluation = evaluation_points.evaluation_of(
            checkpoint, dataset, self.window, self.stride, self.precision
        )
        return Point(
            inputs={
                "checkpoint": evaluation_points.weights_of(checkpoint),
                "perturbation": None,
                **evaluation,
            },
            labels={
                **evaluation_points.labels_of(checkpoint),
                **evaluation_points.label_of(dataset, datasets),
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

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return loss and perplexity over tokens, their change, and what was changed."""
        from ucurve.figures import evaluation_sets, weight_changes

        levels = weight_changes.Levels(self.level, self.level_title, self.levels, self.unchanged)
        return evaluation_sets.figures(
            table,
            verdicts,
            lambda rows, own, _: weight_changes.figures(rows, own, levels),
            once=("relative_change", "matrices"),
        )

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return the summaries of every scheme, then verdicts per level and pre-training seed."""
        from ucurve.analysis import evaluation_sets, weight_changes

        return evaluation_sets.verdicts(
            table, lambda rows, _: weight_changes.verdicts(rows, self.level, self.level_text)
        )

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
