"""Quantisation: the loss before and after the matrices are rounded to a few bits per weight.

    {"kind": "quantisation", "suite": "tiny", "bits": [2, 3, 4, 8]}

Plain rounding, weights only: per tensor, row or group, symmetric or asymmetric. There are no draws;
blocks of evaluation windows are the replicates. At 3 bits per row, the models of `tiny` after 14.3M
tokens are worse than those after 3.6M tokens: a U-curve.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ucurve.experiments.weight_changes import METRICS, Labelled, WeightChange, measure
from ucurve.spec import ADVANCED, Context, Point, Result, TableRoles

Granularity = Literal["tensor", "row", "group"]
WORDS = {"symmetric": True, "asymmetric": False}


class Quantisation(WeightChange):
    """Does coarse rounding hurt a model more, the longer it was pre-trained?

    The matrices of every checkpoint are rounded to a few bits per weight, and perplexity is
    measured before and after.
    """

    kind: Literal["quantisation"] = "quantisation"
    title: ClassVar[str] = "Quantisation"
    order: ClassVar[int] = 5
    name_template: ClassVar[str] = "{title} of {suite}, {bits} bits, per {granularities}"
    level: ClassVar[str] = "bits"
    level_title: ClassVar[str] = "bits"
    unchanged: ClassVar[float] = 32.0
    columns: ClassVar[TableRoles] = TableRoles(
        x="tokens",
        treatment=("bits", "scheme"),
        baseline={"bits": 32.0},
        metrics=METRICS,
        fields=("checkpoints", "bits", "granularities", "group_size", "ranges"),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny, one minute": {"suite": "tiny", "bits": [2, 3, 4, 8]},
        "tiny-constant, the counter-example": {"suite": "tiny-constant", "bits": [2, 3, 4, 8]},
    }

    bits: list[Annotated[int, Field(ge=2, le=8)]] = Field(
        [2, 3, 4, 8], min_length=1, max_length=7, description="Bits per weight, 2 to 8."
    )
    granularities: list[Granularity] = Field(
        ["row"],
        min_length=1,
        max_length=3,
        title="Weights that share a range",
        description="tensor: all of a matrix. row: those of a row. group: group_size consecutive "
        "ones of a row.",
    )
    group_size: int = Field(
        32,
        ge=2,
        le=1 << 16,
        description="Weights per group, for groups only. The last group of a row may be shorter.",
        json_schema_extra=ADVANCED,
    )
    ranges: Literal["symmetric", "asymmetric", "both"] = Field(
        "symmetric",
        description="symmetric: from minus to plus the largest magnitude. asymmetric: from the "
        "least to the largest weight, 0 included.",
    )

    def changes(self) -> list[Labelled]:
        """Return labels and inputs of every rounding: bits, granularity, symmetric or not."""
        ranges = ["symmetric", "asymmetric"] if self.ranges == "both" else [self.ranges]
        granularities = [name for name in ("tensor", "row", "group") if name in self.granularities]
        return [
            (
                {"bits": float(bits), "scheme": self._scheme(granularity, words)},
                {
                    "protocol": "quantisation/1",
                    "bits": bits,
                    "granularity": granularity,
                    "group_size": self.group_size if granularity == "group" else None,
                    "symmetric": WORDS[words],
                    "range": "largest_magnitude" if WORDS[words] else "extremes_and_zero",
                    "halves": "even",
                    "arithmetic": "fp64",
                },
            )
            for granularity, words, bits in itertools.product(
                granularities, ranges, sorted(set(self.bits))
            )
        ]

    def _scheme(self, granularity: str, words: str) -> str:
        unit = f"group of {self.group_size}" if granularity == "group" else granularity
        return f"per {unit}, {words}"

    @staticmethod
    def level_text(level: float) -> str:
        """Return "3 bits"."""
        return f"{level:g} bits"

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Round the matrices of the loaded model, evaluate it, and restore its weights."""
        from ucurve.modeling.quantisation import Rounding

        return measure(point, context, lambda change, _: Rounding.of(change))
