"""Pre-training: create a suite, as one annealed run per budget (the paper) or as a single run.

    {"kind": "pretraining", "suite": "mine", "steps": [437, 875, 1750], "seeds": [0]}

This spec trains three models of 46,592 parameters on the built-in language. It registers the suite
"mine" with a step-0 checkpoint and one checkpoint per budget, for all other experiment types.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ucurve.experiments.pretraining_fields import ModelFields, OptimiserFields, Seed, Step
from ucurve.formatting import file_size
from ucurve.spec import (
    Catalogue,
    Context,
    Figure,
    Point,
    Result,
    SpecError,
    TableRoles,
    Verdict,
    canonical,
)

if TYPE_CHECKING:
    import pandas as pd


class Budgets(ModelFields):
    """How many runs there are, how long they are, and what they save."""

    protocol: Literal["run_per_budget", "one_run"] = Field(
        "run_per_budget",
        description="One annealed run per number of steps (the paper), or one run with "
        "checkpoints.",
    )
    steps: list[Step] = Field(
        [437, 875, 1750, 3500, 7000],
        min_length=1,
        max_length=64,
        description="Ascending: the budgets of the runs, or the checkpoints of the one run.",
    )
    seeds: list[Seed] = Field(
        [0],
        min_length=1,
        max_length=16,
        description="Pre-training seeds of initial weights and order of the data; one replicate "
        "each.",
    )
    keep_initial: bool = Field(
        True,
        title="Keep step 0",
        description="Also save the weights before training; noise relative to initialisation "
        "(init_std) needs them.",
    )


class Pretraining(OptimiserFields, Budgets):
    """Create a suite: GPT-NeoX models trained from scratch, saved after different token counts.

    The most important choice is the protocol: separate runs, each annealed to zero, or one run
    whose checkpoints also differ in learning rate.
    """

    kind: Literal["pretraining"] = "pretraining"
    title: ClassVar[str] = "Pre-training"
    order: ClassVar[int] = 4
    name_template: ClassVar[str] = "{title} of {suite}"
    columns: ClassVar[TableRoles] = TableRoles(
        "tokens", metrics={"nll_mean": "loss / nats"}, fields=("steps", "seeds")
    )
    repeatable: ClassVar[bool] = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "like tiny: separate annealed runs, weight decay": {"seeds": [0, 1]},
        "like tiny-constant: one run, constant rate, no decay": {
            "protocol": "one_run",
            "schedule": "constant",
            "weight_decay": 0.0,
            "steps": [128, 256, 512, 1024, 2048, 4096, 8192, 14000],
        },
    }

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(b <= a for a, b in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError("steps must ascend")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds must differ")
        if self.warmup_steps >= self._runs[0][0]:
            raise ValueError(
                f"warmup_steps must be fewer than the {self._runs[0][0]} steps of the shortest run"
            )
        size = 4 * self.num_parameters(self.vocabulary) * len(self.seeds) * (len(self.steps) + 1)
        if size > 2e12:
            raise ValueError(
                f"the suite would take {file_size(size)}: use fewer checkpoints or a smaller model"
            )
        return self

    @property
    def _runs(self) -> list[tuple[int, list[int]]]:
        """(length, steps to save) of every run of a seed; the first one also saves step 0."""
        first = [0] * self.keep_initial
        if self.protocol == "one_run":
            return [(self.steps[-1], first + self.steps)]
        return [
            (self.steps[0], [*first, self.steps[0]]),
            *((step, [step]) for step in self.steps[1:]),
        ]

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield one point per seed and run, short runs first."""
        data, evaluation, tokenizer = self.datasets_of(catalogue)
        inputs = [
            {
                "protocol": "pretrain/1",
                "suite": self.suite,
                **self.run_inputs(data, evaluation, tokenizer, seed, num_steps),
                "keep": keep,
            }
            for seed in self.seeds
            for num_steps, keep in self._runs
        ]
        recipe = hashlib.sha256(canonical(inputs).encode()).hexdigest()
        existing = catalogue.find_suite(self.suite)
        if existing is not None and existing.recipe != recipe:
            raise SpecError(
                "suite",
                f"A suite named {self.suite!r} exists with another recipe: choose another name.",
            )
        named = {"dataset": data, "evaluation": evaluation, "tokenizer": tokenizer}
        source = {
            name: dataset and dataset.model_dump(mode="json") for name, dataset in named.items()
        }
        runs = [run[0] for run in self._runs]
        for point in inputs:
            num_steps = point["recipe"]["num_steps"]
            yield Point(
                inputs=point,
                labels={
                    "suite": self.suite,
                    "replicate": point["seed"],
                    "step": num_steps,
                    "tokens": num_steps * self.tokens_per_step(),
                },
                artifacts={**source, "recipe": recipe},
                affinity=f"pretraining/{data.sha256}",
                priority_stage=runs.index(num_steps),
                estimated_seconds=num_steps * self.seconds_per_step(data),
                resources=self.resources_of(data),
            )

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points, one per seed and run."""
        return len(self.seeds) * len(self._runs)

    # ---- run

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Train the model, save the checkpoints, and evaluate each on the held-out set."""
        from ucurve.experiments import pretraining_run

        return pretraining_run.run(point, context)

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return live training loss, held-out perplexity and weight growth over tokens."""
        from ucurve.figures import pretraining

        lengths, rows = [run[0] for run in self._runs], self.tokens_per_step()
        return pretraining.figures(table, lengths, self._runs[0][1][0] * rows, self.seeds, rows)

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return which runs diverged, and whether the held-out loss keeps falling."""
        from ucurve.analysis import pretraining

        return pretraining.verdicts(table)
