"""Experiments II and III: every checkpoint is fine-tuned, and what it forgets of pre-training is
measured (figures 2 to 5).

    {"kind": "fine_tuning", "suite": "tiny", "learning_rates": [1e-3, 3e-3], "seeds": [0, 1, 2]}

One learning rate is experiment II, several are experiment III. A point is (checkpoint, rate, seed,
method) and an evaluation set: further rates, sets or interpolations measure only what is new, and
all measurements on the same fine-tuned weights share them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from ucurve.experiments import evaluation_points
from ucurve.experiments.checkpoint_selection import bisection_levels, by_replicate, choose
from ucurve.experiments.fine_tuning_fields import Method, TuningFields
from ucurve.registry.suites import Checkpoint, Dataset
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
    canonical,
)

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from ucurve.analysis.fine_tuning import Design
    from ucurve.analysis.replication import Reference
    from ucurve.modeling.checkpoints import LoadedCheckpoint
    from ucurve.modeling.finetuned_weights import FinetunedWeights
    from ucurve.modeling.finetuning_data import FinetuningTask

PYTHIA: dict[str, Any] = {
    "suite": "pythia-70m",
    "checkpoints": ["step1000", "step4000", "step16000", "step64000", "step143000"],
    "task": "label_words",
    "data": "sst2",
    "evaluations": ["wikitext-2"],
}
REST = 0.1  # of the work of a point that follows its training, for the progress bar


Cell = tuple[Method, float, int, float]  # method, learning rate, seed, alpha


class Datasets(NamedTuple):
    """What a plan reads: to fine-tune on, to measure forgetting on, and EWC's."""

    data: Dataset
    evaluations: list[Dataset]
    ewc: Dataset | None


class FineTuning(TuningFields):
    """How much does a model forget when it is fine-tuned, and how does that change with
    pre-training? Every checkpoint is fine-tuned in the same way; its perplexity on pre-training
    text is measured before and after."""

    kind: Literal["fine_tuning"] = "fine_tuning"
    title: ClassVar[str] = "Fine-tuning"
    order: ClassVar[int] = 2
    name_template: ClassVar[str] = "{title} of {suite}, learning rate {rates}, {methods}"
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
        """Yield unperturbed models first and one seed at the ends of both axes.

        Then the values between, more seeds, and interpolations.
        """
        suite = catalogue.suite(self.suite)
        names = self.evaluations or ([suite.evaluation] if suite.evaluation else [])
        if not names:
            raise SpecError(
                "evaluations", f"{suite.name!r} has no evaluation set of its own: name one."
            )
        chosen = choose(suite, self.checkpoints)
        sets = self._datasets(catalogue, list(dict.fromkeys(names)), chosen)
        for replicate in by_replicate(chosen):
            for checkpoint, level in zip(replicate, bisection_levels(len(replicate)), strict=True):
                for dataset in sets.evaluations:
                    yield self._base(checkpoint, dataset, level)
                yield from self._tuned(checkpoint, sets, level)

    def _datasets(
        self, catalogue: Catalogue, evaluations: list[str], chosen: list[Checkpoint]
    ) -> Datasets:
        language = all(checkpoint.tokenizer_sha256 is None for checkpoint in chosen)
        built_in = {"language_modelling": "tiny-redrawn"}.get(self.task, "tiny-sentiment")
        data = evaluation_points.usable_set(
            catalogue, self.data or (built_in if language else "sst2"), "data"
        )
        classes = (
            2
            if data.parameters.get("task") == "sentiment"
            else int(data.parameters.get("classes", 0))
        )
        if language != (data.kind == "language"):
            content = "text" if language else "made of the built-in language's own tokens"
            raise SpecError(
                "data",
                f"{data.name!r} is {content}, which the models of {self.suite!r} cannot read.",
            )
        if (self.task != "language_modelling") and not classes:
            raise SpecError(
                "data",
                f"{data.name!r} has no classes, which {self.task} needs: use language_modelling.",
            )
        if self.task == "language_modelling" and classes and language:
            raise SpecError("data", f"{data.name!r} has classes: use label_words or linear_head.")
        if self.task != "language_modelling" and not language and classes != len(self.label_words):
            raise SpecError(
                "label_words", f"{data.name!r} has {classes} classes: give as many words."
            )
        if self.epochs and data.kind == "language":
            raise SpecError("epochs", f"{data.name!r} is endless: give steps.")
        ewc = None
        if "ewc" in self.methods:
            if not self.ewc_data and not language:
                raise SpecError(
                    "ewc_data",
                    "Name a text like the pre-training data: EWC sees there which weights matter.",
                )
            ewc = evaluation_points.usable_set(
                catalogue, self.ewc_data or "tiny-language", "ewc_data"
            )
        return Datasets(
            data,
            [evaluation_points.usable_set(catalogue, name, "evaluations") for name in evaluations],
            ewc,
        )

    def _base(self, checkpoint: Checkpoint, dataset: Dataset, level: int) -> Point:
        """The loss before; the same measurement as other kinds' base."""
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
        return evaluation_points.evaluation_of(
            checkpoint, dataset, self.window, self.stride, self.precision, "evaluations"
        )

    def _tuned(self, checkpoint: Checkpoint, sets: Datasets, level: int) -> Iterator[Point]:
        """All points of one checkpoint: seed by seed every method and rate, then what else is
        measured on the same weights.
        """
        levels = dict(zip(self.rates, bisection_levels(len(self.rates)), strict=True))
        rank = 0
        for seed in self.seeds:
            for method in dict.fromkeys(self.methods):
                for rate in self.rates:
                    more = sorted(set(self.alphas)) if method == "full" else []
                    cells = [
                        (dataset, alpha) for dataset in sets.evaluations for alpha in (1.0, *more)
                    ]
                    for i, (dataset, alpha) in enumerate(cells):
                        stage = (
                            20 * (rank + (i > 0) * len(self.seeds) * len(self.methods))
                            + level
                            + levels[rate]
                        )
                        yield self._point(
                            checkpoint,
                            sets,
                            dataset,
                            stage,
                            (method, rate, seed, alpha),
                            trains=i == 0,
                        )
                rank += 1

    def _point(
        self,
        checkpoint: Checkpoint,
        sets: Datasets,
        dataset: Dataset,
        stage: int,
        cell: Cell,
        *,
        trains: bool,
    ) -> Point:
        """Return one point.

        trains: it is the first of its fine-tuning; the others find the weights, so that only their
        estimated time differs.
        """
        method, rate, seed, alpha = cell
        base, size = self._base(checkpoint, dataset, 0), checkpoint.num_parameters or 0
        tokens, steps = self.size_of(sets.data)
        seconds = 2 * base.estimated_seconds + trains * steps * (0.005 + 6 * size * tokens / 5e10)
        change = {
            "protocol": "fine_tune/1",
            "task": self.task_inputs(checkpoint, sets.data),
            "recipe": self.recipe_inputs(sets.data, rate),
            "method": self.method_inputs(method, sets.ewc),
            "seed": seed,
            "interpolation": None if alpha == 1 else {"protocol": "wise_ft/1", "alpha": alpha},
        }
        return Point(
            inputs={**base.inputs, "perturbation": change},
            labels={
                **evaluation_points.labels_of(checkpoint),
                **_labels(dataset, method, rate, seed, alpha),
            },
            artifacts={
                **base.artifacts,
                "data": sets.data.model_dump(mode="json"),
                "ewc": sets.ewc.model_dump(mode="json") if sets.ewc and method == "ewc" else None,
            },
            affinity=base.affinity,
            priority_stage=stage,
            estimated_seconds=seconds,
            resources=Resources(
                memory_gb=round(1.5 + (36 if method in ("l2_sp", "ewc") else 24) * size / 1e9, 2)
            ),
        )

    # ---- run

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Fine-tune unless the weights are cached.

        Then measure the new task and forgetting, and restore the pre-trained weights.
        """
        change = point.inputs["perturbation"]
        if change is None:
            return evaluation_points.base(point, context)
        from ucurve.modeling import finetune, finetuned_weights
        from ucurve.modeling.batches import FinetunedModel
        from ucurve.modeling.pretrain import loss_curve

        loaded = evaluation_points.loaded_for(
            point, context
        )  # first: where few things are kept, the one used longest ago makes room
        task = _task(point, context, loaded)
        tuned = _tuned(point, context, loaded, task)
        summary = tuned.summary
        curve = loss_curve(summary.losses, 1)
        metrics = {
            "steps_done": summary.steps,
            "tokens_read": summary.tokens,
            "seconds_training": summary.seconds,
        }
        series: dict[str, Any] = {"training_steps": curve[0], "training_loss": curve[1]}
        if summary.diverged:
            return Result(
                metrics={**metrics, "nll_mean": math.nan, "id_loss": math.nan}, series=series
            )
        alpha = change["interpolation"]["alpha"] if change["interpolation"] else 1.0
        trainee = FinetunedModel(
            loaded.model, finetune.build_head(loaded.model, task.num_classes, change["seed"])
        )
        with finetuned_weights.interpolated(
            finetune.all_parameters(trainee), tuned.weights, alpha
        ) as displacement:
            learned = task.validate(
                trainee,
                point.inputs["precision"]["evaluation"],
                _after(summary.steps, context, 0.0),
            )
            measured = evaluation_points.measure(
                point, context, loaded, _after(summary.steps, context, 0.5)
            )
        return Result(
            metrics={**metrics, **learned, **displacement, **measured.metrics},
            series={**series, **measured.series},
        )

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return table 1, figures 2 to 5, the Pareto front, matched loss, methods, training loss."""
        from ucurve.figures import fine_tuning

        return fine_tuning.figures(table, verdicts, self._design(), self._published())

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return every claim per learning rate and pre-training seed, after its summaries."""
        from ucurve.analysis import fine_tuning_verdicts

        return fine_tuning_verdicts.verdicts(table, self._design(), self._published())

    def _design(self) -> Design:
        from ucurve.analysis.fine_tuning import Design

        return Design(
            rates=self.rates,
            methods=self.methods,
            metric="id_loss" if self.task == "language_modelling" else "accuracy",
            alphas=self.alphas,
            num_evaluations=len(self.evaluations),
            look=self.looks,
        )

    def _published(self) -> list[Reference]:
        """Return published numbers of this suite, task, recipe, rates and evaluation sets."""
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
    return {
        "evaluation": dataset.name,
        "method": method,
        "learning_rate": rate,
        "seed": seed,
        "alpha": alpha,
    }


def _after(steps: int, context: Context, done_before: float) -> Callable[[float, float], None]:
    """Progress of what follows the training: the last tenth of the work, in two halves."""
    return lambda done, total: context.progress(
        steps * (1 + REST * (done_before + done / total / 2)), steps * (1 + REST)
    )


def _task(point: Point, context: Context, loaded: LoadedCheckpoint) -> FinetuningTask:
    """The task with its data read, kept between points."""
    from ucurve.modeling.finetuning_data import build_task

    inputs, data = (
        point.inputs["perturbation"]["task"],
        Dataset.model_validate(point.artifacts["data"]),
    )
    limit = getattr(loaded.model.config, "max_position_embeddings", None) or inputs["context"]
    alive = lambda done, total: context.progress(0, 1)  # noqa: E731
    return context.cached(
        f"task/{canonical(inputs)}/{limit}",
        lambda: build_task(inputs, data, loaded.tokenizer, limit, context.artefacts, alive),
    )


def _tuned(
    point: Point, context: Context, loaded: LoadedCheckpoint, task: FinetuningTask
) -> FinetunedWeights:
    """The fine-tuned weights: those in the folder of everything that determines them, or trained
    now and left there.
    """
    from ucurve.modeling import finetune, finetuned_weights

    change = dict(point.inputs["perturbation"])
    del change["interpolation"]
    identity = hashlib.sha256(
        canonical({"checkpoint": point.inputs["checkpoint"], **change}).encode()
    ).hexdigest()
    folder = (
        context.artefacts
        / "tuned"
        / (f"{identity}-{point.repetition}" if point.repetition else identity)
    )
    with finetuned_weights.exclusive_lock(
        folder, lambda: context.progress(0, 1)
    ):  # who comes meanwhile waits, and finds the weights
        if (tuned := finetuned_weights.read(folder)) is not None:
            return tuned
        recipe = dict(change["recipe"])
        steps = finetune.num_steps_of(recipe.pop("length"), task, recipe["batch_rows"])
        weights = _fisher(point, context, loaded) if "fisher" in change["method"] else None
        how = finetune.FinetuningConfig(num_steps=steps, **recipe)
        tuning = finetune.FinetuningRun(
            loaded.model, task, how, change["method"], change["seed"], weights
        )
        tuned = tuning.run(folder, context.progress, steps * (1 + REST))
        finetuned_weights.write(folder, tuned)
    return tuned


def _fisher(point: Point, context: Context, loaded: LoadedCheckpoint) -> dict[str, torch.Tensor]:
    """EWC's weights of this checkpoint, kept between points."""
    from ucurve.modeling.finetuning_data import pretraining_rows
    from ucurve.modeling.regularizers import fisher

    inputs, data = (
        point.inputs["perturbation"]["method"]["fisher"],
        Dataset.model_validate(point.artifacts["ewc"]),
    )
    rows = pretraining_rows(
        data, loaded.tokenizer, inputs["rows"], inputs["context"], context.artefacts
    )
    alive = lambda done, total: context.progress(0, 1)  # noqa: E731
    key = f"fisher/{canonical([point.inputs['checkpoint'], inputs])}"
    return context.cached(key, lambda: fisher(loaded.model, rows, alive))
