"""The one answer that an experiment gives first, with the evidence behind it.

answer = headline(verdicts)
answer.standing      # "yes", or "needs 4 more noise seeds": see `verdict_order.standing`
answer.lead          # "After noise, the longest pre-trained model is worse than an earlier one."
answer.verdict       # the most general verdict on the claim
answer.example       # the clearest single condition: its sentence has the effect, with interval
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ucurve.analysis.verdict_order import ClaimGroup, by_claim
from ucurve.schemas.results import Verdict

# The first claim of this list that was tested answers the experiment's question; without any of
# them, the first claim.
QUESTIONS = (
    "catastrophic overtraining",
    "catastrophic overtraining at the best learning rate",
    "progressive sensitivity",
)
LEADS = {
    "catastrophic overtraining": {
        "yes": "Longer pre-training made the model worse after the same change",
        "no": "Longer pre-training did not make the model worse after the same change",
    },
    "progressive sensitivity": {
        "yes": "The same change hurts more after longer pre-training",
        "no": "The same change does not hurt more after longer pre-training",
    },
}


@dataclass(frozen=True)
class Headline:
    """An answer to the experiment's question."""

    lead: str
    standing: str
    verdict: Verdict
    example: Verdict | None


def headline(verdicts: Sequence[Verdict]) -> Headline | None:
    """Return the answer to the experiment's question; None before there is a verdict."""
    claims = {claim.name: claim for claim in by_claim(verdicts)}
    if not claims:
        return None
    name = next((name for name in QUESTIONS if name in claims), next(iter(claims)))
    claim = claims[name]
    everything = [*claim.summaries, *claim.details]
    verdict = everything[0]
    lead = LEADS.get(name, {}).get(verdict.answer) or f"{name[:1].upper()}{name[1:]}"
    return Headline(lead, claim.standing, verdict, _example(claim, verdict))


def _example(claim: ClaimGroup, verdict: Verdict) -> Verdict | None:
    """Return the single condition that shows the answer best; None where the verdict is one.

    Of those with the verdict's answer (any, where none has it): the smallest p-value, then the
    largest effect. Noise relative to initialisation before noise that grows with the weights.
    """
    if not verdict.is_summary:
        return None
    singles = [single for single in (*claim.summaries, *claim.details) if not single.is_summary]
    scopes = {summarized.scope for summarized in verdict.summarizes}
    # None where the verdict summarizes summaries.
    direct = [single for single in singles if single.scope in scopes]
    tested = [single for single in direct or singles if single.effect is not None]
    agreeing = [single for single in tested if single.answer == verdict.answer] or tested
    return min(agreeing, key=_clarity, default=None)


def _clarity(verdict: Verdict) -> tuple[float, bool, float]:
    p = 1.0 if verdict.p_value is None else verdict.p_value
    return p, verdict.labels.get("scale") == "current_std", -(verdict.effect or 0.0)
