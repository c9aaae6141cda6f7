"""What is known against the measured checkpoints, in the captions of figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ucurve.analysis.verdict_order import caveats_of
from ucurve.schemas.results import Figure, Verdict


def with_caveats(figures: Mapping[str, Figure], verdicts: Iterable[Verdict]) -> dict[str, Figure]:
    """Return the figures with the caveats of their experiment's verdicts in every caption."""
    caveats = caveats_of(verdicts)
    if not caveats:
        return dict(figures)
    return {
        name: replace(figure, caption=" ".join([figure.caption, "Caution:", *caveats]).strip())
        for name, figure in figures.items()
    }
