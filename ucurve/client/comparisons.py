"""Comparisons: experiments aligned with one another.

comparison = client.compare([3, 4], y="damage", changes=["gamma 0.2, init_std"])
comparison.figures()["difference"].caption     # "A = 3 noise on tiny, B = ...: paired by draw"
comparison.warnings                            # why the numbers may not be comparable
for gap in comparison.missing():               # points of A that B lacks, and the reverse
    client.plan(completing_spec(gap))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ucurve.client.catalogue import CatalogueResource
from ucurve.client.deprecation import deprecated_method, deprecated_property
from ucurve.client.display import Figures
from ucurve.client.results import ResultResource
from ucurve.schemas.bits_per_byte import BITS_PER_BYTE
from ucurve.schemas.references import ReferenceCurve

if TYPE_CHECKING:
    import pandas as pd

    from ucurve.analysis.comparison import ComparedExperiment, MissingPoints
    from ucurve.figures.citation import FigureSource
    from ucurve.figures.comparison import PlotOptions


@dataclass
class Comparison:
    """Aligned experiments, with the options that their figures are drawn with."""

    sides: list[ComparedExperiment]
    requested: PlotOptions
    settings: list[dict[str, Any]] = field(default_factory=list)  # how each side was measured
    curves: list[ReferenceCurve] = field(default_factory=list)  # about the same suites

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per value; see ucurve.analysis.comparison."""
        from ucurve.analysis.comparison import align_experiments

        return align_experiments(self.sides)

    @cached_property
    def changes(self) -> dict[str, int]:
        """Label of every modification -> number of experiments that have it."""
        from ucurve.figures.comparison import changes

        return changes(self.table)

    @cached_property
    def options(self) -> PlotOptions:
        """The requested options, with the empty ones filled in."""
        from ucurve.figures.comparison import resolve_options

        return resolve_options(self.sides, self.table, self.requested)

    def figures(self) -> Figures:
        """Draw the figures by name."""
        from ucurve.figures.comparison import figures

        return Figures.of(figures(self.sides, self.table, self.requested, self.curves))

    @cached_property
    def reference_options(self) -> dict[str, tuple[int, str, bool]]:
        """Reference curves that can be drawn here; see ucurve.figures.comparison."""
        from ucurve.figures.comparison import available_references

        return available_references(self.sides, self.options, self.curves)

    def origin(self, figure: str, lab: str, link: str = "") -> FigureSource:
        """Return the citation that is embedded in a file of one of the figures."""
        from ucurve.figures.citation import FigureSource

        ids, names = tuple(side.id for side in self.sides), tuple(side.name for side in self.sides)
        specs = tuple(side.spec.model_dump(mode="json") for side in self.sides)
        options = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self.options).items()
        }
        return FigureSource(figure, ids, names, specs, lab, link, options)

    def submission(self, gap: MissingPoints) -> dict[str, Any]:
        """Return name and notes of the experiment that measures the missing points."""
        a, b = gap.of, gap.within
        return {
            "name": f"{b.name}, completed",
            "notes": f"Points of experiment {a.id} that experiment {b.id} lacked.",
        }

    def missing(self) -> list[MissingPoints]:
        """Return the points that two experiments lack of each other, for both directions.

        The two are those of `minus`, or the first two.
        """
        from ucurve.analysis.comparison import missing

        if len(self.sides) < 2:
            return []
        by_key = {side.key: side for side in self.sides}
        pair = (
            [by_key[key] for key in self.requested.minus if key in by_key]
            if self.requested.by == "side"
            else []
        )
        a, b = pair if len(pair) == 2 else self.sides[:2]
        return [missing(a, b), missing(b, a)]

    @property
    def warnings(self) -> list[str]:
        """Settings that differ between the experiments, so that losses may not be comparable."""
        messages = []
        for name in dict.fromkeys(name for settings in self.settings for name in settings):
            values = [settings.get(name) for settings in self.settings]
            tokenizer = name.endswith("tokenizer")
            if tokenizer and self.requested.y.startswith(BITS_PER_BYTE):
                continue
            if any(value != values[0] for value in values):
                by_side = ", ".join(
                    f"{side.id}: {_short(value)}"
                    for side, value in zip(self.sides, values, strict=True)
                )
                messages.append(
                    f"Losses may not be comparable: {name.replace('.', ' ')} differs ({by_side})."
                    + (" Bits per byte of the same text are comparable." if tokenizer else "")
                )
        return messages


_RENAMED = {
    "asked": "requested",
    "cautions": "warnings",
    "offered": "reference_options",
    "shown": "options",
}
for _old, _new in _RENAMED.items():
    setattr(Comparison, _old, deprecated_property(_old, _new))


def _short(value: Any) -> str:
    """Return a value as text, hashes cut to ten digits."""
    return f"{value[:10]}…" if isinstance(value, str) and len(value) == 64 else str(value)


class ComparisonResource(ResultResource, CatalogueResource):
    def compare(
        self,
        ids: Sequence[int],
        x: str = "",
        y: str = "",
        by: str = "side",
        changes: Sequence[str] = (),
        minus: Sequence[int | str] = (),
        beside: Sequence[str] = (),
    ) -> Comparison:
        """Align experiments. Empty options are chosen from what the experiments have in common.

        x: tokens, tokens_per_parameter, base_loss, or the experiments' own axis.
        y: loss, perplexity, damage (the loss increase), bits_per_byte, or a metric.
        by: what colours mean: side (the experiment), suite, size, replicate.
        changes: labels of modifications, as in the legend. minus: A and B of the difference A - B.
        beside: names of reference curves. Raises RequestRejectedError for an unknown experiment.
        """
        from ucurve.figures.comparison import PlotOptions

        sides = [self.compared_experiment(id) for id in dict.fromkeys(ids)]
        requested = PlotOptions(x, y, by, tuple(changes), tuple(map(str, minus)), tuple(beside))
        settings = [self.measurement_settings(side) for side in sides]
        return Comparison(sides, requested, settings, self.references())

    def compared_experiment(self, id: int) -> ComparedExperiment:
        """Return an experiment with its rows and suite, ready to be compared."""
        from ucurve.analysis.comparison import ComparedExperiment
        from ucurve.experiments import parse

        experiment, rows = self.experiment(id), self.rows(id)
        name = next((str(row.labels["suite"]) for row in rows if row.labels.get("suite")), None)
        suites = self.suites() if name else []
        suite = next((suite for suite in suites if suite.name == name), None)
        return ComparedExperiment(id, experiment.name, parse(experiment.spec), rows, suite)

    def measurement_settings(self, side: ComparedExperiment) -> dict[str, Any]:
        """Return the evaluation settings of an experiment, read from its first point."""
        from ucurve.analysis.comparison import measurement_settings

        return measurement_settings(self.provenance(side.rows[0].id).inputs) if side.rows else {}

    side = deprecated_method("side", "compared_experiment")
    measured_on = deprecated_method("measured_on", "measurement_settings")
