"""How the form and the command line say what a plan shares with what exists, and how long things take."""

from __future__ import annotations

from ucurve.schemas.experiments import PlanPreview


def plan_in_words(plan: PlanPreview) -> str:
    """ "312 of 504 exist, 192 to measure, about 1 h 40 min on 2 workers"."""
    parts = []
    if plan.num_existing:
        parts.append(
            f"{plan.num_existing:,} of {plan.num_points:,} exist{'s' * (plan.num_points == 1)}"
        )
    if plan.num_running:
        parts.append(
            f"{plan.num_running:,} asked for by another experiment, measured once for both"
        )
    if plan.num_new:
        parts.append(f"{plan.num_new:,} to measure")
    if plan.num_again:
        parts.append(
            f"{plan.num_again:,} {'exists' if plan.num_again == 1 else 'exist'} and will be measured again to compare them"
        )
    if not (plan.num_running or plan.num_new or plan.num_again):
        return f"{parts[0]}: the figures appear at once"
    if plan.estimated_seconds is not None:
        parts.append(f"{roughly(plan.estimated_seconds)} on {counted(plan.num_workers, 'worker')}")
    return ", ".join(parts)


def namesakes_in_words(other: str, num: int) -> str:
    """Why numbers of the same name are not reused. other: "weights", "data" or "protocol" (see db.label_conflicts)."""
    of = {
        "weights": "other weights of the same name",
        "data": "another content of a text of the same name",
        "protocol": "another version of the protocol",
    }
    return f"{counted(num, 'point')} {'exists' if num == 1 else 'exist'} for {of[other]}: measured anew, never mixed."


def counted(num: int, noun: str) -> str:
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"


def roughly(seconds: float) -> str:
    """An estimate: "about 12 s", and "under 1 s", which is about enough by itself."""
    return duration(seconds) if seconds < 1 else f"about {duration(seconds)}"


def duration(seconds: float) -> str:
    """About how long, in two figures: "12 s", "3 min", "2 h 10 min", "4 d"."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes} min" if hours < 10 else f"{hours} h"
    return f"{seconds / 86400:.0f} d"
