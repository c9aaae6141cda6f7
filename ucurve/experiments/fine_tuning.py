"""Fine-tuning (experiments II and III, figures 2 to 5): what checkpoints forget of pre-training.

    {"kind": "fine_tuning", "suite": "tiny", "learning_rates": [1e-3, 3e-3], "seeds": [0, 1, 2]}

One learning rate is experiment II, several are experiment III. A point is one evaluation of one
fine-tuned model: (checkpoint, learning rate, seed, method) and (evaluation set, interpolation).
All points of a fine-tuned model share its weights, so that a spec with more rates, sets or
interpolations measures only the new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ucurve.experiments import evaluation_points
from ucurve.experiments.checkpoint_selection import (
    bisection_levels,
    by_replicate,
    choose,
    count_chosen,
    selection_warnings,
)
from ucurve.experiments.fine_tuning_datasets import FinetuningDatasets, select_datasets
from ucurve.experiments.fine_tuning_fields import TuningFields
from ucurve.experiments.fine_tuning_optimisers import expect_trainable, optimiser_warnings
from ucurve.experiments.fine_tuning_points import (
    datasets_of,
    seconds_of,
    tuned_inputs,
    tuned_point,
    wise_ft,
)
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

    from ucurve.analysis.fine_tuning import Design
    from ucurve.analysis.replication import Reference

PYTHIA: dict[str, Any] = {
    "suite": "pythia-70m",
    "checkpoints": ["step1000", "step4000", "step16000", "step64000", "step143000"],
    "task": "label_words",
    "data": "sst2",
    "evaluations": ["wikitext-2"],
}


class FineTuning(TuningFields):
    """How much does a model forget when it is fine-tuned, and how does pre-training change that?

    Every checkpoint is fine-tuned in the same way; its perplexity on pre-training text is measured
    before and after.
    """

    kind: Literal["fine_tuning"] = "fine_tuning"
    title: ClassVar[str] = "Fine-tuning"
    order: ClassVar[int] = 2
    name_template: ClassVar[str] = "{title} of {suite}, learning rate {rates}, {treatments}"
    repeat_fields: ClassVar[tuple[str, ...]] = ("seeds",)
    columns: ClassVar[TableRoles] = TableRoles(
        x="tokens",
        treatment=("learning_rate", "method", "alpha"),
        baseline={"method": "base"},
        fixed=("evaluation",),
        draws=("seed",),
        metrics={
            "nll_mean": "loss / nats",
            "id_loss": "loss on the new task / nats",
            "accuracy": "accuracy on the new task",
        },
        fields=(
            "checkpoints",
            "learning_rates",
            "seeds",
            "methods",
            "alphas",
            "evaluations",
            "looks",
        ),
    )
    series_filter: ClassVar[dict[str, dict[str, Any]]] = {
        name: {"method": "base"} for name in evaluation_points.WINDOWS
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "Experiment II on tiny: one learning rate": {
            "suite": "tiny",
            "learning_rates": [3e-3],
            "seeds": [0, 1, 2, 3, 4],
        },
        "Experiment III on tiny: the learning-rate trade-off": {
            "suite": "tiny",
            "learning_rates": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1],
            "seeds": [0, 1, 2, 3, 4],
        },
        "Experiment III on tiny, sentiment as one label word": {
            "suite": "tiny",
            "task": "label_words",
            "data": "tiny-sentiment",
            "learning_rates": [3e-5, 1e-4, 3e-4, 1e-3],
            "seeds": [0, 1, 2, 3, 4],
        },
        "tiny, mitigations compared": {
            "suite": "tiny",
            "learning_rates": [3e-4, 1e-3, 3e-3, 1e-2],
            "methods": ["full", "l2_sp", "ewc", "lora", "head"],
            "alphas": [0.25, 0.5, 0.75],
        },
        "Experiment II: Pythia-70M on SST-2": {**PYTHIA, "learning_rates": [2e-5]},
        "Experiment III: Pythia-70M on SST-2, a grid of learning rates": {
            **PYTHIA,
            "learning_rates": [4e-6, 8e-6, 1.6e-5, 2e-5, 3.2e-5, 6.4e-5, 1.28e-4, 2.56e-4],
            "seeds": [0, 1, 2, 3, 4],
        },
    }

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield the unperturbed models and one seed at the ends of both axes first.

        The values between them follow, then more seeds, then interpolations.
        """
        suite = catalogue.suite(self.suite)
        names = self._evaluation_names(suite)
        expect_trainable(self.optimiser, self.methods)
        chosen = choose(suite, self.checkpoints)
        sets = select_datasets(self, catalogue, names, chosen)
        for dataset in sets.evaluations:
            evaluation_points.expect_one_curve(chosen, dataset, self.window)
        for replicate in by_replicate(chosen):
            for checkpoint, level in zip(replicate, bisection_levels(len(replicate)), strict=True):
                bases = [self._base(checkpoint, dataset, level) for dataset in sets.evaluations]
                yield from bases
                yield from self._tuned(checkpoint, sets, bases)

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points: per checkpoint and evaluation set, one unperturbed and all
        seeds, methods, rates and interpolations.
        """
        suite, methods = catalogue.suite(self.suite), set(self.methods)
        num_weights = len(methods) + ("full" in methods) * len(set(self.alphas))
        num_changes = len(set(self.seeds)) * len(self.rates) * num_weights
        num_evaluations = len(self._evaluation_names(suite))
        return count_chosen(suite, self.checkpoints) * num_evaluations * (1 + num_changes)

    def warnings(self, catalogue: Catalogue) -> list[str]:
        """Return what is left out, what the optimiser needs, and what is no forgetting."""
        suite = catalogue.suite(self.suite)
        messages = [
            *selection_warnings(suite, self.checkpoints),
            *optimiser_warnings(
                self.optimiser, self.rates, self.task, self.momentum, (self.beta1, self.beta2)
            ),
        ]
        if self.data and self.data in (self.evaluations or {suite.evaluation}):
            messages.append(
                f"evaluations: {self.data} is also the training dataset, so its loss after "
                "fine-tuning is no forgetting. Choose another text for one of the two."
            )
        return messages

    def _evaluation_names(self, suite: Suite) -> list[str]:
        """Return the names of the evaluation sets, each once. Raises SpecError without any."""
        names = self.evaluations or ([suite.evaluation] if suite.evaluation else [])
        if not names:
            raise SpecError(
                "evaluations", f"{suite.name!r} has no evaluation set of its own: name one."
            )
        return list(dict.fromkeys(names))

    def _base(self, checkpoint: Checkpoint, dataset: Dataset, level: int) -> Point:
        """Return the point of an unperturbed model, shared with the other experiment types."""
        return Point(
            inputs={
                "checkpoint": evaluation_points.weights_of(checkpoint),
                "perturbation": None,
                **self._measured(checkpoint, dataset),
            },
            labels={
                **evaluation_points.labels_of(checkpoint),
                **_labels(dataset, "base", 0.0, None, 0.0),
            },
            artifacts={
                "checkpoint": checkpoint.model_dump(mode="json"),
                "dataset": dataset.model_dump(mode="json"),
            },
            affinity=checkpoint.weights_sha256 or "",
            priority_stage=level,
            estimated_seconds=evaluation_points.seconds_of(checkpoint, dataset),
            resources=Resources(
                memory_gb=round(0.5 + 4 * (checkpoint.num_parameters or 0) / 1e9, 2)
            ),
        )

    def _measured(self, checkpoint: Checkpoint, dataset: Dataset) -> dict[str, Any]:
        """Return the inputs of one evaluation on pre-training text."""
        return evaluation_points.evaluation_of(
            checkpoint, dataset, self.window, self.stride, self.precision, "evaluations"
        )

    def _tuned(
        self, checkpoint: Checkpoint, sets: FinetuningDatasets, bases: list[Point]
    ) -> Iterator[Point]:
        """Yield the points of one checkpoint: all methods and rates, seed by seed.

        Further evaluation sets and interpolations of the same weights have a later stage.
        """
        level = bases[0].priority_stage
        levels = dict(zip(self.rates, bisection_levels(len(self.rates)), strict=True))
        rank = 0
        for seed in dict.fromkeys(self.seeds):
            for method in dict.fromkeys(self.methods):
                datasets = datasets_of(sets, method)
                alphas = (1.0, *sorted(set(self.alphas))) if method == "full" else (1.0,)
                cells = [(base, alpha) for base in bases for alpha in alphas]
                for rate in self.rates:
                    change = tuned_inputs(self, checkpoint, sets, method, rate, seed)
                    for i, (base, alpha) in enumerate(cells):
                        later = (i > 0) * len(self.seeds) * len(self.methods)
                        labels = {
                            "method": method,
                            "learning_rate": rate,
                            "seed": seed,
                            "optimiser": self.optimiser,
                        }
                        yield replace(
                            tuned_point(base, datasets, change, wise_ft(alpha)),
                            labels={**base.labels, **labels, "alpha": alpha},
                            priority_stage=20 * (rank + later) + level + levels[rate],
                            estimated_seconds=seconds_of(
                                self, checkpoint, sets, base, trains=i == 0
                            ),
                        )
                rank += 1

    # ---- run

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Fine-tune unless the weights are cached, and measure the new task and forgetting."""
        from ucurve.experiments import fine_tuning_run

        return fine_tuning_run.run(point, context)

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return table 1, figures 2 to 5, Pareto front, matched loss, methods, training loss."""
        from ucurve.figures import fine_tuning

        return fine_tuning.figures(table, verdicts, self._design(), self._published())

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return the verdicts per learning rate and pre-training seed after the summaries."""
        from ucurve.analysis import fine_tuning_verdicts

        return fine_tuning_verdicts.verdicts(table, self._design(), self._published())

    def _design(self) -> Design:
        """Return what analysis and figures need of the spec."""
        from ucurve.analysis.fine_tuning import Design

        return Design(
            rates=self.rates,
            methods=self.methods,
            metric="id_loss" if self.task == "language_modelling" else "accuracy",
            alphas=self.alphas,
            num_evaluations=len(self.evaluations),
            look=self.looks,
            optimiser=self.optimiser,
        )

    def _published(self) -> list[Reference]:
        """Return the published numbers that this spec can replicate."""
        from ucurve.analysis import replication

        recipe = (
            "optimiser",
            "schedule",
            "weight_decay",
            "max_examples",
            "prompt",
            "label_words",
            "steps",
        )
        fields = type(self).model_fields
        if (
            self.task != "label_words"
            or self.data not in (None, "sst2")
            or self.epochs not in (None, 3)
            or self.methods[0] != "full"
            or self.rows != 32
            or {self.window, self.stride} - {None, evaluation_points.WINDOW}
            or any(getattr(self, name) != fields[name].get_default() for name in recipe)
        ):
            return []
        evaluations: Sequence[str | None] = self.evaluations or [None]
        return [
            reference
            for evaluation in evaluations
            for reference in replication.builtin(self.suite, evaluation)
            if reference.labels.get("learning_rate", 0.0) in (0.0, *self.rates)
            and "gamma" not in reference.labels
        ]


def _labels(
    dataset: Dataset, method: str, rate: float, seed: int | None, alpha: float
) -> dict[str, Any]:
    """Return the columns that identify the change and the evaluation set of a row."""
    return {
        "evaluation": dataset.name,
        "method": method,
        "learning_rate": rate,
        "seed": seed,
        "alpha": alpha,
        "optimiser": None,
    }
