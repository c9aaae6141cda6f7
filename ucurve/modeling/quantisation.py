"""Weights rounded to n bits per tensor, row or group: the plain reference, "quantisation/1".

with changed(tensors, Rounding(bits=4, granularity="group", group_size=32)) as records:
    ...                            # measure

A block is a whole tensor, a row (the weights that share all indices but the last), or group_size
consecutive weights of a row, of which the last group may be shorter. All arithmetic is fp64.

Symmetric: step = largest magnitude of the block / (2^(bits - 1) - 1), w' = step * round(w / step).
The largest magnitude stays; the most negative level of n bits is not used.
Asymmetric: the range goes from the least to the largest weight and includes 0; step = range /
(2^bits - 1), zero = round(-least / step), and w' = step * (q - zero) with
q = round(w / step) + zero, limited to 0 ... 2^bits - 1.

Halves are rounded to the even neighbour, 0 stays 0, and a block of zeros is left as it is. A block
with a weight that is not finite has no range: all of it becomes NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ucurve.modeling.changed_matrices import PART, as_rows

Granularity = Literal["tensor", "row", "group"]
# What of the inputs has one value in this release; any other is of a later one.
RULES = {"protocol": "quantisation/1", "halves": "even", "arithmetic": "fp64"}
RANGES = {True: "largest_magnitude", False: "extremes_and_zero"}


@dataclass(frozen=True)
class Rounding:
    """Rounding of matrices to `bits` bits per weight; group_size counts for groups only."""

    bits: int
    granularity: Granularity = "row"
    group_size: int | None = None
    symmetric: bool = True

    @classmethod
    def of(cls, change: Mapping[str, Any]) -> Rounding:
        """Return the rounding that the inputs of a point ask for.

        Raises ValueError for rules that this release does not know.
        """
        expected = {**RULES, "range": RANGES[change["symmetric"]]}
        if unknown := {name: change[name] for name in expected if change[name] != expected[name]}:
            raise ValueError(f"this release does not know {unknown}: upgrade the worker")
        return cls(change["bits"], change["granularity"], change["group_size"], change["symmetric"])

    def block_size(self, matrix: torch.Tensor) -> int:
        """Return how many weights share a range; the last group of a row may have fewer."""
        columns = matrix.shape[-1]
        if self.granularity == "tensor":
            return matrix.numel()
        return columns if self.granularity == "row" else min(self.group_size or columns, columns)

    def __call__(self, name: str, matrix: torch.Tensor) -> torch.Tensor:
        """Return the rounded matrix."""
        size = self.block_size(matrix)
        if self.granularity == "tensor":
            return self._blocks(matrix.reshape(1, -1)).view(matrix.shape)
        rows = as_rows(matrix)
        full = rows.shape[1] // size * size
        parts = [self._blocks(rows[:, :full].reshape(-1, size)).view(len(rows), full)]
        if full < rows.shape[1]:
            parts.append(self._blocks(rows[:, full:]))
        return torch.cat(parts, dim=1).view(matrix.shape)

    def _blocks(self, blocks: torch.Tensor) -> torch.Tensor:
        """Round blocks [num_blocks, size], each by its own range."""
        low = blocks.amin(dim=1, keepdim=True).double()  # NaN where a weight is NaN
        high = blocks.amax(dim=1, keepdim=True).double()
        if self.symmetric:
            most = 2 ** (self.bits - 1) - 1
            step = torch.maximum(-low, high) / most
            least, last = torch.full_like(step, -most), torch.full_like(step, most)
        else:
            low, high = low.clamp(max=0.0), high.clamp(min=0.0)
            step = (high - low) / (2**self.bits - 1)
            least = -torch.round(-low / step)
            last = least + (2**self.bits - 1)
        rounded = torch.empty_like(blocks)
        across = max(1, PART // blocks.shape[1])  # rows at a time, or pieces of one row
        for i in range(0, len(blocks), across):
            own = slice(i, i + across)
            for j in range(0, blocks.shape[1], PART):
                piece = blocks[own, j : j + PART]
                rounded[own, j : j + PART] = _on_grid(piece, step[own], least[own], last[own])
        return rounded


def _on_grid(
    weights: torch.Tensor, step: torch.Tensor, least: torch.Tensor, last: torch.Tensor
) -> torch.Tensor:
    """Return fp32 weights on the grid step * (least ... last); torch rounds halves to even."""
    levels = torch.round(weights.double() / step)
    limit = torch.finfo(torch.float32).max  # a level half a step beyond the range must stay finite
    values = (torch.minimum(torch.maximum(levels, least), last) * step).clamp(-limit, limit)
    return torch.where(step == 0, weights, values.float())
