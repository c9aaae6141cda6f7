"""A part of a study: one experiment with its table and its verdicts, from which the study's own are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ucurve.spec import Spec, Verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Part:
    """One experiment of a study as its verdicts see it."""

    name: str
    spec: Spec
    table: pd.DataFrame
    verdicts: Sequence[Verdict]

    @property
    def change(self) -> str:
        """What is done to the weights, in words: the kind's title."""
        return self.spec.kind_in_words()
