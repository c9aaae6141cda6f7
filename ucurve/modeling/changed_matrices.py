"""Matrices replaced for the length of a measurement, with a record of what was changed.

with changed(tensors, Rounding(bits=4)) as records:   # in place, so that tied weights stay tied
    ...                                               # measure
# here every weight has its original bits again
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from ucurve.modeling.perturb import checksum

PART = 1 << 22  # weights that are held in fp64 at once
Tensors = Mapping[str, torch.Tensor]


class Change(Protocol):
    """A change of matrices that the weights alone determine."""

    def __call__(self, name: str, matrix: torch.Tensor) -> torch.Tensor:
        """Return the changed matrix; the given one keeps its values."""

    def block_size(self, matrix: torch.Tensor) -> int:
        """Return how many weights share a range, or are compared with each other."""


@dataclass(frozen=True)
class ChangedMatrix:
    """What was changed of one matrix.

    rows and columns: of the matrix as blocks see it, the last axis against all others. block_size:
    weights of a full block; last_block: of the last block of a row, which may be shorter. zeros:
    share of its weights that are 0 afterwards. changed: share that has another value. moved and
    size: sums of squares of the changes and of the weights before.
    """

    rows: int
    columns: int
    block_size: int
    last_block: int
    zeros: float
    changed: float
    moved: float
    size: float

    @property
    def relative_change(self) -> float:
        """|after - before| / |before|; inf where all weights were 0 and one is not any more."""
        return relative(self.moved, self.size)

    @property
    def numbers(self) -> list[float]:
        """The numbers of the series `matrix/NAME`, in the documented order."""
        return [
            self.zeros,
            self.changed,
            self.relative_change,
            float(self.rows),
            float(self.columns),
            float(self.block_size),
            float(self.last_block),
        ]


def relative(moved: float, size: float) -> float:
    """Return the relative change of weights from two sums of squares."""
    if size == 0:
        return 0.0 if moved == 0 else math.inf
    return math.sqrt(moved / size)


@contextmanager
def changed(tensors: Tensors, change: Change) -> Iterator[dict[str, ChangedMatrix]]:
    """Change matrices inside the block, in place; yield what was changed, by name.

    On exit every weight has its original bits again, NaN too.
    """
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values()), "change fp32 weights"
    before = checksum(tensors)
    originals: dict[str, torch.Tensor] = {}
    try:
        records = {}
        for name, tensor in tensors.items():
            originals[name] = tensor.clone()
            tensor.copy_(change(name, originals[name]))
            records[name] = _record(originals[name], tensor, change.block_size(tensor))
        yield records
    finally:
        for name, original in originals.items():
            tensors[name].copy_(original)
        assert checksum(tensors) == before, "the weights were not restored"


def as_rows(matrix: torch.Tensor) -> torch.Tensor:
    """Return the matrix as [rows, columns]: its last axis against all others."""
    return matrix.reshape(-1, matrix.shape[-1] if matrix.dim() else 1)


def _record(before: torch.Tensor, after: torch.Tensor, block_size: int) -> ChangedMatrix:
    rows, columns = as_rows(before).shape
    whole_rows = block_size > columns  # a block of the whole tensor
    num, zeros, differing, moved, size = before.numel(), 0, 0, 0.0, 0.0
    pieces = (torch.split(tensor.flatten(), PART) for tensor in (before, after))
    for old, new in zip(*pieces, strict=True):
        zeros += int((new == 0).sum())
        differing += int((new != old).sum())  # a NaN counts as changed
        moved += float((new.double() - old.double()).square().sum())
        size += float(old.double().square().sum())
    return ChangedMatrix(
        rows,
        columns,
        block_size,
        block_size if whole_rows else columns % block_size or block_size,
        zeros / num,
        differing / num,
        moved,
        size,
    )
