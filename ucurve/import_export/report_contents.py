"""The contents of a report: experiments with figures, verdicts and provenance, from the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ucurve.experiments import parse, study
from ucurve.figures.caveats import with_caveats
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.measurements import ExperimentProvenance
from ucurve.spec import Figure, Spec, Verdict

if TYPE_CHECKING:
    from ucurve.client import Client


@dataclass(frozen=True)
class Chapter:
    """One experiment of a report."""

    experiment: Experiment
    spec: Spec
    figures: dict[str, Figure]
    verdicts: list[Verdict]
    provenance: ExperimentProvenance
    csv: str

    @property
    def anchor(self) -> str:
        return f"experiment-{self.experiment.id}"


@dataclass(frozen=True)
class Report:
    """Several experiments with their combined verdicts (none for a single experiment)."""

    title: str
    chapters: list[Chapter]
    combined: list[Verdict]
    created_at: datetime

    @property
    def figures(self) -> dict[str, Figure]:
        """Figures of all experiments together."""
        return study.figures(self.combined)

    def all_figures(self) -> dict[str, Figure]:
        """All figures by a name that can be a file name."""
        by_chapter = {
            f"{chapter.experiment.id}-{name}": figure
            for chapter in self.chapters
            for name, figure in chapter.figures.items()
        }
        return {**self.figures, **by_chapter}


def collect(client: Client, ids: Sequence[int], title: str = "") -> Report:
    """Fetch the contents of a report. Raises RequestRejectedError for an unknown experiment."""
    unique_ids = list(dict.fromkeys(ids))
    chapters = [_chapter(client, id) for id in unique_ids]
    combined = list(client.study_verdicts(unique_ids)) if len(chapters) > 1 else []
    return Report(title or _title(client, chapters), chapters, combined, datetime.now(UTC))


def _chapter(client: Client, id: int) -> Chapter:
    experiment = client.experiment(id)
    spec, verdicts = parse(experiment.spec), list(client.verdicts(id))
    figures = with_caveats(spec.figures(client.table(id), verdicts), verdicts)
    return Chapter(
        experiment=experiment,
        spec=spec,
        figures=client.with_references(spec, figures),
        verdicts=verdicts,
        provenance=client.experiment_provenance(id),
        csv=client.csv(id),
    )


def _title(client: Client, chapters: Sequence[Chapter]) -> str:
    """Return the title of the study that all experiments are tagged with, else their names."""
    names = [chapter.experiment.name for chapter in chapters]
    if len(chapters) > 1:
        titles = {study.name: study.title for study in client.studies()}
        for tag in chapters[0].experiment.tags:
            if tag in titles and all(tag in chapter.experiment.tags for chapter in chapters):
                return titles[tag]
    if len(names) < 3:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more experiments"
