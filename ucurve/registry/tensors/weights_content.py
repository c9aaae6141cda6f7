"""What weights are, whatever file holds them: a hash of every tensor's values.

    content = WeightsContent(files={...}, tensors={"embed.weight": TensorContent(...), ...})
    same(content.tensors["embed.weight"], other.tensors["embed.weight"])    # "equal"

One model is saved with other metadata, as a pickle or as safetensors, whole or in shards, in fp32
or fp16: files differ, values do not. So every tensor is hashed by its values, as they are and
rounded to fp16 and bf16. Without torch; numpy is imported where files are read.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ucurve.registry.tensors.model_files import BUFFERS, FLOATS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

DIGEST = 24  # hexadecimal digits of a tensor's hash: they need only differ within a suite
HEAD = 1 << 18  # numbers from the start of a tensor that its statistics are made of
MAX_SAMPLED, SAMPLE = 8, 16  # matrices of which a few numbers are kept, and how many
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # little-endian

Likeness = Literal["equal", "rounded"]


class TensorContent(BaseModel):
    """The values of one tensor, as hashes, and what tells an initialisation from the trained."""

    model_config = ConfigDict(frozen=True)

    dtype: str
    shape: tuple[int, ...]
    f32: str | None = None  # hash of the values as fp32; none for what is stored in 16 bits
    f16: str = ""  # hash of the values rounded to fp16
    bf16: str = ""
    exact: tuple[str, ...] = ()  # the 16-bit types that hold the values without rounding
    constant: float | None = None  # the value that all numbers have
    std: float | None = None  # of the first rows of a matrix
    rows: float | None = None  # how much the rows' sizes differ; about 1 for independent numbers
    sample: tuple[float, ...] = ()
    finite: bool = Field(default=True, exclude=True)  # said once, at registration; not stored


class WeightsContent(BaseModel):
    """The content of the files of one checkpoint; without tensors where only hashes are known."""

    files: dict[str, str] = Field(default_factory=dict)  # SHA-256 by name
    tensors: dict[str, TensorContent] | None = None
    initializer_range: float | None = None  # of the config beside the weights
    num_layers: int | None = None


def compared(content: WeightsContent) -> dict[str, TensorContent]:
    """Return the tensors of floats by name, without buffers, which some formats leave out."""
    return {
        name: tensor
        for name, tensor in (content.tensors or {}).items()
        if tensor.dtype in FLOATS and not is_buffer(name, tensor.shape)
    }


def not_finite(tensors: Mapping[str, TensorContent]) -> list[str]:
    """Return the remark about weights with NaN or infinity, if there are any."""
    names = [n for n, t in tensors.items() if not t.finite and not is_buffer(n, t.shape)]
    if not names:
        return []
    return [
        f"{len(names)} of {len(tensors)} tensors hold numbers that are not finite, such as "
        f"{names[0]}: expect no finite loss, and use an earlier save where one is"
    ]


def is_buffer(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a stored tensor is computed, never trained: masks and frequencies."""
    mask = name.endswith((".attn.bias", ".attn.masked_bias")) and len(shape) in (0, 4)
    return mask or name.endswith(BUFFERS)


def same(first: TensorContent, second: TensorContent) -> Likeness | None:
    """Return whether two tensors have equal values, or equal ones once rounded to 16 bits."""
    if first.shape != second.shape:
        return None
    if first.f32 and first.f32 == second.f32:
        return "equal"
    likeness: Likeness | None = None
    for half, a, b in (("f16", first.f16, second.f16), ("bf16", first.bf16, second.bf16)):
        num_exact = (half in first.exact) + (half in second.exact)
        if a == b and num_exact == 2:
            return "equal"
        if a == b and num_exact:
            likeness = "rounded"
    return likeness


class TensorDigest:
    """Hashes one tensor, piece by piece; pieces hold whole numbers."""

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = dtype, shape
        self._hashes = {name: hashlib.sha256() for name in ("f32", "f16", "bf16")}
        self._exact = {"f16", "bf16"}
        self._first: float | None = None
        self._constant = self._finite = True
        self._head: list[Floats] = []
        self._num_head = 0

    def update(self, piece: bytes) -> None:
        """Take the next numbers, as they are stored: little-endian."""
        import numpy as np

        if not piece:
            return
        stored = np.frombuffer(piece, STORED[self.dtype])
        wide, values = self.dtype in ("F32", "F64"), None
        looks = self._exact != {self.dtype.lower()} or self._constant or self._num_head < HEAD
        with np.errstate(all="ignore"):  # what fp16 cannot hold becomes inf
            if wide or looks:
                values = _as_floats(stored, self.dtype)
            half, brain = _rounded(stored, values, self.dtype)
            if values is not None:
                self._look_at(values, half, brain)
        self._finite = self._finite and _are_finite(stored, self.dtype)
        if wide:
            assert values is not None, "fp32 values are what is hashed"
            self._hashes["f32"].update(values.data)
        self._hashes["f16"].update(half.data)
        self._hashes["bf16"].update(brain.data)

    def _look_at(
        self, values: Floats, half: NDArray[np.float16], brain: NDArray[np.uint16]
    ) -> None:
        """See which types hold the values, whether they are constant, and keep the first ones."""
        import numpy as np

        if self.dtype != "F16" and "f16" in self._exact:
            self._keep("f16", np.array_equal(half.astype("<f4"), values))
        if self.dtype != "BF16" and "bf16" in self._exact:
            self._keep("bf16", np.array_equal(_from_bf16(brain), values))
        if self._first is None:
            self._first = float(values[0])
        self._constant = self._constant and bool((values == values[0]).all())
        self._constant = self._constant and float(values[0]) == self._first
        if self._num_head < HEAD:
            self._head.append(values[: HEAD - self._num_head].copy())
            self._num_head += len(self._head[-1])

    def _keep(self, half: str, exact: bool) -> None:
        if not exact:
            self._exact.discard(half)

    def content(self) -> TensorContent:
        """Return the content of the whole tensor."""
        wide = self.dtype in ("F32", "F64")
        statistics = {} if self._first is None else self._statistics()
        return TensorContent(
            dtype=self.dtype,
            shape=self.shape,
            f32=self._hashes["f32"].hexdigest()[:DIGEST] if wide else None,
            f16=self._hashes["f16"].hexdigest()[:DIGEST],
            bf16=self._hashes["bf16"].hexdigest()[:DIGEST],
            exact=tuple(sorted(self._exact)),
            finite=self._finite,
            **statistics,
        )

    def _statistics(self) -> dict[str, Any]:
        import numpy as np

        assert self._first is not None
        if self._constant:
            return {"constant": self._first if math.isfinite(self._first) else None}
        if len(self.shape) < 2:
            return {}
        head = np.concatenate(self._head).astype(np.float64)
        sample = tuple(map(float, head[:SAMPLE]))
        finite = {"sample": sample} if np.isfinite(head).all() else {}
        if not finite:
            return {}
        return {**finite, "std": float(head.std()), "rows": _spread_of_rows(head, self.shape)}


def _spread_of_rows(head: NDArray[np.float64], shape: tuple[int, ...]) -> float | None:
    """Return the variance of the rows' mean squares over that of independent numbers.

    It is about 1 for a matrix of independent numbers of any distribution, and grows once training
    makes some rows matter more than others. None for fewer than 8 whole rows.
    """

    width = math.prod(shape[1:])
    rows = head[: len(head) // width * width].reshape(-1, width)
    if len(rows) < 8 or width < 8:
        return None
    squares = rows**2
    expected = squares.var() / width
    return float(squares.mean(axis=1).var(ddof=1) / expected) if expected > 0 else None


def thinned(tensors: Mapping[str, TensorContent]) -> dict[str, TensorContent]:
    """Keep the samples of a few matrices only, of the same ones in every checkpoint."""
    matrices = [name for name, tensor in tensors.items() if tensor.sample]
    sampled = sorted(matrices, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    dropped = set(sampled[MAX_SAMPLED:])
    return {
        name: tensor.model_copy(update={"sample": ()}) if name in dropped else tensor
        for name, tensor in tensors.items()
    }


def _as_floats(stored: NDArray[Any], dtype: str) -> Floats:
    return _from_bf16(stored) if dtype == "BF16" else stored.astype("<f4", copy=False)


def _are_finite(stored: NDArray[Any], dtype: str) -> bool:
    import numpy as np

    if dtype == "BF16":  # whose exponent is all ones where it is not
        return bool(((stored & np.uint16(0x7F80)) != 0x7F80).all())
    return bool(np.isfinite(stored).all())


def _rounded(
    stored: NDArray[Any], values: Floats | None, dtype: str
) -> tuple[NDArray[np.float16], NDArray[np.uint16]]:
    """Return numbers rounded to fp16 and to bf16; of 16 bits there are few, so they are listed."""
    if dtype == "F16":
        return stored, _bf16_of_f16().take(stored.view("<u2"))
    if dtype == "BF16":
        return _f16_of_bf16().take(stored), stored
    assert values is not None, "fp32 values are rounded themselves"
    return values.astype("<f2"), _as_bf16(values)


@cache
def _f16_of_bf16() -> NDArray[np.float16]:
    import numpy as np

    with np.errstate(all="ignore"):
        return _from_bf16(np.arange(1 << 16, dtype="<u2")).astype("<f2")


@cache
def _bf16_of_f16() -> NDArray[np.uint16]:
    import numpy as np

    return _as_bf16(np.arange(1 << 16, dtype="<u2").view("<f2").astype("<f4"))


def _from_bf16(bits: NDArray[np.uint16]) -> Floats:
    import numpy as np

    widened = bits.astype("<u4")
    widened <<= np.uint32(16)
    return widened.view("<f4")


def _as_bf16(values: Floats) -> NDArray[np.uint16]:
    """Round to the nearest bf16, ties to even, as torch does."""
    import numpy as np

    bits = values.view("<u4")
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    brain: NDArray[np.uint16] = rounded.astype("<u2")
    missing = np.isnan(values)
    if missing.any():
        brain[missing] = np.uint16(0x7FC0)
    return brain
