"""Whether weights look as they were drawn before the first step, rather than trained.

Then gains of norms are 1, biases 0, and matrices hold independent numbers with the spread of a
known initialiser. Training makes all of this untrue within a few hundred steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ucurve.registry.tensors.weights_content import (
    HEAD,
    TensorContent,
    WeightsContent,
    compared,
)

TOLERANCE = 0.05  # of a spread, as for a normal distribution cut at 3 sigma; sampling error extra
USUAL = 0.02  # where a config does not say
UNEQUAL_ROWS = 4.0  # 6 standard errors of the estimate from 8 rows above 1
START_OF_GAINS = (1.0, 0.0)  # 0: where the model adds 1
STATE_SPACE = ("mixer", "mamba", "ssm", "conv", "dt_")  # whose vectors do not start constant


def why_not_initial(content: WeightsContent) -> str | None:
    """Return why weights are not those before the first step; None where they may be.

    "the norm model.norm.weight is not constant"
    """
    tensors = compared(content)
    vectors = {
        name: tensor
        for name, tensor in tensors.items()
        if len(tensor.shape) == 1 and not any(part in name for part in STATE_SPACE)
    }
    for name in sorted(vectors):
        constant = vectors[name].constant
        if _is_norm(name) and name.endswith("weight") and constant not in START_OF_GAINS:
            return f"{name}, the gain of a norm, is not 1"
        if name.endswith("bias") and constant != 0:
            return f"{name} is not 0"
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.std is not None}
    unequal = [name for name, t in matrices.items() if (t.rows or 0) > UNEQUAL_ROWS]
    if 2 * len(unequal) > len(matrices):
        return f"the rows of {_number(unequal, matrices)} matrices differ in size, as in training"
    foreign = [name for name, tensor in matrices.items() if not _is_known(name, tensor, content)]
    if 2 * len(foreign) > len(matrices):
        name = sorted(foreign)[0]
        std = content.initializer_range
        config = f"initializer_range {std:g} of its config" if std else "any initialiser"
        return (
            f"{_number(foreign, matrices)} matrices have another spread than {config} gives "
            f"({name}: {matrices[name].std:.3g})"
        )
    return None


def _number(some: list[str], matrices: dict[str, TensorContent]) -> str:
    return f"{len(some)} of {len(matrices)}"


def _is_norm(name: str) -> bool:
    return "norm" in name or re.search(r"\bln_?\w*\.", name) is not None


def _is_known(name: str, tensor: TensorContent, content: WeightsContent) -> bool:
    """Whether the spread of a matrix is one that initialisers in use would give it."""
    assert tensor.std is not None, "the spread of a matrix was measured"
    tolerance = TOLERANCE + 4 / math.sqrt(2 * min(math.prod(tensor.shape), HEAD))
    return any(
        abs(tensor.std / spread - 1) <= tolerance for spread in _spreads(name, tensor, content)
    )


def _spreads(name: str, tensor: TensorContent, content: WeightsContent) -> Iterator[float]:
    """Yield the standard deviations that known initialisers give a matrix of this shape."""
    layers = content.num_layers or 1
    width, fan_in = max(1, min(tensor.shape)), max(1, math.prod(tensor.shape[1:]))
    std = content.initializer_range or USUAL
    yield std
    yield std / math.sqrt(2 * layers)  # into the residual stream
    yield 1.0  # embeddings of torch
    yield math.sqrt(2 / (5 * width))  # "small_init" and
    yield 2 / (layers * math.sqrt(width))  # "wang_init" of GPT-NeoX
    yield 1 / (layers * math.sqrt(width))
    for sides in {fan_in, width}:
        yield 1 / math.sqrt(sides)
        yield math.sqrt(2 / sides)  # He
    yield 1 / math.sqrt(3 * fan_in)  # linear layers of torch
    yield math.sqrt(2 / sum(tensor.shape))  # Glorot
    if layer := re.search(r"\.(\d+)\.", name):  # OLMo
        yield 1 / math.sqrt(2 * fan_in * (int(layer[1]) + 1))
