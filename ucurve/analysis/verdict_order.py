"""Verdicts in the order in which people read them: claim by claim, the overall answers first.

for claim in by_claim(verdicts):
    claim.first      # to be shown
    claim.single     # about single conditions, to be folded away: "16 conditions one by one: 10 yes, 6 no"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ucurve.spec import Verdict

FEW = 4  # answers to one claim are all shown


@dataclass(frozen=True)
class Claim:
    """All answers to one claim."""

    name: str
    first: Sequence[Verdict]
    single: Sequence[Verdict]

    @property
    def folded(self) -> str:
        """What is folded away, in words."""
        counts = Counter(verdict.answer for verdict in self.single)
        said = ", ".join(
            f"{counts[answer]} {answer}"
            for answer in ("yes", "no", "undetermined")
            if counts[answer]
        )
        return f"{len(self.single)} conditions one by one: {said}"

    @property
    def tests(self) -> list[str]:
        """How it was tested; one text where all answers come from the same test."""
        return list(
            dict.fromkeys(verdict.test for verdict in [*self.first, *self.single] if verdict.test)
        )


def by_claim(verdicts: Iterable[Verdict]) -> list[Claim]:
    """In the order in which claims first appear. An answer is overall when it sums up others ("parts" in its evidence)."""
    claims: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        claims.setdefault(verdict.claim, []).append(verdict)
    return [_split(name, found) for name, found in claims.items()]


def _split(name: str, found: Sequence[Verdict]) -> Claim:
    if len(found) <= FEW:
        return Claim(name, found, [])
    return Claim(
        name,
        [v for v in found if "parts" in v.evidence],
        [v for v in found if "parts" not in v.evidence],
    )


def more_draws(verdict: Verdict) -> int | None:
    """How many more draws or seeds would settle an open verdict, where it says so."""
    found = verdict.evidence.get("more_draws")
    return int(found) if found and verdict.answer == "undetermined" else None
