"""Which tensors of several checkpoints hold the same values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from ucurve.registry.tensors.weights_content import (
    Likeness,
    TensorContent,
    WeightsContent,
    compared,
    same,
)

Key = tuple[str, int]  # a revision, and the place of a tensor among its distinct ones


class Matches:
    """Equal tensors by pair of revisions; tied tensors count once, constant ones only in wholes."""

    def __init__(self, contents: Mapping[str, WeightsContent]) -> None:
        self._files = {name: content.files for name, content in contents.items()}
        self._tensors = {
            name: list({_values(tensor): tensor for tensor in compared(content).values()}.values())
            for name, content in contents.items()
            if content.tensors
        }
        self._alike: dict[tuple[str, str], dict[int, Likeness]] = defaultdict(dict)

    def add(self, first: Key, second: Key, likeness: Likeness) -> None:
        """Record that two tensors are alike."""
        for (name, place), (another, _) in ((first, second), (second, first)):
            self._alike[name, another].setdefault(place, likeness)

    def likeness(self, first: str, second: str) -> Likeness | None:
        """Return how two revisions are the same in whole; None where they are not."""
        there, back = self._alike.get((first, second), {}), self._alike.get((second, first), {})
        if not there or len(there) < len(self._tensors[first]):
            return None
        if len(back) < len(self._tensors[second]):
            return None
        return "rounded" if "rounded" in there.values() else "equal"

    def shared(self, first: str, second: str) -> tuple[int, int, str]:
        """Return how many tensors of a revision another one has too, of how many, and the noun.

        Files are counted where the tensors of either are unknown.
        """
        if first in self._tensors and second in self._tensors:
            varied = self._varied(first)
            return len(varied & self._alike.get((first, second), {}).keys()), len(varied), "tensors"
        files, others = self._files.get(first, {}), self._files.get(second, {})
        return len(set(files.values()) & set(others.values())), len(files), "files"

    def num_tensors(self, name: str) -> int:
        """Return how many tensors of a revision are compared."""
        return len(self._varied(name))

    def in_all(self, names: Sequence[str]) -> int:
        """Return how many tensors of the first revision are in all others too."""
        if not names or any(name not in self._tensors for name in names):
            return 0
        shared = self._varied(names[0])
        for second in names[1:]:
            shared &= self._alike.get((names[0], second), {}).keys()
        return len(shared)

    def _varied(self, name: str) -> set[int]:
        tensors = self._tensors.get(name, [])
        return {place for place, tensor in enumerate(tensors) if tensor.constant is None}

    def tensors(self) -> Mapping[str, Sequence[TensorContent]]:
        """Return the distinct tensors of each revision."""
        return self._tensors


def _values(tensor: TensorContent) -> tuple[object, ...]:
    """Return what tells the values of two tensors apart."""
    return tensor.shape, tensor.dtype, tensor.f32, tensor.f16, tensor.bf16


def matches_of(contents: Mapping[str, WeightsContent]) -> Matches:
    """Compare the contents of several revisions, by name of the revision."""
    matches = Matches(contents)
    alike: dict[tuple[object, ...], list[tuple[Key, TensorContent]]] = defaultdict(list)
    for name, tensors in matches.tensors().items():
        for place, tensor in enumerate(tensors):
            for half in ("f16", "bf16"):
                alike[half, getattr(tensor, half), tensor.shape].append(((name, place), tensor))
    for candidates in alike.values():
        for (first, a), (second, b) in combinations(candidates, 2):
            if first[0] != second[0] and (likeness := same(a, b)):
                matches.add(first, second, likeness)
    return matches
