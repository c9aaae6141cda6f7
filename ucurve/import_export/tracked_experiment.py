"""An experiment as experiment trackers take it: curves, verdicts and where the numbers come from.

tracked = collect(client, 7, "our lab")
tracked.tags["ucurve.weights"], tracked.curves, tracked.verdicts
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ucurve import __version__, code_version
from ucurve.import_export.tracked_curves import TrackedCurve, curves_of
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.measurements import ExperimentProvenance
from ucurve.spec import Figure, Verdict

if TYPE_CHECKING:
    from ucurve.client import Client


@dataclass(frozen=True)
class TrackedExperiment:
    """What an export to a tracker says of one experiment."""

    experiment: Experiment
    origin: str  # name of the lab
    curves: list[TrackedCurve]
    verdicts: list[Verdict]
    provenance: ExperimentProvenance
    figures: Mapping[str, Figure]
    csv: str

    @property
    def tags(self) -> dict[str, str]:
        """Identity, versions, suite and protocol as text."""
        spec, provenance = self.experiment.spec, self.provenance
        identities = sorted(i for curve in self.curves for i in curve.identities)
        versions = [worker.versions for worker in provenance.measured]
        names = dict.fromkeys(name for libraries in versions for name in libraries)
        libraries = {
            name: ", ".join(dict.fromkeys(each[name] for each in versions if name in each))
            for name in names
        }
        weights = {c.revision: c.weights_sha256 for c in provenance.checkpoints}
        tags = {
            "lab": self.origin,
            "experiment": str(self.experiment.id),
            "type": self.experiment.kind,
            "owner": self.experiment.owner,
            "state": self.experiment.state,
            "url": self.experiment.url,
            "suite": str(spec.get("suite") or ""),
            "spec": json.dumps(spec, sort_keys=True),
            "measurements": str(len(identities)),
            "identities_sha256": hashlib.sha256("\n".join(identities).encode()).hexdigest(),
            "weights_sha256": json.dumps(weights),
            "datasets": json.dumps({d.name: d.sha256 for d in provenance.datasets}),
            "version": f"{__version__} ({code_version()})",
        }
        tags |= {f"versions.{name}": text for name, text in libraries.items()}
        return {f"ucurve.{name}": text for name, text in tags.items() if text}

    @property
    def summary(self) -> str:
        """The verdicts in Markdown."""
        lines = [f"**{v.claim}: {v.answer}.** {v.sentence}" for v in self.verdicts if v.is_summary]
        lines = lines or [f"**{v.claim}: {v.answer}.** {v.sentence}" for v in self.verdicts]
        return "\n\n".join([*lines, f"[Experiment {self.experiment.id}]({self.experiment.url})"])

    @property
    def answers(self) -> dict[str, str]:
        """The answer and its reason by claim and scope."""
        return {
            f"{v.claim}{f' ({v.scope})' if v.scope else ''}": f"{v.answer}: {v.sentence}"
            for v in self.verdicts
        }

    @property
    def verdicts_json(self) -> list[dict[str, Any]]:
        """All verdicts with their evidence."""
        return [verdict.model_dump(mode="json") for verdict in self.verdicts]


def collect(client: Client, id: int, origin: str) -> TrackedExperiment:
    """Read one experiment from the lab."""
    rows = client.rows(id, series="needed")
    return TrackedExperiment(
        experiment=client.experiment(id),
        origin=origin,
        curves=curves_of(rows),
        verdicts=list(client.verdicts(id)),
        provenance=client.experiment_provenance(id),
        figures=client.figures(id),
        csv=client.csv(id),
    )


def selected(client: Client, filters: Mapping[str, Any]) -> list[int]:
    """Return the ids of the experiments that an export's filters select, in ascending order."""
    pages = client.export_pages("experiments", **filters)
    return sorted(row["id"] for page in pages for row in page)
