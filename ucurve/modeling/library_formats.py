"""Weights in formats of a quantisation library, each matrix checked: "library_format/1".

with changed(tensors, LibraryFormat("int4", 4, 32)) as records:
    ...                            # measure

The library encodes a matrix on the CPU and decodes it again; the model computes with the decoded
fp32 weights. Both steps are checked. Decoding: the library's codes times its scales, computed here
in fp64, must be what it decoded. Encoding: no weight may move by more than half a step of its
block. A matrix that fails is refused, so a number never comes from a format that does something
else.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch

from ucurve.modeling.changed_matrices import as_rows
from ucurve.registry.library_formats import EXTRA, VERSION

RULES = {"protocol": "library_format/1", "library": "torchao", "device": "cpu"}
DECODED = 1e-4  # of a step: what fp32 may differ from fp64 at 255 levels
ENCODED = 0.5 + 1e-3
INT4: torch.dtype = torch.int4  # type: ignore[attr-defined]  # torch has it, its stubs do not


def allow_torchao() -> None:
    """Let torchao be imported, which `ucurve.modeling` keeps from other libraries."""
    if sys.modules.get("torchao", torch) is None:
        del sys.modules["torchao"]
        # It warns of kernels that other devices have, and of its own use of torch.
        for name in ("torchao", "torch.utils._pytree"):
            logging.getLogger(name).setLevel(logging.ERROR)


class UnusableFormatError(RuntimeError):
    """A matrix that a library's format does not hold as it promises; shown to users."""


@dataclass(frozen=True)
class LibraryFormat:
    """A symmetric integer format of torchao; group_size None: a scale per row."""

    name: str
    bits: int
    group_size: int | None

    @classmethod
    def of(cls, change: Mapping[str, Any]) -> LibraryFormat:
        """Return the format that the inputs of a point ask for.

        Raises ValueError for rules that this release does not know, and for a library of another
        version, whose numbers would be others.
        """
        if unknown := {name: change[name] for name in RULES if change[name] != RULES[name]}:
            raise ValueError(f"this release does not know {unknown}: upgrade the worker")
        try:
            installed = metadata.version("torchao")
        except metadata.PackageNotFoundError:
            installed = ""
        if change["version"] != installed:
            raise UnusableFormatError(
                f"this worker has {f'torchao {installed}' if installed else 'no torchao'}, and the "
                f"format is that of torchao {change['version']}: pip install {EXTRA}"
            )
        return cls(change["format"], change["bits"], change["group_size"])

    def block_size(self, matrix: torch.Tensor) -> int:
        """Return how many weights share a scale."""
        return self.group_size or as_rows(matrix).shape[1]

    def __call__(self, name: str, matrix: torch.Tensor) -> torch.Tensor:
        """Return the matrix as the library decodes it. Raises UnusableFormatError."""
        rows = as_rows(matrix).detach().cpu().contiguous()
        size = self.block_size(matrix)
        if rows.shape[1] % size:
            raise UnusableFormatError(
                f"{name} has rows of {rows.shape[1]} weights, which are no groups of {size}: "
                "exclude it"
            )
        if not rows.isfinite().all():
            raise UnusableFormatError(f"{name} has weights that are not finite: exclude it")
        decoded, codes, scale = self._coded(rows, size)
        step = rows.view(-1, size).abs().amax(1, keepdim=True).double() * 2 / (2**self.bits - 1)
        found = decoded.double().view(-1, size)
        by_hand = codes.double().view(-1, size) * scale.double().view(-1, 1)
        self._expect(name, "decodes", found - by_hand, step * DECODED)
        self._expect(name, "encodes", found - rows.double().view(-1, size), step * ENCODED)
        return decoded.view(matrix.shape).to(matrix.device)

    def _expect(self, name: str, does: str, error: torch.Tensor, bound: torch.Tensor) -> None:
        if not (error.abs() <= bound).all():
            worst = float((error.abs() / bound.clamp(min=1e-300)).max())
            raise UnusableFormatError(
                f"torchao {VERSION} {does} {name} in {self.name} with an error of {worst:.3g} "
                "times its bound: exclude it"
            )

    def _coded(
        self, rows: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the decoded weights, and the codes and scales that the library keeps."""
        allow_torchao()
        if self.name == "int8":
            from torchao.quantization import PerRow
            from torchao.quantization.quantize_.workflows import Int8Tensor

            tensor = Int8Tensor.from_hp(rows, granularity=PerRow())
        elif self.name == "int4":
            from torchao.quantization.quantize_.workflows import IntxUnpackedToInt8Tensor

            tensor = IntxUnpackedToInt8Tensor.from_hp(rows, (1, size), INT4)
        else:
            raise ValueError(f"this release does not know the format {self.name!r}")
        zero = tensor.zero_point
        assert zero is None or not zero.any(), "a symmetric format has its zero at 0"
        return tensor.dequantize(), tensor.qdata, tensor.scale
