"""Hash the tensors of weights files by their values, while the files themselves are hashed."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from ucurve.registry.artifacts import Progress, no_progress
from ucurve.registry.tensors.model_files import Tensor
from ucurve.registry.tensors.weights_content import BYTES, TensorContent, TensorDigest

MAX_APART = 1 << 31  # bytes of a tensor that is read at once
PIECE = 1 << 18  # bytes at a time: what is made of them fits a core's cache


def hash_weights(
    file: BinaryIO, tensors: Mapping[str, Tensor], progress: Progress = no_progress
) -> tuple[str, dict[str, TensorContent]]:
    """Return the SHA-256 of an open file of weights and the content of its floats, in one pass.

    tensors: of the file, as `stored_tensors` returns them; those that share numbers count once.
    """
    size = os.fstat(file.fileno()).st_size
    digest, contents = hashlib.sha256(), {}
    floats = {n: t for n, t in tensors.items() if t.dtype in BYTES and t.start is not None}
    position = 0
    file.seek(0)
    left: list[str] = []
    for name in sorted(floats, key=lambda name: floats[name].start or 0):
        tensor = floats[name]
        start, length = tensor.start or 0, BYTES[tensor.dtype] * math.prod(tensor.shape)
        if start < position or tensor.stride is not None:
            left.append(name)
            continue
        for piece in _pieces(file, start - position):
            digest.update(piece)
        contents[name], position = TensorDigest(tensor.dtype, tensor.shape), start + length
        for piece in _pieces(file, length):
            digest.update(piece)
            contents[name].update(piece)
            progress(file.tell(), size)
    for piece in _pieces(file, size - position):
        digest.update(piece)
        progress(file.tell(), size)
    for name in left:
        if floats[name].alias_of is None and _is_readable(floats[name]):
            contents[name] = _read_apart(file, floats[name])
    return digest.hexdigest(), {name: tensor.content() for name, tensor in contents.items()}


def _is_readable(tensor: Tensor) -> bool:
    """Whether numbers in other order lie within their own bytes, and are few enough to sort."""
    span = tensor.end - (tensor.start or 0)
    num_bytes = BYTES[tensor.dtype] * math.prod(tensor.shape)
    return min(tensor.stride or (1,)) > 0 and num_bytes <= span <= MAX_APART


def _read_apart(file: BinaryIO, tensor: Tensor) -> TensorDigest:
    """Return the digest of a tensor whose numbers lie among those of others, or in other order."""
    import numpy as np

    digest, width = TensorDigest(tensor.dtype, tensor.shape), BYTES[tensor.dtype]
    file.seek(tensor.start or 0)
    span = file.read(tensor.end - (tensor.start or 0))
    if tensor.stride is not None:
        numbers = np.frombuffer(span, f"<u{width}")
        steps = [step * width for step in tensor.stride]
        span = np.lib.stride_tricks.as_strided(numbers, tensor.shape, steps).tobytes()
    digest.update(span)
    return digest


def _pieces(file: BinaryIO, num: int) -> Iterator[bytes]:
    """Read `num` bytes in pieces that hold whole numbers."""
    while num > 0 and (piece := file.read(min(PIECE, num))):
        num -= len(piece)
        yield piece
