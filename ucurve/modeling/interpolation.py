"""A model on the straight line between two checkpoints, "interpolation/1".

with interpolated(first.model, second.model, t=0.5) as line:
    ...                            # measure the first model: its weights are those at t
# here every weight of the first model has its original bits again

Every weight becomes (1 - t) a + t b, computed in fp64 and rounded once to fp32. Tied weights are
one parameter and stay tied. At t = 0 and t = 1 the weights have the bits of a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from ucurve.modeling.changed_matrices import PART, Tensors, changed, relative

# What of the inputs has one value in this release; any other is of a later one.
RULES = {"protocol": "interpolation/1", "arithmetic": "fp64", "buffers": "first"}


class DifferentModelsError(RuntimeError):
    """Two checkpoints whose weights do not correspond one to one; shown to users."""


@dataclass(frozen=True)
class Line:
    """What lies between the ends of a line.

    distance: |b - a| / |a| over all parameters. num_tensors: parameters, tied ones once.
    num_buffers: buffers and parameters that are no floating-point numbers and differ between the
    ends; they are those of the first checkpoint.
    """

    distance: float
    num_tensors: int
    num_buffers: int


@dataclass(frozen=True)
class Towards:
    """The change of weights that moves them by t towards those of another model."""

    targets: Tensors
    t: float

    def __call__(self, name: str, matrix: torch.Tensor) -> torch.Tensor:
        """Return (1 - t) matrix + t other."""
        other = self.targets[name]
        if self.t == 0:  # 0 times a weight that is not finite is NaN, and -0 + 0 is +0
            return matrix
        if self.t == 1:
            return other
        moved = torch.empty(matrix.shape, dtype=matrix.dtype, device=matrix.device)
        parts = [torch.split(tensor.flatten(), PART) for tensor in (moved, matrix, other)]
        for new, a, b in zip(*parts, strict=True):
            new.copy_(a.double() * (1 - self.t) + b.double() * self.t)
        return moved

    def block_size(self, matrix: torch.Tensor) -> int:
        """Return the size of the tensor: no part of it is treated on its own."""
        return matrix.numel()


def position(change: Mapping[str, Any]) -> float:
    """Return t of the inputs of a point. Raises ValueError for rules of a later release."""
    if unknown := {name: change[name] for name in RULES if change[name] != RULES[name]}:
        raise ValueError(f"this release does not know {unknown}: upgrade the worker")
    return float(change["t"])


@contextmanager
def interpolated(first: PreTrainedModel, second: PreTrainedModel, t: float) -> Iterator[Line]:
    """Give the first model the weights at t inside the block, in place.

    Raises DifferentModelsError where their parameters differ in name or shape.
    """
    assert first is not second, "a line needs two models"
    starts, targets = _floating(first), _floating(second)
    _expect_same(starts, targets)
    moved = sum(_square(targets[name], tensor) for name, tensor in starts.items())
    size = sum(_square(tensor) for tensor in starts.values())
    line = Line(relative(moved, size), len(starts), _num_differing(first, second))
    with changed(starts, Towards(targets, t)):
        yield line


def _floating(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return parameters by name, tied ones once, without those that are no floating-point ones."""
    return {
        name: parameter.data
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point()
    }


def _expect_same(starts: Tensors, targets: Tensors) -> None:
    for name in sorted(starts.keys() | targets.keys()):
        if name not in starts or name not in targets:
            raise DifferentModelsError(
                f"one checkpoint has no tensor {name}: a line needs two checkpoints of one "
                "architecture, tied alike"
            )
        if starts[name].shape != targets[name].shape:
            shapes = " and ".join(str(tuple(t.shape)) for t in (starts[name], targets[name]))
            raise DifferentModelsError(
                f"{name} has the shapes {shapes}: a line needs two checkpoints of one size"
            )


def _square(tensor: torch.Tensor, other: torch.Tensor | None = None) -> float:
    """Return the sum of squares of a tensor, or of its difference from another, in fp64."""
    parts = torch.split(tensor.flatten(), PART)
    if other is None:
        return math.fsum(float(part.double().square().sum()) for part in parts)
    pairs = zip(parts, torch.split(other.flatten(), PART), strict=True)
    return math.fsum(float((a.double() - b.double()).square().sum()) for a, b in pairs)


def _num_differing(first: PreTrainedModel, second: PreTrainedModel) -> int:
    """Return how many tensors that are not interpolated differ."""
    starts, targets = (
        {
            **dict(model.named_buffers()),
            **{n: p.data for n, p in model.named_parameters() if not p.is_floating_point()},
        }
        for model in (first, second)
    )
    return sum(
        name not in starts
        or name not in targets
        or starts[name].shape != targets[name].shape
        or not torch.equal(starts[name], targets[name])
        for name in starts.keys() | targets.keys()
    )
