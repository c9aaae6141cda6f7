"""Quantisation: the loss before and after the matrices are rounded to a few bits per weight.

    {"kind": "quantisation", "suite": "tiny", "bits": [2, 3, 4, 8]}
    {"kind": "quantisation", "suite": "tiny", "bits": [4], "formats": ["torchao_int4"]}

Plain rounding, weights only: per tensor, row or group, symmetric or asymmetric; and formats of a
library beside it, which the plain rounding is the reference for. There are no draws;
blocks of evaluation windows are the replicates. At 3 bits per row, the models of `tiny` after 14.3M
tokens are worse than those after 3.6M tokens: a U-curve.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ucurve.experiments.weight_changes import METRICS, Labelled, WeightChange, measure
from ucurve.registry.library_formats import (
    FORMATS,
    LIBRARY,
    VERSION,
    FormatName,
    has_torch,
    obstacle,
)
from ucurve.spec import ADVANCED, Catalogue, Context, Point, Result, SpecError, TableRoles

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
    name_template: ClassVar[str] = "{title} of {suite}, {bits} bits, per {granularities}{on_sets}"
    level: ClassVar[str] = "bits"
    level_title: ClassVar[str] = "bits"
    unchanged: ClassVar[float] = 32.0
    columns: ClassVar[TableRoles] = TableRoles(
        x="tokens",
        treatment=("bits", "scheme"),
        baseline={"bits": 32.0},
        fixed=("evaluation",),
        metrics=METRICS,
        fields=("checkpoints", "bits", "granularities", "group_size", "ranges", "formats"),
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

    formats: list[FormatName] = Field(
        [],
        max_length=2,
        title="Library formats",
        description="Also these formats of torchao, as the library decodes them on the CPU. "
        "torchao_int8: a scale per row. torchao_int4: a scale per 32 weights of a row.",
        json_schema_extra=ADVANCED,
    )

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield the unperturbed loss and all changes; refuse formats that no worker here has."""
        if self.formats:
            if reason := obstacle():
                raise SpecError("formats", reason)
            self._expect_groups(catalogue)
        yield from super().plan(catalogue)

    def warnings(self, catalogue: Catalogue) -> list[str]:
        """Return which checkpoints are left out, what cannot be checked, and what workers need."""
        messages = super().warnings(catalogue)
        if self.formats and not has_torch():
            messages.append(
                f"formats: workers need {LIBRARY} {VERSION}, which is not checked here."
            )
        return messages

    def _expect_groups(self, catalogue: Catalogue) -> None:
        """Raise SpecError where rows of a selected matrix are no multiple of a format's group."""
        selected = self._choice(catalogue.suite(self.suite)).selected
        for name in self.formats:
            size = FORMATS[name].group_size or 1
            for tensor in selected:
                if tensor.shape[-1] % size:
                    raise SpecError(
                        "exclude",
                        f"{tensor.canonical} has rows of {tensor.shape[-1]} weights, which are no "
                        f"groups of {size}: exclude it, or leave {name} out of formats.",
                    )

    def changes(self) -> list[Labelled]:
        """Return labels and inputs of every rounding, then those of the library's formats."""
        return [*self._roundings(), *self._library_formats()]

    def _library_formats(self) -> list[Labelled]:
        chosen = [FORMATS[name] for name in FORMATS if name in self.formats]
        return [
            (
                {"bits": float(format.bits), "scheme": format.title},
                {
                    "protocol": "library_format/1",
                    "library": LIBRARY,
                    "version": VERSION,
                    "format": format.name,
                    "bits": format.bits,
                    "group_size": format.group_size,
                    "device": "cpu",
                },
            )
            for format in chosen
        ]

    def _roundings(self) -> list[Labelled]:
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
        from ucurve.modeling.library_formats import LibraryFormat
        from ucurve.modeling.quantisation import Rounding

        change = point.inputs["perturbation"] or {}
        rule = LibraryFormat if change.get("protocol") == "library_format/1" else Rounding
        return measure(point, context, lambda change, _: rule.of(change))
