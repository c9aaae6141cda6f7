"""Interpolation: the loss along the straight line between the weights of two checkpoints.

    {"kind": "interpolation", "suite": "tiny", "pairs": ["checkpoints", "seeds"], "steps": 8}

Consecutive checkpoints of one pre-training run, and the same budget of two pre-training seeds. The
ends are the unperturbed models, which all experiments share; half-way lies their average. There are
no draws; blocks of evaluation windows are the replicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ucurve.experiments import evaluation_points
from ucurve.experiments.checkpoint_selection import (
    Choice,
    bisection_levels,
    by_replicate,
    choose,
    selection_warnings,
)
from ucurve.experiments.evaluation_fields import EvaluationSet, Stride, Window
from ucurve.registry.suites import Checkpoint, Dataset, Suite
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
)

if TYPE_CHECKING:
    import pandas as pd

METRICS = {"nll_mean": "loss / nats", "distance": "distance of the ends, relative to the first"}
PairKind = Literal["checkpoints", "seeds"]


@dataclass(frozen=True)
class Pair:
    """Two checkpoints; `between` says what they are, for people."""

    between: str
    first: Checkpoint
    second: Checkpoint

    @property
    def names(self) -> str:
        """The revisions of both ends."""
        return f"{self.first.revision} and {self.second.revision}"


class Interpolation(Spec):
    """Does a barrier lie between two checkpoints, or is even their average a good model?

    The loss is measured at models on the straight line between the weights of two checkpoints.
    """

    kind: Literal["interpolation"] = "interpolation"
    title: ClassVar[str] = "Interpolation"
    order: ClassVar[int] = 7
    name_template: ClassVar[str] = "{title} of {suite}, between {pairs}, {steps} steps"
    columns: ClassVar[TableRoles] = TableRoles(
        x="tokens",
        treatment=("t", "to_revision"),
        baseline={"t": 0.0},
        metrics=METRICS,
        fields=("checkpoints", "pairs", "steps"),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny, two minutes": {"suite": "tiny", "pairs": ["checkpoints", "seeds"]},
        "tiny-constant, one run": {"suite": "tiny-constant", "pairs": ["checkpoints"]},
    }

    suite: Name = Field(
        "tiny", description="Name of a registered suite.", json_schema_extra={"widget": "suite"}
    )
    pairs: list[PairKind] = Field(
        ["checkpoints", "seeds"],
        min_length=1,
        max_length=2,
        title="Lines between",
        description="checkpoints: each and the next of its pre-training seed. seeds: the same "
        "tokens of a pre-training seed and the next.",
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
    evaluation: EvaluationSet = None
    window: Window = None
    stride: Stride = None
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Of the evaluation; the weights are interpolated in fp64 and rounded to fp32.",
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

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield the unperturbed loss of every end, then the lines: their middles come first."""
        suite = catalogue.suite(self.suite)
        name = self.evaluation or suite.evaluation
        if name is None:
            raise SpecError("evaluation", f"{suite.name!r} has no evaluation set: name one.")
        dataset = evaluation_points.usable_set(catalogue, name, "evaluation")
        pairs = self._pairs(suite)
        ends = _ends(pairs)
        evaluation_points.expect_one_curve(ends, dataset, self.window)
        for pair in pairs:
            _expect_one_model(suite, pair)
        for checkpoint in ends:
            yield self._end(checkpoint, dataset)
        stages = bisection_levels(self.steps + 1)
        for pair in pairs:
            for k in range(1, self.steps):
                yield self._between(pair, k / self.steps, dataset, stages[k])

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points: one per end, and one per step inside every line."""
        pairs = self._pairs(catalogue.suite(self.suite))
        return len(_ends(pairs)) + len(pairs) * (self.steps - 1)

    def warnings(self, catalogue: Catalogue) -> list[str]:
        """Return which checkpoints and lines are left out, and which configs differ."""
        suite = catalogue.suite(self.suite)
        pairs = self._pairs(suite)
        messages = selection_warnings(suite, self.checkpoints)
        if "seeds" in self.pairs and not any(_of_seeds(pair) for pair in pairs):
            messages.append(
                "pairs: no two pre-training seeds have a checkpoint of the same tokens, so that no "
                "line between seeds is planned."
            )
        if "checkpoints" in self.pairs and all(_of_seeds(pair) for pair in pairs):
            messages.append(
                "pairs: no pre-training seed has two of the checkpoints: no line between."
            )
        different = [p for p in pairs if p.first.config_sha256 != p.second.config_sha256]
        if different:
            messages.append(
                f"checkpoints: the configs of {different[0].names} differ"
                + (f" (and of {len(different) - 1} more pairs)" if different[1:] else "")
                + ": models on the line have that of the first."
            )
        return messages

    def _pairs(self, suite: Suite) -> list[Pair]:
        """Return the lines of the plan. Raises SpecError where there is none."""
        replicates = by_replicate(choose(suite, self.checkpoints))
        chosen = [checkpoint for replicate in replicates for checkpoint in replicate]
        if unplaced := [c.revision for c in chosen if c.tokens is None]:
            raise SpecError(
                "checkpoints",
                f"The tokens of {unplaced[0]} are unknown, so that it is next to no other: leave "
                "it out, or register the suite again with a table of positions.",
            )
        pairs = []
        if "checkpoints" in self.pairs:
            pairs += [
                Pair(f"checkpoints of pre-training seed {a.replicate}", a, b)
                for replicate in replicates
                for a, b in pairwise(replicate)
            ]
        if "seeds" in self.pairs:
            pairs += [
                Pair(f"pre-training seeds {a.replicate} and {b.replicate}", a, b)
                for one, other in pairwise(replicates)
                for a in one
                for b in other
                if a.tokens == b.tokens and a.training_phase == b.training_phase
            ]
        if not pairs:
            raise SpecError(
                "pairs",
                f"No two of the selected checkpoints of {suite.name!r} are a pair: checkpoints "
                "needs two of one pre-training seed, seeds the same tokens of two seeds.",
            )
        return pairs

    def _end(self, checkpoint: Checkpoint, dataset: Dataset) -> Point:
        """Return the unperturbed loss: the same measurement as in all other experiment types."""
        size = checkpoint.num_parameters or 0
        return Point(
            inputs={
                "checkpoint": evaluation_points.weights_of(checkpoint),
                "perturbation": None,
                **evaluation_points.evaluation_of(
                    checkpoint, dataset, self.window, self.stride, self.precision
                ),
            },
            labels={
                **evaluation_points.labels_of(checkpoint),
                "t": 0.0,
                "between": None,
                "to_revision": None,
                "to_tokens": None,
            },
            artifacts={
                "checkpoint": checkpoint.model_dump(mode="json"),
                "dataset": dataset.model_dump(mode="json"),
            },
            affinity=checkpoint.weights_sha256 or "",
            priority_stage=0,
            estimated_seconds=evaluation_points.seconds_of(checkpoint, dataset),
            resources=Resources(memory_gb=round(0.5 + 4 * size / 1e9, 2)),
        )

    def _between(self, pair: Pair, t: float, dataset: Dataset, stage: int) -> Point:
        """Return the loss at t on the line of a pair."""
        end, size = self._end(pair.first, dataset), pair.first.num_parameters or 0
        return replace(
            end,
            inputs={
                **end.inputs,
                "perturbation": {
                    "protocol": "interpolation/1",
                    "second": evaluation_points.weights_of(pair.second),
                    "t": t,
                    "arithmetic": "fp64",
                    "buffers": "first",
                },
            },
            labels={
                **end.labels,
                "t": t,
                "between": pair.between,
                "to_revision": pair.second.revision,
                "to_tokens": pair.second.tokens,
            },
            artifacts={**end.artifacts, "second": pair.second.model_dump(mode="json")},
            priority_stage=stage,
            resources=Resources(memory_gb=round(0.6 + 20 * size / 1e9, 2)),
        )

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Move the loaded model along the line, evaluate it, and restore its weights."""
        change = point.inputs["perturbation"]
        if change is None:
            return evaluation_points.base(point, context)
        from ucurve.modeling.interpolation import interpolated, position

        other = replace(
            point, artifacts={**point.artifacts, "checkpoint": point.artifacts["second"]}
        )
        second = evaluation_points.loaded_for(other, context)
        first = evaluation_points.loaded_for(point, context)
        with interpolated(first.model, second.model, position(change)) as line:
            measured = evaluation_points.measure(point, context, first)
        metrics = {
            "distance": line.distance,
            "num_tensors": float(line.num_tensors),
            "buffers_differing": float(line.num_buffers),
        }
        return Result(metrics={**measured.metrics, **metrics}, series=measured.series)

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return the loss along the lines, and barriers and averages over tokens."""
        from ucurve.figures import interpolation

        return interpolation.figures(table)

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return whether there is a barrier, and whether the average is better than both ends."""
        from ucurve.analysis import interpolation

        return interpolation.verdicts(table)


def _of_seeds(pair: Pair) -> bool:
    return pair.first.replicate != pair.second.replicate


def _ends(pairs: Sequence[Pair]) -> list[Checkpoint]:
    """Return the checkpoints of all pairs, each once."""
    every = [checkpoint for pair in pairs for checkpoint in (pair.first, pair.second)]
    return list({checkpoint.revision: checkpoint for checkpoint in every}.values())


def _expect_one_model(suite: Suite, pair: Pair) -> None:
    """Raise SpecError where tensors differ in name or shape, as far as the files tell."""
    a, b = (suite.layouts.get(c.layout_sha256 or "") for c in (pair.first, pair.second))
    reason = ""
    sizes = [c.num_parameters for c in (pair.first, pair.second)]
    if None not in sizes and sizes[0] != sizes[1]:
        reason = f"they have {sizes[0]:,} and {sizes[1]:,} parameters"
    if a and b and a.sha256 != b.sha256:
        shapes = [{t.canonical: t.shape for t in layout.parameters} for layout in (a, b)]
        for name in sorted(shapes[0].keys() | shapes[1].keys()):
            one, other = (names.get(name) for names in shapes)
            if one != other:
                reason = f"{name} is {_shape(one)} in one and {_shape(other)} in the other"
                break
        if not reason and a.architecture != b.architecture:
            reason = f"one is {a.architecture}, the other {b.architecture}"
    if reason:
        raise SpecError(
            "checkpoints",
            f"No line joins {pair.names}: {reason}. List checkpoints of one model.",
        )


def _shape(shape: Sequence[int] | None) -> str:
    return "missing" if shape is None else "of shape " + " × ".join(map(str, shape))
