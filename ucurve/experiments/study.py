"""A study: experiments that answer one question together, as data; submitted at once and judged
side by side.

    {"name": "both", "title": "Noise and fine-tuning", "experiments": [
        {"name": "noise", "spec": {"kind": "gaussian_perturbation"}}, {"name": "tuning", "spec":
        {"kind": "fine_tuning"}}]}

It is a list of submissions and nothing else: no steps, no conditions, no state of its own. Every
experiment carries the study's name as a tag, and of several with the same name the newest is the
study's; points are shared as between any two experiments, so submitting a study again measures
nothing again.
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
    """Several submissions with a name.

    `suites` and `datasets` are what has to be registered before they can be planned.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$",
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
        """The study's own among these, one per submission where there is one, in the study's order."""
        newest: dict[str, Experiment] = {}
        for experiment in sorted(experiments, key=lambda experiment: experiment.id):
            if self.name in experiment.tags:
                newest[experiment.name] = experiment
        return [
            newest[submission.name] for submission in self.experiments if submission.name in newest
        ]


@cache
def builtin() -> dict[str, Study]:
    """The studies that come with the package, by name."""
    studies = [
        Study.model_validate_json(path.read_bytes()) for path in sorted(FOLDER.glob("*.json"))
    ]
    return {study.name: study for study in studies}


def verdicts(parts: Sequence[StudyExperiment]) -> list[Verdict]:
    """What the experiments say together."""
    from ucurve.analysis import study_verdicts

    return study_verdicts.verdicts(parts)


def figures(verdicts: Sequence[Verdict]) -> dict[str, Figure]:
    """The figures of a study, drawn from its verdicts' evidence."""
    from ucurve.figures import inflection_points

    return inflection_points.figures(verdicts)
