"""Stored hashes of weights never change: a suite's revisions are compared over releases."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ucurve.registry.tensors.weights_content import BYTES, TensorDigest

GOLDEN = {
    "F16 all": "501e948fbf2842ba",
    "BF16 all": "ae86b472b17ff8bb",
    "F32 random": "7d24f93c30e78fa5",
    "F32 between two of bf16": "0db8a26facce38df",
    "F32 exact in bf16": "3f31d2af4fd904d6",
    "F32 constant": "f71013b063b15202",
    "F16 constant": "2cbd137224a4af23",
    "F64 random": "0d82311047232003",
    "BF16 in the range of fp16": "28512412fcb79731",
}


def contents() -> dict[str, bytes]:
    """Every pattern of 16 bits, and random ones of 32 and 64: numbers of all sizes, inf and NaN."""
    words = np.arange(1 << 16, dtype="<u2")
    bits = np.random.default_rng(5).bytes(40_000)
    return {
        "F16 all": words.tobytes(),
        "BF16 all": words.tobytes(),
        "F32 random": bits,
        "F32 between two of bf16": (words.astype("<u4") << np.uint32(16) | 0x8000).tobytes(),
        "F32 exact in bf16": (words.astype("<u4") << np.uint32(16)).tobytes(),
        "F32 constant": np.full(300, -0.1, "<f4").tobytes(),
        "F16 constant": np.full(300, -0.1, "<f2").tobytes(),
        "F64 random": bits,
        "BF16 in the range of fp16": (words[0x3800:0x4780]).tobytes(),
    }


def content(name: str, piece: int) -> str:
    """Everything that is compared exactly; statistics may differ in their last bits."""
    dtype, stored = name.split()[0], contents()[name]
    digest = TensorDigest(dtype, (len(stored) // BYTES[dtype],))
    for start in range(0, len(stored), piece):
        digest.update(stored[start : start + piece])
    return digest.content().model_dump_json(exclude={"std", "rows", "sample"})


@pytest.mark.parametrize("piece", [1 << 10, 1 << 18])
@pytest.mark.parametrize("name", contents())
def test_the_content_of_a_tensor_is_what_it_was(name: str, piece: int) -> None:
    assert hashlib.sha256(content(name, piece).encode()).hexdigest()[:16] == GOLDEN[name]
