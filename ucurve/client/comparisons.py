"""Calls that lay experiments over one another.

found = client.compare([3, 4], y="damage", changes=["gamma 0.2, init_std"])
found.figures()["difference"].caption          # "A = 3 noise on tiny, B = ...: paired by draw, n = 5"
found.cautions                                 # why the numbers may not be comparable
for side in found.missing():                   # A's points that B lacks, and B's that A lacks
    client.plan(completed(side))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ucurve.client.catalogue import CatalogueCalls
from ucurve.client.references import ReferenceCalls
from ucurve.client.results import ResultCalls
from ucurve.schemas.references import ReferenceCurve
from ucurve.spec import Figure

if TYPE_CHECKING:
    import pandas as pd

    from ucurve.analysis.comparison import Missing, Side
    from ucurve.figures.citation import Origin
    from ucurve.figures.comparison import Choice


@dataclass
class Comparison:
    """Experiments laid over one another, as one choice shows them."""

    sides: list[Side]
    asked: Choice
    on_what: list[dict[str, Any]] = field(default_factory=list)  # how each was measured
    curves: list[ReferenceCurve] = field(
        default_factory=list
    )  # numbers of others about the same suites

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per value; see `ucurve.analysis.comparison.laid_over`."""
        from ucurve.analysis.comparison import laid_over

        return laid_over(self.sides)

    @cached_property
    def changes(self) -> dict[str, int]:
        """Every modification in words, with the number of experiments that have it."""
        from ucurve.figures.comparison import changes

        return changes(self.table)

    @cached_property
    def shown(self) -> Choice:
        """What is shown, with what was left empty."""
        from ucurve.figures.comparison import chosen

        return chosen(self.sides, self.table, self.asked)

    def figures(self) -> dict[str, Figure]:
        from ucurve.figures.comparison import figures

        return figures(self.sides, self.table, self.asked, self.curves)

    @cached_property
    def offered(self) -> dict[str, tuple[int, str, bool]]:
        """Reference curves that can be drawn beside; see `comparison_figures.offered`."""
        from ucurve.figures.comparison import offered

        return offered(self.sides, self.shown, self.curves)

    def origin(self, figure: str, lab: str, link: str = "") -> Origin:
        """What leads back from a file of one of the figures."""
        from ucurve.figures.citation import Origin

        ids, names = tuple(side.id for side in self.sides), tuple(side.name for side in self.sides)
        specs = tuple(side.spec.model_dump(mode="json") for side in self.sides)
        asked = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self.shown).items()
        }
        return Origin(figure, ids, names, specs, lab, link, asked)

    def submission(self, lacking: Missing) -> dict[str, Any]:
        """Name, notes and tags of the experiment that measures what is missing."""
        a, b = lacking.of, lacking.within
        return {
            "name": f"{b.name}, completed",
            "notes": f"What experiment {b.id} lacked of experiment {a.id}.",
        }

    def missing(self) -> list[Missing]:
        """What each of the first two experiments (or of those named by `minus`) lacks of the other."""
        from ucurve.analysis.comparison import missing

        if len(self.sides) < 2:
            return []
        by_key = {side.key: side for side in self.sides}
        pair = (
            [by_key[key] for key in self.asked.minus if key in by_key]
            if self.asked.by == "side"
            else []
        )
        a, b = pair if len(pair) == 2 else self.sides[:2]
        return [missing(a, b), missing(b, a)]

    @property
    def cautions(self) -> list[str]:
        """Why numbers of the experiments may not be comparable."""
        found = []
        for name in dict.fromkeys(name for one in self.on_what for name in one):
            values = [one.get(name) for one in self.on_what]
            if any(value != values[0] for value in values):
                said = ", ".join(
                    f"{side.id}: {_short(value)}"
                    for side, value in zip(self.sides, values, strict=True)
                )
                found.append(
                    f"Not measured alike, so that losses may not be comparable: {name.replace('.', ' ')} ({said})."
                )
        return found


def _short(value: Any) -> str:
    """Hashes by their first figures."""
    return f"{value[:10]}…" if isinstance(value, str) and len(value) == 64 else str(value)


class ComparisonCalls(ResultCalls, CatalogueCalls, ReferenceCalls):
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
        """Lay experiments over one another. What is left empty is chosen from what they have in common.

        x: tokens, tokens_per_parameter, base_loss, or the experiments' own axis. y: loss, perplexity, damage, or a metric.
        by: what the colours mean: side (the experiment), suite, size, replicate. changes: modifications in words, as in the
        legend. minus: A and B of the difference. beside: names of reference curves. Raises RefusedError where there is no such
        experiment.
        """
        from ucurve.figures.comparison import Choice

        sides = [self.side(id) for id in dict.fromkeys(ids)]
        asked = Choice(x, y, by, tuple(changes), tuple(map(str, minus)), tuple(beside))
        return Comparison(
            sides, asked, [self.measured_on(side) for side in sides], self.references()
        )

    def side(self, id: int) -> Side:
        """An experiment with its rows and its suite, to compare."""
        from ucurve.analysis.comparison import Side
        from ucurve.experiments import parse

        experiment, rows = self.experiment(id), self.rows(id)
        name = next((str(row.labels["suite"]) for row in rows if row.labels.get("suite")), None)
        suite = (
            next((suite for suite in self.suites() if suite.name == name), None) if name else None
        )
        return Side(id, experiment.name, parse(experiment.spec), rows, suite)

    def measured_on(self, side: Side) -> dict[str, Any]:
        """On what its numbers were measured: by its first point."""
        from ucurve.analysis.comparison import on_what

        return on_what(self.provenance(side.rows[0].id).inputs) if side.rows else {}
