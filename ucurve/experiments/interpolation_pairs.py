"""Which two checkpoints a line joins, and whether their tensors correspond.

[pair.names for pair in pairs_of(chosen, ["checkpoints", "seeds"])]
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ucurve.experiments.checkpoint_selection import by_replicate
from ucurve.registry.suites import Checkpoint, Suite
from ucurve.spec import SpecError


@dataclass(frozen=True)
class Pair:
    """Two checkpoints; `between` says what they are, for people."""

    between: str
    first: Checkpoint
    second: Checkpoint

    @property
    def names(self) -> str:
        """The revisions of both ends."""
        return f"{self.first.revision} and {self.second.revision}"

    @property
    def of_seeds(self) -> bool:
        """Whether the ends belong to two pre-training runs."""
        return self.first.replicate != self.second.replicate


def pairs_of(chosen: Sequence[Checkpoint], kinds: Sequence[str]) -> list[Pair]:
    """Return the lines of these kinds between checkpoints. Raises SpecError without tokens."""
    replicates = by_replicate(chosen)
    if unplaced := [c.revision for c in chosen if c.tokens is None]:
        raise SpecError(
            "checkpoints",
            f"The tokens of {unplaced[0]} are unknown, so that it has no place among the others: "
            "leave it out, or register the suite again with a table of positions.",
        )
    pairs = []
    if "checkpoints" in kinds:
        pairs += [
            Pair(f"checkpoints of pre-training seed {a.replicate}", a, b)
            for replicate in replicates
            for a, b in itertools.pairwise(replicate)
        ]
    if "seeds" in kinds:
        pairs += [
            Pair(f"pre-training seeds {a.replicate} and {b.replicate}", a, b)
            for one, other in itertools.pairwise(replicates)
            for a in one
            for b in other
            if a.tokens == b.tokens and a.training_phase == b.training_phase
        ]
    return pairs


def expect_one_model(suite: Suite, pair: Pair) -> None:
    """Raise SpecError where tensors differ in name or shape, as far as the files tell."""
    a, b = (suite.layouts.get(c.layout_sha256 or "") for c in (pair.first, pair.second))
    reason = ""
    sizes = [c.num_parameters for c in (pair.first, pair.second)]
    if None not in sizes and sizes[0] != sizes[1]:
        reason = f"they have {sizes[0]:,} and {sizes[1]:,} parameters"
    if a and b and a.sha256 != b.sha256:
        shapes = [{t.canonical: t.shape for t in layout.parameters} for layout in (a, b)]
        for name in sorted(shapes[0].keys() | shapes[1].keys()):
            one, other = (names.get(name) for names in shapes)
            if one != other:
                reason = f"{name} is {_shape(one)} in one and {_shape(other)} in the other"
                break
        if not reason and a.architecture != b.architecture:
            reason = f"one is {a.architecture}, the other {b.architecture}"
    if reason:
        raise SpecError(
            "checkpoints",
            f"No line joins {pair.names}: {reason}. List checkpoints of one model.",
        )


def _shape(shape: Sequence[int] | None) -> str:
    return "missing" if shape is None else "of shape " + " × ".join(map(str, shape))
