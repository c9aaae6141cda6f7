"""Weights of small magnitude set to zero, per tensor, over all tensors, or n of m: "pruning/1".

with changed(tensors, Pruning.of(change, tensors)) as records:
    ...                            # measure

Per tensor: round(sparsity * size) weights of smallest magnitude become 0 (round: halves to even).
Global: the same over all matrices together, so that the sparsity of a single one follows from it.
n:m: of each m consecutive weights of a row, the n largest stay; of a shorter last block, n at most.

Of equal magnitudes the earlier weight goes first, by the order of names, then of indices. A weight
that is not a number counts as the largest. Weights are selected, not multiplied, so that no 0 * inf
arises, and those that stay keep their bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from ucurve.modeling.changed_matrices import Tensors, as_rows

Scope = Literal["tensor", "global", "blocks"]
# What of the inputs has one value in this release; any other is of a later one.
RULES = {
    "protocol": "pruning/1",
    "criterion": "magnitude",
    "count": "half_to_even",
    "ties": "first_removed",
}


@dataclass(frozen=True)
class Pruning:
    """Which weights go: `sparsity` of a tensor or of all, or all but `num_kept` in blocks of `of`.

    removed: of the global scope, the mask of every tensor by name.
    """

    scope: Scope
    sparsity: float | None = None
    num_kept: int | None = None
    block: int | None = None
    removed: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, change: Mapping[str, Any], tensors: Tensors) -> Pruning:
        """Return the pruning of these tensors that the inputs of a point ask for.

        Raises ValueError for rules that this release does not know.
        """
        if unknown := {name: change[name] for name in RULES if change[name] != RULES[name]}:
            raise ValueError(f"this release does not know {unknown}: upgrade the worker")
        removed = (
            smallest_of_all(tensors, change["sparsity"]) if change["scope"] == "global" else {}
        )
        return cls(change["scope"], change["sparsity"], change["kept"], change["of"], removed)

    def block_size(self, matrix: torch.Tensor) -> int:
        """Return how many weights of the matrix are compared with each other."""
        if self.scope != "blocks":
            return matrix.numel()
        assert self.block is not None
        return min(self.block, matrix.shape[-1])

    def __call__(self, name: str, matrix: torch.Tensor) -> torch.Tensor:
        """Return the pruned matrix."""
        return matrix.masked_fill(self._removed(name, matrix), 0.0)

    def _removed(self, name: str, matrix: torch.Tensor) -> torch.Tensor:
        if self.scope == "global":
            return self.removed[name]
        if self.scope == "blocks":
            assert self.num_kept is not None
            assert self.block is not None
            return all_but(matrix, self.num_kept, self.block)
        assert self.sparsity is not None
        num = round(self.sparsity * matrix.numel())
        return smallest(magnitudes(matrix), num).view(matrix.shape)


def magnitudes(matrix: torch.Tensor) -> torch.Tensor:
    """Return the absolute weights in one dimension; inf where one is not a number."""
    return torch.nan_to_num(matrix.abs(), nan=torch.inf, posinf=torch.inf).flatten()


def smallest(values: torch.Tensor, num: int) -> torch.Tensor:
    """Return the mask of the `num` smallest of values [size]; of equal ones the first."""
    if num == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    threshold = values.kthvalue(num).values
    mask = values < threshold
    ties = (values == threshold).nonzero().flatten()
    mask[ties[: num - int(mask.sum())]] = True
    return mask


def smallest_of_all(tensors: Tensors, sparsity: float) -> dict[str, torch.Tensor]:
    """Return the masks of the smallest weights of all tensors together, by name."""
    names = sorted(tensors)
    values = torch.cat([magnitudes(tensors[name]) for name in names])
    mask = smallest(values, round(sparsity * len(values)))
    parts = torch.split(mask, [tensors[name].numel() for name in names])
    return {name: part.view(tensors[name].shape) for name, part in zip(names, parts, strict=True)}


def all_but(matrix: torch.Tensor, num_kept: int, block: int) -> torch.Tensor:
    """Return the mask of all but the `num_kept` largest of each `block` weights of a row."""
    rows = magnitudes(matrix).view(as_rows(matrix).shape)
    full = rows.shape[1] // block * block
    parts = [_all_but(rows[:, :full].reshape(-1, block), num_kept).view(len(rows), full)]
    if full < rows.shape[1]:
        parts.append(_all_but(rows[:, full:], num_kept))
    return torch.cat(parts, dim=1).view(matrix.shape)


def _all_but(blocks: torch.Tensor, num_kept: int) -> torch.Tensor:
    num = max(0, blocks.shape[1] - num_kept)
    order = blocks.argsort(dim=1, stable=True)  # ascending, of equal ones the first
    return torch.zeros_like(blocks, dtype=torch.bool).scatter_(1, order[:, :num], True)
