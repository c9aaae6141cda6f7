"""Sharpness: trace and largest eigenvalue of the Hessian, and the loss around a checkpoint.

    {"kind": "sharpness", "suite": "tiny", "draws": 8, "sigmas": [0.001, 0.003, 0.01, 0.03]}

The mechanism that the report gives for fragility: to second order, noise of standard deviation
sigma on every weight costs sigma^2 / 2 times the trace. Both sides are measured along the same
directions of +1 and -1, on the first windows of the evaluation set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ucurve.experiments import evaluation_points, noise_points
from ucurve.experiments.checkpoint_selection import (
    Choice,
    bisection_levels,
    by_replicate,
    choose,
    count_chosen,
    initialisations,
    selection_warnings,
)
from ucurve.experiments.evaluation_fields import EvaluationSets, Window, names_of, on_sets
from ucurve.experiments.sharpness_noise import (
    SCALED_TRACE,
    SCALES,
    noise_beside,
    scaled,
    stds_by_scale,
    unperturbed,
)
from ucurve.experiments.tensor_choice import TensorChoice
from ucurve.registry.suites import Checkpoint, Dataset, Suite
from ucurve.spec import (
    ADVANCED,
    Catalogue,
    Context,
    Figure,
    Looks,
    Name,
    Point,
    Resources,
    Result,
    Spec,
    TableRoles,
    Verdict,
)

if TYPE_CHECKING:
    import pandas as pd

TRACE, EIGENVALUE, RISE = "hessian_trace/1", "hessian_top_eigenvalue/1", "antithetic_rise/1"
STEPS = 30  # of Lanczos' method, as a plan expects them
LARGEST_VOCABULARY = 50_000  # assumed for the memory of models that read texts


class Sharpness(Spec):
    """Does the loss become more sharply curved, the longer a model was pre-trained?

    Trace and largest eigenvalue of the Hessian of every checkpoint, by tensor group, and how much
    the loss really rises when all weights are moved by a small sigma.
    """

    kind: Literal["sharpness"] = "sharpness"
    title: ClassVar[str] = "Sharpness"
    order: ClassVar[int] = 8
    name_template: ClassVar[str] = "{title} of {suite}, σ {sigmas}, {draws} directions{on_sets}"
    repeat_fields: ClassVar[tuple[str, ...]] = ("draws",)
    columns: ClassVar[TableRoles] = TableRoles(
        x="tokens",
        treatment=("sigma", "gamma", "part", "group", "scale"),
        fixed=("evaluation",),
        draws=("draw",),
        seed_field="seed",
        metrics={
            "trace": "trace of the Hessian",
            "top_eigenvalue": "largest eigenvalue of the Hessian",
            **{f"scaled_trace_{scale}": f"Σ σ² vᵀHv, σ of {scale}" for scale in SCALES},
            "curvature": "loss increase / (σ²/2)",
            "rise": "loss increase / nats",
        },
        fields=("checkpoints", "draws", "seed", "sigmas", "noise_gammas", "by_group", "looks"),
    )
    series_filter: ClassVar[dict[str, dict[str, Any]]] = {
        name: {"part": "unperturbed"} for name in evaluation_points.WINDOWS
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny, two minutes": {"suite": "tiny"},
        "tiny, beside measured noise": {"suite": "tiny", "noise_gammas": [0.05, 0.2, 0.5]},
        "tiny-constant, the counter-example": {"suite": "tiny-constant"},
    }

    suite: Name = Field(
        "tiny", description="Name of a registered suite.", json_schema_extra={"widget": "suite"}
    )
    checkpoints: Choice = Field(
        "all",
        description='"all", {"log_spaced": n} per pre-training seed, or a list of revisions. '
        "Step 0 only if listed.",
    )
    draws: int = Field(
        8,
        ge=1,
        le=1000,
        title="Directions",
        description="Random vectors of +1 and −1 per checkpoint, the same for all of them: probes "
        "of the trace, and directions of the noise.",
    )
    sigmas: list[Annotated[float, Field(gt=0, le=10)]] = Field(
        [0.001, 0.003, 0.01, 0.03],
        max_length=16,
        title="Noise σ",
        description="Standard deviations of the noise, the same for every weight. Below 0.001 the "
        "rounding of fp32 shows. Empty: the Hessian only.",
    )
    noise_gammas: list[Annotated[float, Field(gt=0, le=100)]] = Field(
        [],
        max_length=16,
        title="Noise γ beside it",
        description="Also the loss increase under Gaussian noise of these γ, on the whole set and "
        "under both noise scales, beside what the Hessian predicts for it. Noise experiments have "
        "the same evaluations, which are cached where they are measured. Empty: none.",
    )
    windows: int = Field(
        64,
        ge=1,
        le=1 << 16,
        description="Windows of the evaluation set, from its start; all where it has fewer. Cost "
        "is proportional.",
    )
    by_group: bool = Field(
        True,
        title="Eigenvalues by tensor group",
        description="Also the largest eigenvalue of embedding, attention, MLP, norms and "
        "unembedding, each with all others fixed. The trace is always divided among them.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31,
        title="First seed",
        description="Of the directions; later directions increment it.",
        json_schema_extra=ADVANCED,
    )
    evaluation: EvaluationSets = None
    window: Window = None
    tolerance: float = Field(
        1e-3,
        ge=1e-6,
        le=0.5,
        description="Lanczos' method stops when its error bound is below this share of the "
        "eigenvalue.",
        json_schema_extra=ADVANCED,
    )
    most_steps: int = Field(
        100,
        ge=1,
        le=1000,
        description="Most products of the Hessian with a vector per eigenvalue.",
        json_schema_extra=ADVANCED,
    )
    looks: Looks = 1

    @model_validator(mode="before")
    @classmethod
    def _with_one_gamma(cls, data: Any) -> Any:
        """Read `noise_gamma` of specs that could have one only."""
        if not isinstance(data, dict) or "noise_gamma" not in data or "noise_gammas" in data:
            return data
        rest = {name: value for name, value in data.items() if name != "noise_gamma"}
        gamma = data["noise_gamma"]
        return {**rest, "noise_gammas": [] if gamma is None else [gamma]}

    @property
    def sorted_gammas(self) -> list[float]:
        """The gammas of measured noise in ascending order, without duplicates."""
        return sorted(set(self.noise_gammas))

    @property
    def on_sets(self) -> str:
        """The number of evaluation sets for the name, where there are several."""
        return on_sets(self.evaluation)

    @property
    def sorted_sigmas(self) -> list[float]:
        """The sigmas in ascending order, without duplicates."""
        return sorted(set(self.sigmas))

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield the first direction and the eigenvalues of every checkpoint, then more directions.

        First and last checkpoints come first, those between follow by bisection.
        """
        suite = catalogue.suite(self.suite)
        datasets = evaluation_points.usable_sets(catalogue, suite, self.evaluation)
        _choice(suite).check()
        chosen = choose(suite, self.checkpoints)
        for dataset in datasets:
            evaluation_points.expect_one_curve(chosen, dataset, self.window)
        groups = self._groups(suite)
        initial = {c.replicate: c for c in initialisations(suite)}
        for replicate in by_replicate(chosen):
            levels = bisection_levels(len(replicate))
            for (checkpoint, level), dataset in product(
                zip(replicate, levels, strict=True), datasets
            ):
                label = evaluation_points.label_of(dataset, datasets)
                template = _labelled(self._template(checkpoint, dataset, level), label)
                start = initial.get(checkpoint.replicate)
                for point in self._points(template, groups, max(levels) + 1):
                    wanted = self.noise_gammas and point.labels["part"] == "trace"
                    yield scaled(point, start) if wanted else point
                if self.noise_gammas:
                    if start is None:
                        evaluation_points.require_initializer(checkpoint, "noise_gammas")
                    base = unperturbed(checkpoint, dataset, self.window, level)
                    base = _labelled(base, label)
                    yield base
                    seeds = range(self.seed, self.seed + self.draws)
                    yield from noise_beside(base, _choice(suite), start, self.sorted_gammas, seeds)

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points: directions with their sigmas, and eigenvalues."""
        suite = catalogue.suite(self.suite)
        per_checkpoint = self.draws * (1 + len(self.sorted_sigmas)) + len(self._groups(suite))
        if self.noise_gammas:
            per_checkpoint += 1 + len(SCALES) * self.draws * len(self.sorted_gammas)
        num_sets = len(names_of(self.evaluation)) or 1
        return count_chosen(suite, self.checkpoints) * num_sets * per_checkpoint

    def warnings(self, catalogue: Catalogue) -> list[str]:
        """Return which checkpoints and tensor groups are left out."""
        suite = catalogue.suite(self.suite)
        return [
            *selection_warnings(suite, self.checkpoints),
            *_choice(suite).warnings(self.by_group),
        ]

    def _groups(self, suite: Suite) -> list[str | None]:
        """Return the tensor groups whose eigenvalue is wanted; None stands for all tensors."""
        return [None, *(_choice(suite).groups("current_std") if self.by_group else [])]

    def _points(
        self, template: Point, groups: Sequence[str | None], num_levels: int
    ) -> Iterator[Point]:
        for draw in range(self.draws):
            seed, stage = self.seed + draw, draw * num_levels + template.priority_stage
            yield _changed(template, TRACE, {"seed": seed}, "trace", stage, draw=draw)
            for sigma in self.sorted_sigmas:
                change = {"seed": seed, "sigma": sigma}
                yield _changed(template, RISE, change, "noise", stage, draw=draw, sigma=sigma)
            if draw == 0:
                yield from self._eigenvalues(template, groups)

    def _eigenvalues(self, template: Point, groups: Sequence[str | None]) -> Iterator[Point]:
        num = template.artifacts["checkpoint"]["num_parameters"] or 0
        for group in groups:
            change = {
                "seed": self.seed,
                "group": group,
                "method": "lanczos",
                "tolerance": self.tolerance,
                "most_steps": self.most_steps,
            }
            point = _changed(
                template, EIGENVALUE, change, "eigenvalue", template.priority_stage, group=group
            )
            vectors = 4 * num * min(self.most_steps, STEPS) / 1e9
            yield replace(
                point,
                estimated_seconds=STEPS * template.estimated_seconds,
                resources=Resources(memory_gb=round(template.resources.memory_gb + vectors, 2)),
            )

    def _template(self, checkpoint: Checkpoint, dataset: Dataset, level: int) -> Point:
        """Return what the points of a checkpoint have in common, with the cost of one product."""
        read = evaluation_points.evaluation_of(checkpoint, dataset, self.window, None, "fp32")
        window = read["evaluation"]["window"]
        num = checkpoint.num_parameters or 0
        logits = 0.0 if dataset.kind == "language" else 32e-9 * window * LARGEST_VOCABULARY
        return Point(
            inputs={
                "checkpoint": evaluation_points.weights_of(checkpoint),
                **read,
                "evaluation": {**read["evaluation"], "first_windows": self.windows},
            },
            labels=evaluation_points.labels_of(checkpoint),
            artifacts={
                "checkpoint": checkpoint.model_dump(mode="json"),
                "dataset": dataset.model_dump(mode="json"),
            },
            affinity=checkpoint.weights_sha256 or "",
            priority_stage=level,
            # Two passes forwards and backwards, the second through the first.
            estimated_seconds=0.02 + 6 * self.windows * window * (2e-6 + 2 * num / 5e10),
            resources=Resources(memory_gb=round(0.6 + 32 * num / 1e9 + logits, 2)),
        )

    # ---- run

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Measure a quadratic form, an eigenvalue, or the loss on both sides of a checkpoint."""
        if "curvature" not in point.inputs:
            return noise_points.run(point, context)
        from ucurve.modeling.curvature import Directions
        from ucurve.modeling.landscape import Landscape

        change, evaluation = point.inputs["curvature"], point.inputs["evaluation"]
        if change["protocol"] not in (TRACE, SCALED_TRACE, EIGENVALUE, RISE):
            raise ValueError(f"this release does not know {change['protocol']}: upgrade the worker")
        loaded = evaluation_points.loaded_for(point, context)
        evaluation_points.expect_stored_names(point, context, loaded)
        tokens = evaluation_points.tokens_for(point, context, loaded)
        window = evaluation["window"]
        landscape = Landscape.of(
            loaded.model, tokens[: evaluation["first_windows"] * window], window
        )
        seed, progress = change["seed"], context.progress
        directions = context.cached(f"directions/{seed}", lambda: Directions(seed))
        if change["protocol"] == TRACE:
            return Result(landscape.quadratic_form(directions, progress))
        if change["protocol"] == SCALED_TRACE:
            stds = stds_by_scale(point, context, loaded)
            return Result(landscape.quadratic_form(directions, progress, stds))
        if change["protocol"] == EIGENVALUE:
            rule = change["tolerance"], change["most_steps"]
            group = change["group"]
            return Result(landscape.top_eigenvalue(directions, group, *rule, progress))
        key = f"losses/{point.inputs['checkpoint']}/{evaluation}"
        base = context.cached(key, landscape.losses)
        return Result(*landscape.antithetic_rise(directions, change["sigma"], base, progress))

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return curvature over tokens, by tensor group, and the end of the quadratic regime."""
        from ucurve.figures import evaluation_sets, sharpness

        return evaluation_sets.figures(
            table,
            verdicts,
            lambda rows, *_: sharpness.figures(rows, self.sorted_sigmas, self.sorted_gammas),
        )

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return whether the trace grows, and whether it explains the smallest noise."""
        from ucurve.analysis import evaluation_sets, sharpness_verdicts

        return evaluation_sets.verdicts(
            table,
            lambda rows, _: sharpness_verdicts.verdicts(rows, self.looks, self.sorted_gammas),
        )


def _choice(suite: Suite) -> TensorChoice:
    """Return all tensors of a suite's models."""
    return TensorChoice(suite, "all", [], [])


def _labelled(point: Point, labels: Mapping[str, str]) -> Point:
    return replace(point, labels={**point.labels, **labels})


def _changed(
    template: Point, protocol: str, change: dict[str, Any], part: str, stage: int, **labels: Any
) -> Point:
    """Return the point of one protocol; a label that it has no value for is None."""
    full = {
        "protocol": protocol,
        "directions": "signs of gaussian/1",
        "names": "canonical",
        "attention": "plain",
        **change,
    }
    rest = {"draw": None, "sigma": 0.0, "group": None, **labels}
    return replace(
        template,
        inputs={**template.inputs, "curvature": full},
        labels={**template.labels, "part": part, **rest},
        priority_stage=stage,
    )
