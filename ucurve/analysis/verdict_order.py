"""Verdicts in reading order: claim by claim, summaries first.

for group in by_claim(verdicts):
    group.summaries     # always visible
    group.details       # single conditions, collapsed under group.details_title
    group.standing      # "needs 4 more noise seeds": what its badge says
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ucurve.analysis import false_discovery
from ucurve.formatting import counted
from ucurve.schemas.results import Verdict

MAX_VISIBLE = 4  # up to this many answers to a claim are all visible
DEPENDS = "depends on noise scale"
NOT_TESTED = "not tested"


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
    def standing(self) -> str:
        """What the claim's badge says: of its most general answer, and what could settle it."""
        everything = [*self.summaries, *self.details]
        answer = standing(everything[0])
        singles = [verdict for verdict in everything if not verdict.is_summary]
        if answer != "undetermined" or not singles:
            return answer
        if all(standing(verdict) == NOT_TESTED for verdict in singles):
            return NOT_TESTED
        missing = [verdict for verdict in singles if verdict.answer == "undetermined"]
        if missing and all(verdict.more_draws for verdict in missing):
            return standing(max(missing, key=lambda verdict: verdict.more_draws or 0))
        return answer

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


def standing(verdict: Verdict) -> str:
    """Return what a verdict's badge says: its answer, or what an undetermined one lacks.

    "depends on noise scale": settled under both conventions, which differ. "not tested": too little
    is measured for any test.
    """
    if verdict.answer != "undetermined":
        return verdict.answer
    conventions = {
        summarized.answer
        for summarized in verdict.summarizes
        if summarized.scope.startswith(("under current_std", "under init_std"))
    }
    if conventions == {"yes", "no"}:
        return DEPENDS
    if verdict.more_draws:
        return f"needs {counted(verdict.more_draws, f'more {verdict.draw_name}'.removesuffix('s'))}"
    untested = verdict.p_value is None and verdict.effect is None and not verdict.num_nonfinite
    return NOT_TESTED if untested and not verdict.is_summary else "undetermined"


def more_draws(verdict: Verdict) -> int | None:
    """Return how many more draws or seeds could resolve an undetermined verdict, if known."""
    return verdict.more_draws if verdict.answer == "undetermined" else None


def caveats_of(verdicts: Iterable[Verdict]) -> list[str]:
    """Return the caveats of several verdicts, each once."""
    return list(dict.fromkeys(caveat for verdict in verdicts for caveat in verdict.caveats))
