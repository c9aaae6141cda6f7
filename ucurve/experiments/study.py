"""Studies: several experiments that answer one question, submitted and evaluated together.

    {
        "name": "both",
        "title": "Noise and fine-tuning",
        "experiments": [
            {"name": "noise", "spec": {"kind": "gaussian_perturbation"}},
            {"name": "tuning", "spec": {"kind": "fine_tuning"}}
        ]
    }

A study is a list of submissions, without steps, conditions or state. Each experiment has the name
of the study as a tag; of several experiments with the same name, the newest belongs to the study.
Experiments share points, so that submitting a study a second time measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ucurve.analysis.study_experiment import StudyExperiment as StudyExperiment
from ucurve.registry.artifacts import BUILTIN
from ucurve.schemas.catalogue import DatasetSubmission, SuiteSubmission
from ucurve.schemas.experiments import Experiment, Submission
from ucurve.spec import Figure, Verdict

FOLDER = BUILTIN / "studies"


class Study(BaseModel):
    """Submissions under a common name, and the suites and datasets to register for them."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$",
        max_length=80,
        description="Becomes a tag of every experiment.",
    )
    title: str = Field("", max_length=200, description="Shown as the heading.")
    description: str = Field("", max_length=20_000, description="The question, as Markdown.")
    suites: list[SuiteSubmission] = Field(
        default=[], max_length=20, description="Suites to register before submitting."
    )
    datasets: list[DatasetSubmission] = Field(
        default=[], max_length=20, description="Datasets to register before submitting."
    )
    experiments: list[Submission] = Field(
        min_length=1, max_length=20, description="The experiments, submitted together."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [submission.name for submission in self.experiments]
        if "" in names or len(set(names)) < len(names):
            raise ValueError("every experiment of a study needs a name of its own")
        return self

    def newest(self, experiments: Iterable[Experiment]) -> list[Experiment]:
        """Return the newest experiment of each submission, in the order of the study."""
        newest: dict[str, Experiment] = {}
        for experiment in sorted(experiments, key=lambda experiment: experiment.id):
            if self.name in experiment.tags:
                newest[experiment.name] = experiment
        return [
            newest[submission.name] for submission in self.experiments if submission.name in newest
        ]


@cache
def builtin() -> dict[str, Study]:
    """Return the studies of the package by name."""
    studies = [
        Study.model_validate_json(path.read_bytes()) for path in sorted(FOLDER.glob("*.json"))
    ]
    return {study.name: study for study in studies}


def verdicts(parts: Sequence[StudyExperiment]) -> list[Verdict]:
    """Return the combined verdicts of the experiments."""
    from ucurve.analysis import study_verdicts

    return study_verdicts.verdicts(parts)


def figures(verdicts: Sequence[Verdict]) -> dict[str, Figure]:
    """Return the figures of a study, drawn from the evidence of its verdicts."""
    from ucurve.figures import inflection_points

    return inflection_points.figures(verdicts)
