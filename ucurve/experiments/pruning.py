"""Pruning: the loss before and after the smallest weights of the matrices are set to zero.

    {"kind": "pruning", "suite": "tiny", "sparsities": [0.3, 0.5], "patterns": ["2:4"]}

By magnitude, per tensor or over all tensors, or n of m consecutive weights. There are no draws;
blocks of evaluation windows are the replicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from ucurve.experiments.weight_changes import METRICS, Labelled, WeightChange, measure
from ucurve.spec import Context, Point, Result, TableRoles

if TYPE_CHECKING:
    from ucurve.modeling.changed_matrices import Change, Tensors

Blocks = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]?:[1-9][0-9]?$", max_length=5)]
Scope = Literal["tensor", "global"]


class Pruning(WeightChange):
    """Does removing small weights hurt a model more, the longer it was pre-trained?

    The smallest weights of the matrices of every checkpoint are set to zero, and perplexity is
    measured before and after. Nothing is trained afterwards.
    """

    kind: Literal["pruning"] = "pruning"
    title: ClassVar[str] = "Pruning"
    order: ClassVar[int] = 6
    name_template: ClassVar[str] = "{title} of {suite}, sparsity {levels}{on_sets}"
    level: ClassVar[str] = "sparsity"
    level_title: ClassVar[str] = "sparsity"
    unchanged: ClassVar[float] = 0.0
    columns: ClassVar[TableRoles] = TableRoles(
        x="tokens",
        treatment=("sparsity", "scheme"),
        baseline={"sparsity": 0.0},
        fixed=("evaluation",),
        metrics=METRICS,
        fields=("checkpoints", "sparsities", "scopes", "patterns"),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny, two minutes": {"suite": "tiny", "patterns": ["2:4"]},
        "tiny-constant, the counter-example": {"suite": "tiny-constant"},
    }

    sparsities: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.3, 0.5, 0.7],
        min_length=1,
        max_length=15,
        description="Shares of weights to set to zero: 0.3 is 30 %.",
    )
    scopes: list[Scope] = Field(
        ["tensor"],
        max_length=2,
        description="tensor: the share of every matrix. global: the smallest weights of all "
        "matrices together.",
    )
    patterns: list[Blocks] = Field(
        [],
        max_length=4,
        title="n:m patterns",
        description="Such as 2:4: of every 4 consecutive weights of a row, the 2 largest stay.",
    )

    @model_validator(mode="after")
    def _check_patterns(self) -> Self:
        if not self.scopes and not self.patterns:
            raise ValueError("scopes and patterns are both empty: name at least one of either")
        for pattern in self.patterns:
            num_kept, block = _numbers(pattern)
            if num_kept >= block:
                raise ValueError(
                    f"patterns: {pattern} removes nothing: the first number must be the smaller one"
                )
        return self

    def changes(self) -> list[Labelled]:
        """Return labels and inputs of every pruning: scope and sparsity, then n:m."""
        changes = [
            _labelled(f"per {scope}" if scope == "tensor" else scope, scope, sparsity)
            for scope in ("tensor", "global")
            if scope in self.scopes
            for sparsity in sorted(set(self.sparsities))
        ]
        for pattern in dict.fromkeys(self.patterns):
            num_kept, block = _numbers(pattern)
            changes.append(_labelled(pattern, "blocks", 1 - num_kept / block, num_kept, block))
        return changes

    @staticmethod
    def level_text(level: float) -> str:
        """Return "30% pruned"."""
        return f"{level * 100:.4g}% pruned"

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Set the smallest weights of the loaded model to zero, evaluate it, and restore it."""

        def change_of(change: Mapping[str, Any], tensors: Tensors) -> Change:
            from ucurve.modeling import pruning

            return pruning.Pruning.of(change, tensors)

        return measure(point, context, change_of)


def _numbers(pattern: str) -> tuple[int, int]:
    num_kept, block = pattern.split(":")
    return int(num_kept), int(block)


def _labelled(
    scheme: str, scope: str, sparsity: float, num_kept: int | None = None, block: int | None = None
) -> Labelled:
    return (
        {"sparsity": sparsity, "scheme": scheme},
        {
            "protocol": "pruning/1",
            "criterion": "magnitude",
            "scope": scope,
            "sparsity": None if num_kept else sparsity,
            "kept": num_kept,
            "of": block,
            "count": "half_to_even",
            "ties": "first_removed",
        },
    )
