"""Significant effects that are too small to matter: a remark beside the answer, which stays.

>>> remark(0.0004, (0.0003, 0.0005), 0.01, "nats")
' Significant, but below 0.01 nats: negligible.'
"""

from __future__ import annotations

from ucurve.schemas.results import Verdict

# Claims whose effect is a rise of a loss, in its unit.
CLAIMS = (
    "progressive sensitivity",
    "catastrophic overtraining",
    "progressive sensitivity at the best learning rate",
    "catastrophic overtraining at the best learning rate",
    "the new task is learned worse after more pre-training",
)


def remark(
    effect: float | None, interval: tuple[float, float] | None, smallest: float, unit: str
) -> str:
    """Return what to say of a significant effect by its size; empty where it is relevant.

    Negligible is only what is smaller with its whole interval.
    """
    if effect is None or effect >= smallest:
        return ""
    size = f" Significant, but below {smallest:.2g} {unit}"
    if interval is None or interval[1] >= smallest:
        return f"{size}; the interval includes relevant effects."
    return f"{size}: negligible."


def is_negligible(verdict: Verdict) -> bool:
    """Return whether a verdict is a yes whose effect is too small to matter."""
    return (
        verdict.claim in CLAIMS
        and verdict.answer == "yes"
        and verdict.smallest_effect is not None
        and remark(verdict.effect, verdict.interval, verdict.smallest_effect, "").endswith(
            "negligible."
        )
    )
