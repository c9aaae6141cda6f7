"""Interventions in pre-training: another way of training for the last part of the budget.

    {"kind": "interventions", "suite": "mine", "interventions": ["sharpness_aware", "constant"]}

Every run of a budget and pre-training seed is trained up to `branch_at` of its steps; there it
branches, once without an intervention and once with each. All branches are saved, each intervention
as a suite of its own ("mine-none", "mine-sharpness-aware"), and measured before and after the same
noise: does an intervention keep the base and bend the U?
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ucurve.experiments.intervention_fields import CONTROL, BranchFields
from ucurve.experiments.noise_points import MOST_DRAWS
from ucurve.experiments.pretraining_fields import OptimiserFields
from ucurve.formatting import file_size
from ucurve.registry.suites import Dataset
from ucurve.spec import (
    Catalogue,
    Context,
    Figure,
    Looks,
    Point,
    Result,
    SpecError,
    TableRoles,
    Verdict,
    canonical,
)

if TYPE_CHECKING:
    import pandas as pd

# Noise in every parameter, by the names that these models' files have.
NOISE: dict[str, Any] = {
    "protocol": "gaussian/1",
    "tensors": {"which": "all", "include": [], "exclude": [], "group": None},
}
SECONDS_PER_TOKEN = 3e-6  # of an evaluation on one CPU core, for small models


class Interventions(OptimiserFields, BranchFields):
    """Does a change in the last part of pre-training keep the base and bend the U?

    Every run branches: it continues as before, and once with each intervention. Branches are
    compared at equal tokens, seed by pre-training seed, before and after the same noise.
    """

    kind: Literal["interventions"] = "interventions"
    title: ClassVar[str] = "Interventions in pre-training"
    order: ClassVar[int] = 9
    name_template: ClassVar[str] = "{title} of {suite}: {interventions}"
    columns: ClassVar[TableRoles] = TableRoles(
        x="tokens",
        treatment=("intervention",),
        baseline={"intervention": CONTROL},
        metrics={"nll_mean": "loss / nats"},
        fields=("steps", "seeds", "interventions", "looks"),
    )
    repeatable: ClassVar[bool] = False
    repeat_fields: ClassVar[tuple[str, ...]] = ("seeds",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny's recipe, five minutes": {},
        "constant rate, then annealed or averaged": {
            "suite": "my-constant-rate",
            "schedule": "constant",
            "weight_decay": 0.0,
            "interventions": ["anneal", "weight_average"],
        },
    }

    suite: str = Field(
        "my-interventions",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$",
        max_length=60,
        title="Prefix of the suites",
        description="Each intervention becomes a suite, such as my-interventions-none. Another "
        "prefix trains again, even with the same recipe.",
    )
    looks: Looks = 1

    @model_validator(mode="after")
    def _check_branches(self) -> Self:
        if any(b <= a for a, b in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError("steps must ascend")
        for name in ("seeds", "interventions", "gammas"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must differ")
        first = self.branch_step(self.steps[0])
        if not max(1, self.warmup_steps) <= first < self.steps[0]:
            raise ValueError(
                f"the shortest run of {self.steps[0]} steps would branch after {first} of them, "
                f"which must be after the {self.warmup_steps} warm-up steps and before its end: "
                "change steps, branch_at or warmup_steps"
            )
        size = 4 * self.num_parameters(self.vocabulary) * len(self.seeds) * (len(self.steps) + 1)
        if size * len(self.branches) > 2e12:
            raise ValueError(
                f"the suites would take {file_size(size * len(self.branches))}: use fewer branches "
                "or a smaller model"
            )
        return self

    def suite_of(self, intervention: str) -> str:
        """Return the name of the suite of an intervention."""
        return f"{self.suite}-{intervention.replace('_', '-')}"

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield one point per budget, branch and seed, short runs first.

        Neighbours are of different seeds, so that two workers begin with different trunks.
        """
        data, evaluation, tokenizer = self.datasets_of(catalogue)
        if evaluation is None:
            raise SpecError(
                "evaluation",
                "Name a registered held-out text: the loss under noise is measured on it.",
            )
        trained = {
            (steps, branch, seed): self._training(data, evaluation, tokenizer, seed, steps, branch)
            for steps in self.steps
            for branch in self.branches
            for seed in self.seeds
        }
        recipes = {
            branch: self._recipe(catalogue, training)
            for (_, branch, _), training in trained.items()
        }
        named = {"dataset": data, "evaluation": evaluation, "tokenizer": tokenizer}
        source = {
            name: dataset and dataset.model_dump(mode="json") for name, dataset in named.items()
        }
        for (steps, branch, seed), training in trained.items():
            at = training["branch"]["at"]
            read = at if branch == "early_stop" else steps
            yield Point(
                inputs={**training, "noise": self._noise(seed)},
                labels={
                    "suite": training["suite"],
                    "intervention": branch,
                    "replicate": seed,
                    "step": read,
                    "tokens": read * self.tokens_per_step(),
                    "budget": steps * self.tokens_per_step(),
                },
                artifacts={**source, "recipe": recipes[branch]},
                affinity=f"interventions/{data.sha256}/{seed}/{steps}",
                priority_stage=self.steps.index(steps),
                estimated_seconds=self._seconds(data, evaluation, steps, branch),
                resources=self.resources_of(data),
            )

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points, one per budget, branch and seed."""
        return len(self.steps) * len(self.branches) * len(self.seeds)

    def warnings(self, catalogue: Catalogue) -> list[str]:
        """Return what the plan cannot compare."""
        messages = []
        if len(self.seeds) < 3:
            messages.append(
                "seeds: pre-training seeds are the replicates of all verdicts; with fewer than 3, "
                "only large differences are answered."
            )
        if len(self.steps) < 2:
            messages.append("steps: a single budget has no U to bend.")
        return messages

    def _training(
        self,
        data: Dataset,
        evaluation: Dataset,
        tokenizer: Dataset | None,
        seed: int,
        num_steps: int,
        branch: str,
    ) -> dict[str, Any]:
        """Return everything that determines the weights of a branch."""
        at = self.branch_step(num_steps)
        saved = at if branch == "early_stop" else num_steps
        return {
            "protocol": "intervention/1",
            "suite": self.suite_of(branch),
            **self.run_inputs(data, evaluation, tokenizer, seed, num_steps),
            "keep": [0, saved] if num_steps == self.steps[0] else [saved],
            "branch": {
                "at": at,
                "intervention": branch,
                "strength": self.strength_of(branch),
            },
        }

    def _recipe(self, catalogue: Catalogue, training: dict[str, Any]) -> str:
        """Return the hash of a suite's recipe, to which seeds and budgets can be added.

        Raises SpecError where a suite of the name has another one.
        """
        fixed = {name: training[name] for name in ("protocol", "suite", "data")}
        fixed["recipe"] = {k: v for k, v in training["recipe"].items() if k != "num_steps"}
        fixed["branch"] = {**training["branch"], "at": self.branch_at}
        recipe = hashlib.sha256(canonical(fixed).encode()).hexdigest()
        existing = catalogue.find_suite(training["suite"])
        if existing is not None and existing.recipe != recipe:
            raise SpecError(
                "suite",
                f"A suite named {existing.name!r} exists with another recipe: choose another "
                "prefix.",
            )
        return recipe

    def _noise(self, seed: int) -> dict[str, Any]:
        """Return the noise that a branch of a pre-training seed is measured with."""
        return {
            **NOISE,
            "scales": self.scales,
            "gammas": sorted(self.gammas),
            "seeds": [MOST_DRAWS * seed + draw for draw in range(self.draws)],
            "loss": "perplexity/1",
        }

    def _seconds(self, data: Dataset, evaluation: Dataset, num_steps: int, branch: str) -> float:
        """Estimate the seconds of a point; the control is the first to need the trunk."""
        at = self.branch_step(num_steps)
        updates = {CONTROL: num_steps, "sharpness_aware": 2 * (num_steps - at), "early_stop": 0}
        tokens = int(evaluation.parameters.get("rows", 1024)) * int(
            evaluation.parameters.get("context", 64)
        )
        if evaluation.kind == "text":
            tokens = int((evaluation.size_bytes or 1e6) / 4.5)
        evaluations = 1 + self.draws * len(self.gammas) * len(self.scales)
        seconds = updates.get(branch, num_steps - at) * self.seconds_per_step(data)
        per_token = SECONDS_PER_TOKEN + 2 * self.size_of(data) / 5e10
        return 0.1 + seconds + evaluations * tokens * per_token

    # ---- run

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Train the branch, save it, and measure it before and after noise."""
        from ucurve.experiments import interventions_run

        return interventions_run.run(point, context)

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return base loss and loss increase over tokens, and the plane of their changes."""
        from ucurve.figures import interventions

        return interventions.figures(table, self.branches, self.scales, sorted(self.gammas))

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return whether each intervention keeps the base, and whether it bends the U."""
        from ucurve.analysis import intervention_verdicts

        return intervention_verdicts.verdicts(table, self.branches, self.looks)
