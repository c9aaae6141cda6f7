"""Inflection points of different changes side by side: do they agree?

The paper reads equal inflection points under noise and under fine-tuning as a sign of a shared mechanism. A larger
change moves the bottom to fewer tokens, so bottoms of all sizes are compared, per pre-training run: they *agree* when all
intervals together span at most one step between checkpoints, *differ* when no interval of one change meets one of the
other, and anything else is undetermined. What the verdicts of single conditions carry is enough for all of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ucurve.analysis import combined_verdicts
from ucurve.analysis.conditions import Answer
from ucurve.formatting import tokens
from ucurve.spec import Verdict

if TYPE_CHECKING:
    from ucurve.analysis.study_experiment import Part

CLAIM = "inflection points agree"
UNIT = "tokens"  # bottoms on another axis (features learned) are no neighbours of these


@dataclass(frozen=True)
class Bottom:
    """Where one condition's loss after the change is lowest (tokens), with its 95% interval.

    low is 0 where the bottom may lie before the first checkpoint; step: the largest ratio between neighbouring checkpoints.
    """

    change: str
    condition: str
    run: str  # "replicate 0"
    answer: Answer
    tokens: float
    low: float
    high: float
    step: float


def bottoms(parts: Sequence[Part]) -> list[Bottom]:
    """One per condition whose loss may be a U; those that two experiments share are counted once."""
    found: dict[tuple[str, str], Verdict] = {}
    for part in parts:
        for verdict in filter(_has_bottom, part.verdicts):
            known = found.get((part.change, verdict.scope))
            if known is None or (verdict.num_draws or 0) > (known.num_draws or 0):
                found[part.change, verdict.scope] = verdict
    return [
        _bottom(change, verdict) for (change, _), verdict in found.items() if verdict.answer != "no"
    ]


def _bottom(change: str, verdict: Verdict) -> Bottom:
    assert verdict.interval, "asked of verdicts that have a bottom only"
    run = _run(verdict)
    condition = ", ".join(word for word in verdict.scope.split(", ") if word != run)
    low = 0.0 if verdict.evidence["at_first_checkpoint"] else verdict.interval[0]
    step = max((b / a for a, b in itertools.pairwise(verdict.evidence["x"]) if a > 0), default=1.0)
    return Bottom(
        change,
        condition,
        run,
        verdict.answer,
        verdict.effect or 0.0,
        low,
        verdict.interval[1],
        step,
    )


def _run(verdict: Verdict) -> str:
    """The pre-training run that a scope names: "replicate 0"."""
    found = re.search(r"replicate \d+", verdict.scope)
    return found[0] if found else ""


def verdicts(parts: Sequence[Part]) -> list[Verdict]:
    """Over all pre-training runs first, then run by run; none where fewer than two kinds of change have bottoms in tokens."""
    changes = list(
        dict.fromkeys(
            part.change for part in parts if any(_has_bottom(verdict) for verdict in part.verdicts)
        )
    )
    if len(changes) < 2:
        return []
    found = bottoms(parts)
    runs = sorted(
        {_run(verdict) for part in parts for verdict in part.verdicts if _has_bottom(verdict)}
    )
    single = [
        _verdict(changes, [bottom for bottom in found if bottom.run == run], run) for run in runs
    ]
    summed = combined_verdicts.over_replicates(single, " and ".join(changes))
    return [
        summed.model_copy(
            update={
                "evidence": {**summed.evidence, "bottoms": [asdict(bottom) for bottom in found]}
            }
        ),
        *single,
    ]


def _has_bottom(verdict: Verdict) -> bool:
    return (
        verdict.claim == "inflection point"
        and verdict.interval is not None
        and verdict.effect_name.endswith(UNIT)
    )


def _verdict(changes: Sequence[str], found: Sequence[Bottom], run: str) -> Verdict:
    sure = {
        change: [b for b in found if b.change == change and b.answer == "yes"] for change in changes
    }
    answer, reason = compared(sure)
    return Verdict(
        claim=CLAIM,
        scope=run,
        answer=answer,
        sentence=f"{answer}: {reason}",
        test="95% bootstrap intervals of the bottoms of all conditions in which the rise after them is established; agree: all "
        "intervals lie within one step between checkpoints; differ: none of one change meets one of the other",
    )


def compared(sure: dict[str, list[Bottom]]) -> tuple[Answer, str]:
    """The answer and its reason from the established bottoms of every change."""
    missing = [change for change, mine in sure.items() if not mine]
    places = {change: _range(mine) for change, mine in sure.items() if mine}
    told = "; ".join(
        f"{change}: {_tokens(low)} to {_tokens(high)}" for change, (low, high) in places.items()
    )
    if missing:
        none = f"no U is established under {' and '.join(missing)}, so there is nothing to compare"
        return "undetermined", f"{none}{f' ({told})' if told else ''}."
    for one, other in itertools.combinations(sure, 2):
        if not any(a.low <= b.high and b.low <= a.high for a in sure[one] for b in sure[other]):
            return (
                "no",
                f"they differ at every size of change tried ({told}); another size might move them together.",
            )
    whole = [bottom for mine in sure.values() for bottom in mine]
    low, high = _range(whole)
    if low > 0 and high / low <= min(bottom.step for bottom in whole) * 1.001:
        return "yes", f"they are the same within one step between checkpoints ({told})."
    return (
        "undetermined",
        f"the intervals meet but span more than one step between checkpoints ({told}).",
    )


def _range(bottoms: Sequence[Bottom]) -> tuple[float, float]:
    return min(bottom.low for bottom in bottoms), max(bottom.high for bottom in bottoms)


def _tokens(value: float) -> str:
    if not value:
        return "before the first checkpoint"
    return f"{tokens(value)} tokens"
