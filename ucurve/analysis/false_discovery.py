"""How many of a family's single verdicts are discoveries when all of them are read together.

    statement(verdicts)     # all single verdicts on one claim; "" for fewer than two tests

A reader scans pre-training seeds, noise conventions, evaluation sets and sizes for a yes. Sizes are
corrected for already (Holm), the others are not. The tests share noise seeds and evaluation text,
positively or not, so the procedure is that of Benjamini and Yekutieli (2001), which holds under any
dependence; that of Benjamini and Hochberg (1995) needs independence or positive dependence.
"""

from __future__ import annotations

from collections.abc import Sequence

from ucurve.formatting import counted
from ucurve.schemas.results import Verdict

RATE = 0.05  # expected share of wrong ones among the discoveries


def q_values(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the false-discovery rate under any dependence."""
    num = len(p_values)
    dependence = sum(1 / rank for rank in range(1, num + 1))
    adjusted, smallest = [1.0] * num, 1.0
    by_size = sorted(range(num), key=lambda index: p_values[index])
    for rank, index in reversed(list(enumerate(by_size, start=1))):
        smallest = min(smallest, p_values[index] * num / rank * dependence)
        adjusted[index] = smallest
    return adjusted


def tested(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts on single settings that have a p-value."""
    return [v for v in verdicts if not v.is_summary and v.p_value is not None]


def statement(verdicts: Sequence[Verdict]) -> str:
    """Return how many answers "yes" of one claim are discoveries; empty for fewer than two tests.

    The p-value of a "no" may be that of the opposite: it counts as 1, which only makes the others
    harder to discover.
    """
    family = tested(verdicts)
    if len(family) < 2:
        return ""
    p_values = [1.0 if v.answer == "no" or v.p_value is None else v.p_value for v in family]
    pairs = list(zip(family, q_values(p_values), strict=True))
    affirmed = [(verdict, q) for verdict, q in pairs if verdict.answer == "yes"]
    discoveries = [verdict for verdict, q in affirmed if q <= RATE]
    tests = counted(len(family), "test")
    if not affirmed:
        return f"Of {tests} on this claim, yes: none."
    text = (
        f"Of {tests} on this claim, yes: {len(affirmed)}; discoveries at a false-discovery rate of "
        f"{RATE:.0%} over all of them: {len(discoveries)} (Benjamini-Yekutieli, as tests share "
        "seeds and text)"
    )
    lost = [verdict.scope for verdict, q in affirmed if q > RATE]
    return f"{text}; not {'; '.join(lost)}." if lost else f"{text}."
