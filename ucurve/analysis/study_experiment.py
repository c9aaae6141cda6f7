"""One experiment of a study, as the study's verdicts see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ucurve.schemas.results import Verdict
from ucurve.spec import Spec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StudyExperiment:
    """One experiment with its table and verdicts."""

    name: str
    spec: Spec
    table: pd.DataFrame
    verdicts: Sequence[Verdict]

    @property
    def change(self) -> str:
        """The modification of the weights: the experiment type's title."""
        return self.spec.kind_title()
