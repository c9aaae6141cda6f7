"""Hash the tensors of weights files by their values, while the files themselves are hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from ucurve.registry.artifacts import Progress, no_progress
from ucurve.registry.model_files import Tensor
from ucurve.registry.weights_content import TensorContent, TensorDigest, num_bytes

PIECE = 1 << 18  # bytes at a time: what is made of them fits a core's cache


def hash_weights(
    file: BinaryIO, tensors: Mapping[str, Tensor], progress: Progress = no_progress
) -> tuple[str, dict[str, TensorContent]]:
    """Return the SHA-256 of an open file of weights and the content of its floats, in one pass.

    tensors: those of its header, as `stored_tensors` returns them.
    """
    size = os.fstat(file.fileno()).st_size
    digest, contents = hashlib.sha256(), {}
    starts = _starts(file, tensors)
    position = 0
    file.seek(0)
    for name in sorted(starts, key=lambda name: starts[name]):
        start, tensor = starts[name], tensors[name]
        if start < position:  # bytes of another tensor
            continue
        for piece in _pieces(file, start - position):
            digest.update(piece)
        length = num_bytes(tensor) or 0
        contents[name], position = TensorDigest(tensor.dtype, tensor.shape), start + length
        for piece in _pieces(file, length):
            digest.update(piece)
            contents[name].update(piece)
            progress(file.tell(), size)
    for piece in _pieces(file, size - position):
        digest.update(piece)
        progress(file.tell(), size)
    return digest.hexdigest(), {name: tensor.content() for name, tensor in contents.items()}


def _starts(file: BinaryIO, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return where in the file the numbers of each tensor of floats begin."""
    file.seek(0)
    header = 8 + int.from_bytes(file.read(8), "little")
    sizes = {name: num_bytes(tensor) for name, tensor in tensors.items()}
    return {
        name: header + tensors[name].end - size for name, size in sizes.items() if size is not None
    }


def _pieces(file: BinaryIO, num: int) -> Iterator[bytes]:
    """Read `num` bytes in pieces that hold whole numbers."""
    while num > 0 and (piece := file.read(min(PIECE, num))):
        num -= len(piece)
        yield piece
