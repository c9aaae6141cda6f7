"""Whether the weights of a branch are the average of the last checkpoints, judged by samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ucurve.registry.suites import Checkpoint
from ucurve.registry.tensors.weights_content import WeightsContent

MAX_AVERAGED = 20
PRECISION = 2.0**-10  # of numbers in fp16; those of bf16 are coarser


def averaged_steps(
    branch: str, steps: Sequence[Checkpoint], contents: Mapping[str, WeightsContent]
) -> list[str]:
    """Return the last steps whose mean a branch is; none where it is no such mean.

    Compared are some numbers of a few matrices, to the precision in which they are stored.
    """
    target = _samples(contents[branch])
    for replicate in sorted({c.replicate for c in steps}):
        names = [c.revision for c in steps if c.replicate == replicate][-MAX_AVERAGED:]
        samples = [_samples(contents[name]) for name in names]
        places = [p for p in target if all(p in sample for sample in samples)]
        if len(places) < 8:
            continue
        errors = {
            num: max(_error(target[p], [s[p] for s in samples[-num:]]) for p in places)
            for num in range(1, len(names) + 1)
        }
        best = min(errors, key=lambda num: errors[num])
        if best > 1 and errors[best] <= 1 < errors[1]:
            return names[-best:]
    return []


def _samples(content: WeightsContent) -> dict[tuple[str, int], float]:
    """Return the numbers that were kept, by tensor and place."""
    return {
        (name, place): value
        for name, tensor in (content.tensors or {}).items()
        for place, value in enumerate(tensor.sample)
    }


def _error(value: float, averaged: Sequence[float]) -> float:
    """Return the distance from the mean in units of what rounding may make of it."""
    size = max(abs(value), *map(abs, averaged))
    return abs(value - sum(averaged) / len(averaged)) / (PRECISION * size + 1e-7)
