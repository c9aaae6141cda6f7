"""Verdicts in reading order: claim by claim, summaries first.

for group in by_claim(verdicts):
    group.summaries     # always visible
    group.details       # single conditions, collapsed under group.details_title
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ucurve.analysis import false_discovery
from ucurve.schemas.results import Verdict

MAX_VISIBLE = 4  # up to this many answers to a claim are all visible


@dataclass(frozen=True)
class ClaimGroup:
    """All verdicts on one claim."""

    name: str
    summaries: Sequence[Verdict]
    details: Sequence[Verdict]

    @property
    def details_title(self) -> str:
        """Title of the collapsed details: "Per-setting results (16): 10 yes, 6 no"."""
        counts = Counter(verdict.answer for verdict in self.details)
        text = ", ".join(
            f"{counts[answer]} {answer}"
            for answer in ("yes", "no", "undetermined")
            if counts[answer]
        )
        return f"Per-setting results ({len(self.details)}): {text}"

    @property
    def tests(self) -> list[str]:
        """The distinct tests; one when all verdicts come from the same test."""
        verdicts = [*self.summaries, *self.details]
        return list(dict.fromkeys(verdict.test for verdict in verdicts if verdict.test))

    @property
    def discoveries(self) -> str:
        """How many single answers are discoveries when all are read together; may be empty."""
        return false_discovery.statement([*self.summaries, *self.details])


def by_claim(verdicts: Iterable[Verdict]) -> list[ClaimGroup]:
    """Group verdicts by claim, in the order in which claims first appear."""
    claims: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        claims.setdefault(verdict.claim, []).append(verdict)
    return [_group(claim, answers) for claim, answers in claims.items()]


def _group(claim: str, verdicts: Sequence[Verdict]) -> ClaimGroup:
    if len(verdicts) <= MAX_VISIBLE:
        return ClaimGroup(claim, verdicts, [])
    return ClaimGroup(
        claim,
        [verdict for verdict in verdicts if verdict.is_summary],
        [verdict for verdict in verdicts if not verdict.is_summary],
    )


def more_draws(verdict: Verdict) -> int | None:
    """Return how many more draws or seeds could resolve an undetermined verdict, if known."""
    return verdict.more_draws if verdict.answer == "undetermined" else None


def caveats_of(verdicts: Iterable[Verdict]) -> list[str]:
    """Return the caveats of several verdicts, each once."""
    return list(dict.fromkeys(caveat for verdict in verdicts for caveat in verdict.caveats))
