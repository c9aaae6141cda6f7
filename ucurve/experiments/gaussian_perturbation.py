"""Gaussian perturbation (experiment I, figures 1a and 1b): the loss before and after weight noise.

    {"kind": "gaussian_perturbation", "suite": "tiny", "gammas": [0.1, 0.2, 0.3], "draws": 8}

Every tensor of every checkpoint becomes theta' = theta + gamma * sigma * eps. All checkpoints,
gammas and noise scales share the eps of a noise seed. With `init_std` and gamma 0.2, the models of
`tiny` after 14.3M tokens are worse than those after 3.5M tokens: a U-curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

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
from ucurve.experiments.evaluation_fields import EvaluationSets, Stride, Window, names_of, on_sets
from ucurve.experiments.noise_points import MOST_DRAWS, SCALES, Scale
from ucurve.experiments.tensor_choice import TensorChoice
from ucurve.registry.suites import Checkpoint, Dataset, Suite
from ucurve.spec import (
    ADVANCED,
    Catalogue,
    Context,
    Figure,
    Looks,
    Name,
    Pattern,
    Point,
    Resources,
    Result,
    Spec,
    TableRoles,
    Verdict,
)

if TYPE_CHECKING:
    import pandas as pd

    from ucurve.analysis.replication import Reference

Gamma = Annotated[float, Field(gt=0, le=100)]


class GaussianPerturbation(Spec):
    """Does the same noise hurt a model more, the longer it was pre-trained?

    Gaussian noise is added to the weights of every checkpoint, with standard deviation gamma times
    that of each tensor, and perplexity is measured before and after.
    """

    kind: Literal["gaussian_perturbation"] = "gaussian_perturbation"
    title: ClassVar[str] = "Gaussian perturbation"
    order: ClassVar[int] = 1
    name_template: ClassVar[str] = "{title} of {suite}, γ {gammas}, {draws} noise seeds{on_sets}"
    repeat_fields: ClassVar[tuple[str, ...]] = ("draws",)
    columns: ClassVar[TableRoles] = TableRoles(
        x="tokens",
        treatment=("gamma", "scale", "group"),
        baseline={"gamma": 0.0},
        fixed=("evaluation",),
        draws=("draw",),
        seed_field="seed",
        metrics={"nll_mean": "loss / nats", "relative_change": "relative change of the weights"},
        fields=(
            "checkpoints",
            "gammas",
            "draws",
            "seed",
            "noise_seeds",
            "scale",
            "by_group",
            "by_layer",
            "group_gamma",
            "looks",
        ),
    )
    series_filter: ClassVar[dict[str, dict[str, Any]]] = {
        name: {"gamma": 0.0} for name in evaluation_points.WINDOWS
    }
    opens_with: ClassVar[str | None] = "tiny, two minutes"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny, two minutes": {"suite": "tiny", "gammas": [0.1, 0.2, 0.3], "draws": 8},
        "tiny-constant, the counter-example": {
            "suite": "tiny-constant",
            "gammas": [0.1, 0.2, 0.3],
            "draws": 8,
        },
        "tiny on two evaluation sets: known facts, other facts": {
            "suite": "tiny",
            "gammas": [0.2],
            "draws": 8,
            "evaluation": ["tiny-held-out", "tiny-redrawn-held-out"],
        },
        "novels, real English": {
            "suite": "novels",
            "gammas": [0.05, 0.1, 0.2, 0.3],
            "draws": 8,
        },
        "tiny-seeds: what would the next pre-training run do?": {
            "suite": "tiny-seeds",
            "gammas": [0.1, 0.2, 0.3],
            "draws": 5,
            "noise_seeds": "per_replicate",
        },
        "the report: five checkpoints of Pythia-70M": {
            "suite": "pythia-70m",
            "checkpoints": ["step1000", "step4000", "step16000", "step64000", "step143000"],
            "scale": "current_std",
            "evaluation": "wikitext-2",
        },
    }

    suite: Name = Field(
        "tiny", description="Name of a registered suite.", json_schema_extra={"widget": "suite"}
    )
    checkpoints: Choice = Field(
        "all",
        description='"all", {"log_spaced": n} per pre-training seed, or a list of revisions. '
        "Step 0 only if listed.",
    )
    gammas: list[Gamma] = Field(
        [0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1],
        min_length=1,
        max_length=32,
        description="Noise levels, as fractions of sigma. For the built-in suites: 0.05 to 0.3.",
    )
    draws: int = Field(
        8,
        ge=1,
        le=MOST_DRAWS,
        title="Noise seeds",
        description="Per checkpoint and gamma, the same for all of them.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31,
        title="First noise seed",
        description="Later noise seeds increment it.",
        json_schema_extra=ADVANCED,
    )
    noise_seeds: Literal["shared", "per_replicate"] = Field(
        "shared",
        title="Noise of pre-training seeds",
        description="shared: the same noise seeds for all pre-training seeds. per_replicate: "
        f"pre-training seed r begins {MOST_DRAWS} r later, so that no noise is in two of them.",
        json_schema_extra=ADVANCED,
    )
    scale: Literal["both", "all", "current_std", "init_std", "matched_displacement"] = Field(
        "both",
        title="Noise scale",
        description="Definition of sigma. current_std: standard deviation of the tensor's current "
        "weights, so that noise grows with them. init_std: that at initialisation, the same for "
        "all checkpoints. both: these two; a result under both is not explained by growth of the "
        "weights alone. matched_displacement: one sigma for all matrices, such that they move by "
        "gamma times their length. all: all three.",
    )
    tensors: Literal["all", "matrices"] = Field(
        "all", description="matrices: without biases and gains of norms."
    )
    include: list[Pattern] = Field(
        [],
        max_length=50,
        description='Only parameters that match, such as "*.attention.*", by the names in the '
        "checkpoint's files or those of transformers.",
        json_schema_extra=ADVANCED,
    )
    exclude: list[Pattern] = Field(
        [],
        max_length=50,
        description='No parameters that match, such as "*embed*".',
        json_schema_extra=ADVANCED,
    )
    by_group: bool = Field(
        False,
        title="By tensor group",
        description="Also perturb embedding, attention, mixers, MLP, norms and unembedding "
        "separately, as far as the model has them.",
        json_schema_extra=ADVANCED,
    )
    by_layer: bool = Field(
        False,
        title="Layer by layer",
        description="Also perturb every layer separately, and embedding, final norm and "
        "unembedding: a heat map over tokens and layers.",
        json_schema_extra=ADVANCED,
    )
    group_gamma: Gamma | None = Field(
        None,
        description="Gamma by tensor group and by layer. Default: the middle one of the gammas.",
        json_schema_extra=ADVANCED,
    )
    evaluation: EvaluationSets = None
    window: Window = None
    stride: Stride = None
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Of the evaluation; weights and noise are fp32. bf16 hides gammas below "
        "about 0.01.",
        json_schema_extra=ADVANCED,
    )
    looks: Looks = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stride and self.window and self.stride > self.window:
            raise ValueError(
                "stride must not be larger than window, or tokens between windows would be skipped"
            )
        return self

    @property
    def on_sets(self) -> str:
        """The number of evaluation sets for the name, where there are several."""
        return on_sets(self.evaluation)

    @property
    def scales(self) -> tuple[Scale, ...]:
        """The noise scales to measure, that of the paper first."""
        if self.scale == "all":
            return SCALES
        return SCALES[:2] if self.scale == "both" else (self.scale,)

    @property
    def sorted_gammas(self) -> list[float]:
        """The gammas in ascending order, without duplicates."""
        return sorted(set(self.gammas))

    @property
    def one_gamma(self) -> float:
        """The gamma at which tensor groups and layers are perturbed separately."""
        return self.group_gamma or self.sorted_gammas[len(self.sorted_gammas) // 2]

    def _choice(self, suite: Suite) -> TensorChoice:
        """Return which tensors of a suite's models get noise."""
        return TensorChoice(suite, self.tensors, self.include, self.exclude)

    def _cells(self, choice: TensorChoice) -> list[tuple[Scale, float, str | None]]:
        """Return noise scale, gamma and part of the model (None: all) of every change."""
        cells: list[tuple[Scale, float, str | None]] = [
            (s, g, None) for s in self.scales for g in self.sorted_gammas
        ]
        for scale in self.scales:
            groups = choice.groups(scale) if self.by_group else []
            layers = choice.parts(scale) if self.by_layer else []  # the embedding is in both
            cells += [(scale, self.one_gamma, p) for p in dict.fromkeys([*groups, *layers])]
        return cells

    def first_seed(self, labels: Mapping[str, Any]) -> int:
        """Return the first noise seed at a point: that of its pre-training seed, or of all."""
        apart = MOST_DRAWS if self.noise_seeds == "per_replicate" else 0
        return self.seed + apart * int(labels.get("replicate") or 0)

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield the unperturbed models and the first noise seed, then further noise seeds.

        First and last checkpoints come first, those between follow by bisection.
        """
        suite = catalogue.suite(self.suite)
        datasets = evaluation_points.usable_sets(catalogue, suite, self.evaluation)
        initial = {c.replicate: c for c in initialisations(suite)}
        choice = self._choice(suite)
        choice.check()
        if "matched_displacement" in self.scales:
            choice.expect_matrices()
        cells = [(*cell, choice.inputs(cell[-1])) for cell in self._cells(choice)]
        chosen = choose(suite, self.checkpoints)
        for dataset in datasets:
            evaluation_points.expect_one_curve(chosen, dataset, self.window)
        for replicate in by_replicate(chosen):
            levels = bisection_levels(len(replicate))
            for checkpoint, level in zip(replicate, levels, strict=True):
                yield from self._points(
                    [self._unperturbed(checkpoint, each, datasets, level) for each in datasets],
                    checkpoint,
                    initial.get(checkpoint.replicate),
                    cells,
                    max(levels) + 1,
                )

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points: per checkpoint and set one unperturbed and all changes."""
        suite = catalogue.suite(self.suite)
        num_cells = len(self._cells(self._choice(suite))) * self.draws
        num_sets = len(names_of(self.evaluation)) or 1
        return count_chosen(suite, self.checkpoints) * num_sets * (1 + num_cells)

    def warnings(self, catalogue: Catalogue) -> list[str]:
        """Return which checkpoints are left out, which tensor groups the model has not, and what
        cannot be checked yet.
        """
        suite = catalogue.suite(self.suite)
        choice = self._choice(suite)
        return [
            *selection_warnings(suite, self.checkpoints),
            *choice.warnings(self.by_group),
            *(choice.layer_warnings() if self.by_layer else []),
        ]

    def _points(
        self,
        unperturbed: Sequence[Point],
        checkpoint: Checkpoint,
        initial: Checkpoint | None,
        cells: Sequence[tuple[Scale, float, str | None, dict[str, Any]]],
        num_levels: int,
    ) -> Iterator[Point]:
        """Yield the points of one checkpoint: unperturbed, then all changes by noise seed.

        unperturbed: on every evaluation set. Those of one change follow one another, so that a
        worker has its checkpoint and noise at hand.
        """
        if "init_std" in self.scales and initial is None:
            evaluation_points.require_initializer(checkpoint, "scale")
        yield from unperturbed
        resources = Resources(memory_gb=round(0.5 + 12 * (checkpoint.num_parameters or 0) / 1e9, 2))
        # What all points of a scale or group have in common is made once, and shared by them.
        first = initial and initial.model_dump(mode="json")
        measured = [
            (replace(point, resources=resources), {**point.artifacts, "initial": first})
            for point in unperturbed
        ]
        for draw in range(self.draws):
            for (scale, gamma, group, tensors), (before, at_start) in product(cells, measured):
                seed = self.first_seed(before.labels) + draw
                change = noise_points.noise_inputs(tensors, scale, initial, gamma, seed)
                labels = {"gamma": gamma, "scale": scale, "draw": draw, "group": group or "all"}
                yield replace(
                    before,
                    inputs={**before.inputs, "perturbation": change},
                    labels={**before.labels, **labels},
                    artifacts=at_start if scale == "init_std" else before.artifacts,
                    priority_stage=draw * num_levels + before.priority_stage,
                )

    def _unperturbed(
        self, checkpoint: Checkpoint, dataset: Dataset, datasets: Sequence[Dataset], level: int
    ) -> Point:
        """Return the point of the unperturbed model on one of the evaluation sets."""
        evaluation = evaluation_points.evaluation_of(
            checkpoint, dataset, self.window, self.stride, self.precision
        )
        size = checkpoint.num_parameters or 0
        return Point(
            inputs={
                "checkpoint": evaluation_points.weights_of(checkpoint),
                "perturbation": None,
                **evaluation,
            },
            labels={
                **evaluation_points.labels_of(checkpoint),
                **evaluation_points.label_of(dataset, datasets),
                "gamma": 0.0,
                "scale": None,
                "draw": None,
                "group": None,
            },
            artifacts={
                "checkpoint": checkpoint.model_dump(mode="json"),
                "initial": None,
                "dataset": dataset.model_dump(mode="json"),
            },
            affinity=checkpoint.weights_sha256 or "",
            priority_stage=level,
            estimated_seconds=evaluation_points.seconds_of(checkpoint, dataset),
            resources=Resources(memory_gb=round(0.5 + 4 * size / 1e9, 2)),
        )

    # ---- run

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Load the checkpoint, perturb and evaluate it, and restore its weights."""
        return noise_points.run(point, context)

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return perplexity and its change over tokens in nats, heat map, table, single parts."""
        from ucurve.figures import evaluation_sets

        return evaluation_sets.figures(table, verdicts, self._figures, once=("weights",))

    def _figures(
        self, table: pd.DataFrame, verdicts: Sequence[Verdict], evaluation: str
    ) -> dict[str, Figure]:
        """Return the figures of one evaluation set; evaluation: its name where there are others."""
        from ucurve.analysis.gaussian_perturbation import comparable_rows
        from ucurve.analysis.replication import compare
        from ucurve.figures import gaussian_perturbation
        from ucurve.figures.noise_seeds import noise_text
        from ucurve.figures.published import with_references

        replicates = sorted(set(table["replicate"])) if "replicate" in table else []
        firsts = {name: self.first_seed({"replicate": name}) for name in replicates}
        figures = gaussian_perturbation.figures(
            table,
            verdicts,
            self.sorted_gammas,
            self.one_gamma if self.by_group else None,
            self.one_gamma if self.by_layer else None,
            noise_text(firsts, self.draws),
        )
        references = self._published(evaluation)
        if not references:
            return figures
        return with_references(figures, references, compare(references, comparable_rows(table)))

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return the verdicts per gamma, noise scale and pre-training seed after the summaries."""
        from ucurve.analysis import evaluation_sets, gaussian_perturbation

        return evaluation_sets.verdicts(
            table,
            lambda rows, evaluation: gaussian_perturbation.verdicts(
                rows,
                self.looks,
                self._published(evaluation),
                shared=self.noise_seeds == "shared",
            ),
        )

    def _published(self, evaluation: str) -> list[Reference]:
        """Return the published numbers that this spec can replicate on an evaluation set."""
        from ucurve.analysis import replication

        protocol = ("tensors", "include", "exclude")
        own = all(
            getattr(self, name) == type(self).model_fields[name].get_default() for name in protocol
        )
        if not own or {self.window, self.stride} - {None, evaluation_points.WINDOW}:
            return []
        measured = {"gamma": self.gammas, "scale": self.scales}
        return [
            reference
            for reference in replication.builtin(
                self.suite, evaluation or next(iter(names_of(self.evaluation)), None)
            )
            if all(value in measured.get(name, []) for name, value in reference.labels.items())
        ]
