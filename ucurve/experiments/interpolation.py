"""Interpolation: the loss along the straight line between the weights of two models.

    {"kind": "interpolation", "suite": "tiny", "pairs": ["checkpoints", "seeds"], "steps": 8}
    {"kind": "interpolation", "suite": "tiny", "pairs": ["fine_tuning", "fine_tuning_seeds"]}

Consecutive checkpoints of one pre-training run, the same budget of two pre-training seeds, a
checkpoint before and after fine-tuning, and two fine-tunings of it. The ends are the unperturbed
and fine-tuned models that all experiments share; half-way lies their average. There are no draws;
blocks of evaluation windows are the replicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ucurve.experiments import evaluation_points
from ucurve.experiments.checkpoint_selection import (
    bisection_levels,
    choose,
    selection_warnings,
)
from ucurve.experiments.fine_tuning_datasets import FinetuningDatasets, select_datasets
from ucurve.experiments.fine_tuning_optimisers import expect_trainable, optimiser_warnings
from ucurve.experiments.interpolation_fields import TUNING_FIELDS, InterpolationFields
from ucurve.experiments.interpolation_pairs import Pair, expect_one_model, pairs_of
from ucurve.experiments.interpolation_tuned import NOT_TUNED, RULES, tuned_lines
from ucurve.registry.suites import Checkpoint, Dataset, Suite
from ucurve.spec import (
    Catalogue,
    Context,
    Figure,
    Point,
    Resources,
    Result,
    SpecError,
    TableRoles,
    Verdict,
)

if TYPE_CHECKING:
    import pandas as pd

METRICS = {
    "nll_mean": "loss / nats",
    "id_loss": "loss on the new task / nats",
    "distance": "distance of the ends, relative to the first",
}


class Interpolation(InterpolationFields):
    """Does a barrier lie between two models, or is even their average a good one?

    The loss is measured at models on the straight line between the weights of two checkpoints,
    before and after fine-tuning, or between two fine-tunings.
    """

    kind: Literal["interpolation"] = "interpolation"
    title: ClassVar[str] = "Interpolation"
    order: ClassVar[int] = 7
    name_template: ClassVar[str] = "{title} of {suite}, between {pairs}, {steps} steps"
    columns: ClassVar[TableRoles] = TableRoles(
        x="tokens",
        treatment=("t", "to_revision", "seed", "to_seed", "learning_rate", "method"),
        baseline={"t": 0.0},
        metrics=METRICS,
        fields=("checkpoints", "pairs", "steps", "learning_rate", "method", "tuning_seeds"),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny, two minutes": {"suite": "tiny", "pairs": ["checkpoints", "seeds"]},
        "tiny, fine-tuned models": {
            "suite": "tiny",
            "pairs": ["fine_tuning", "fine_tuning_seeds"],
            "learning_rate": 3e-3,
            "steps": 4,
        },
        "tiny-constant, one run": {"suite": "tiny-constant", "pairs": ["checkpoints"]},
    }

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield the unperturbed loss of every end, then the lines: their middles come first."""
        suite = catalogue.suite(self.suite)
        name = self.evaluation or suite.evaluation
        if name is None:
            raise SpecError("evaluation", f"{suite.name!r} has no evaluation set: name one.")
        dataset = evaluation_points.usable_set(catalogue, name, "evaluation")
        pairs, ends = self._pairs(suite), self._ends(suite)
        chosen = choose(suite, self.checkpoints)
        evaluation_points.expect_one_curve(
            chosen if self.with_tuning else ends, dataset, self.window
        )
        for pair in pairs:
            expect_one_model(suite, pair)
        sets = self._datasets(catalogue, name, chosen) if self.with_tuning else None
        for checkpoint in ends:
            yield self._end(checkpoint, dataset)
        stages = bisection_levels(self.steps + 1)
        for pair in pairs:
            for k in range(1, self.steps):
                yield self._between(pair, k / self.steps, dataset, stages[k])
        for checkpoint in chosen if sets else ():
            assert sets, "the datasets of the fine-tuning"
            yield from tuned_lines(self, self._end(checkpoint, dataset), checkpoint, sets)

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points: one per end, and one per step inside every line."""
        suite = catalogue.suite(self.suite)
        num_lines, num_ends = len(self._pairs(suite)), len(self._ends(suite))
        if self.with_tuning:
            num, seeds = len(choose(suite, self.checkpoints)), len(set(self.tuning_seeds))
            num_ends += num * seeds
            num_lines += num * seeds * ("fine_tuning" in self.pairs)
            num_lines += num * (seeds - 1) * ("fine_tuning_seeds" in self.pairs)
        return num_ends + num_lines * (self.steps - 1)

    def warnings(self, catalogue: Catalogue) -> list[str]:
        """Return which checkpoints and lines are left out, and which configs differ."""
        suite = catalogue.suite(self.suite)
        pairs = self._pairs(suite)
        messages = selection_warnings(suite, self.checkpoints)
        fields = type(self).model_fields
        unused = [n for n in TUNING_FIELDS if getattr(self, n) != fields[n].get_default()]
        if unused and not self.with_tuning:
            messages.append(
                f"{unused[0]}: not used: no line between fine-tuned models is among the pairs."
            )
        if self.with_tuning:
            rates = self.tuning.rates
            messages += optimiser_warnings(
                self.optimiser, rates, self.task, self.momentum, rate_field="learning_rate"
            )
        if "seeds" in self.pairs and not any(pair.of_seeds for pair in pairs):
            messages.append(
                "pairs: no two pre-training seeds have a checkpoint of the same tokens, so that no "
                "line between seeds is planned."
            )
        if "checkpoints" in self.pairs and all(pair.of_seeds for pair in pairs):
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

    def _datasets(
        self, catalogue: Catalogue, evaluation: str, chosen: list[Checkpoint]
    ) -> FinetuningDatasets:
        """Return the datasets of the fine-tuning. Raises SpecError naming a field of this spec."""
        try:
            expect_trainable(self.optimiser, [self.method])
            return select_datasets(self.tuning, catalogue, [evaluation], chosen)
        except SpecError as error:
            if error.field == "epochs":
                raise SpecError("epochs", "The dataset is endless: give tuning_steps.") from None
            if error.field == "methods":
                raise SpecError("method", error.message) from None
            field = error.field if error.field in type(self).model_fields else "data"
            raise SpecError(field, error.message) from None

    def _pairs(self, suite: Suite) -> list[Pair]:
        """Return the lines between checkpoints. Raises SpecError where the plan has no line."""
        chosen = choose(suite, self.checkpoints)
        pairs = pairs_of(chosen, self.pairs)
        if not pairs and not self.with_tuning:
            raise SpecError(
                "pairs",
                f"No two of the selected checkpoints of {suite.name!r} are a pair: checkpoints "
                "needs two of one pre-training seed, seeds the same tokens of two seeds.",
            )
        return pairs

    def _ends(self, suite: Suite) -> list[Checkpoint]:
        """Return the checkpoints that are an end of a line as they are, each once."""
        pairs = self._pairs(suite)
        every = [checkpoint for pair in pairs for checkpoint in (pair.first, pair.second)]
        if "fine_tuning" in self.pairs:
            every += choose(suite, self.checkpoints)
        return list({checkpoint.revision: checkpoint for checkpoint in every}.values())

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
                **(NOT_TUNED if self.with_tuning else {}),
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
                    **RULES,
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
        if change["protocol"] == "fine_tune/1":
            from ucurve.experiments import fine_tuning_run

            return fine_tuning_run.run(point, context)
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
