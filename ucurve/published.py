"""Published numbers beside measured ones: marks on a figure, a table of differences, and whether they were reproduced.

    numbers().fine_tuning[0].perplexity_change          # 42.71 at step1000

A difference is only judged where the base agrees: a base perplexity more than 5% off means another evaluation protocol.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ucurve.spec import Verdict

FILE = Path(__file__).parent / "builtin" / "published.json"
COMPARABLE = 0.05  # of the base perplexity
CLOSE = 0.10  # of a published change of perplexity; published numbers come without an error
NOT_COMPARABLE = "not comparable: the evaluation protocol differs"


@dataclass(frozen=True)
class Row:
    """What was published about one fine-tuned checkpoint."""

    revision: str
    tokens: int
    accuracy: float
    perplexity: float
    perplexity_change: float

    @property
    def base(self) -> float:
        """The perplexity before, as the others imply it."""
        return self.perplexity - self.perplexity_change


@dataclass(frozen=True)
class Published:
    """One report's numbers and what they are numbers of."""

    source: str
    suite: str
    data: str
    evaluation: str
    learning_rate: float
    fine_tuning: tuple[Row, ...]
    gaussian: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Measured:
    """The same of one checkpoint as measured here; intervals are 95% over seeds, infinite with one seed."""

    revision: str
    base: float
    perplexity_change: float
    change_interval: tuple[float, float]
    accuracy: float
    accuracy_error: float


@cache
def numbers() -> Published:
    """The report's numbers, typed into `builtin/published.json`."""
    found = json.loads(FILE.read_text())
    rows = tuple(Row(**row) for row in found.pop("fine_tuning"))
    return Published(**{**found, "fine_tuning": rows, "gaussian": tuple(found["gaussian"])})


def marks(metric: str, where: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows "reference" for `ucurve.charts.curves`: accuracy, perplexity or perplexity_change over tokens."""
    published = numbers()
    return [
        {"what": "reference", **where, "tokens": row.tokens, "y": getattr(row, metric), "label": published.source}
        for row in published.fine_tuning
    ]


def outcome(row: Row, measured: Measured) -> tuple[str, str]:
    """("reproduced" | "not reproduced" | "undetermined" | "not comparable", the reason) for one checkpoint.

    A wide interval that holds the published number reproduces nothing: the change itself has to be close.
    """
    off = measured.base / row.base - 1
    if not abs(off) <= COMPARABLE:
        return "not comparable", f"{NOT_COMPARABLE} (base perplexity {measured.base:.4g} instead of {row.base:.4g})"
    low, high = measured.change_interval
    change = measured.perplexity_change / row.perplexity_change - 1
    same_change = abs(change) <= CLOSE
    open_change = not same_change and not (math.isfinite(low) and not low <= row.perplexity_change <= high)
    points = measured.accuracy - row.accuracy
    same_accuracy = math.isnan(points) or abs(points) <= 2 * math.hypot(measured.accuracy_error, measured.accuracy_error)
    told = f"change of perplexity {measured.perplexity_change:+.4g} against {row.perplexity_change:+.4g}"
    told += "" if math.isnan(points) else f", accuracy {measured.accuracy:.3f} against {row.accuracy:.3f}"
    if same_change and same_accuracy:
        return "reproduced", f"reproduced within {max(abs(change), abs(0 if math.isnan(points) else points)):.0%} ({told})"
    if open_change and same_accuracy:
        return "undetermined", f"undetermined: too few seeds to tell {change:+.0%} from none ({told})"
    what = " and ".join(name for name, same in (("forgetting", same_change), ("accuracy", same_accuracy)) if not same)
    return "not reproduced", f"not reproduced because of the {what} ({told})"


def cells(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The table of differences: a row per checkpoint, columns base, change, accuracy and outcome, each "measured (published)"."""
    found = {one.revision: one for one in measured}
    rows = []
    for row in numbers().fine_tuning:
        one = found.get(row.revision)
        texts = {
            "base perplexity": "…" if one is None else f"{one.base:.4g} ({row.base:.4g})",
            "change": "…" if one is None else f"{one.perplexity_change:+.4g} ({row.perplexity_change:+.4g})",
            "accuracy": "…" if one is None else f"{one.accuracy:.3f} ({row.accuracy:.3f})",
            "outcome": "…" if one is None else outcome(row, one)[0],
        }
        rows += [{"what": "cell", "tokens": row.tokens, "column": column, "label": text} for column, text in texts.items()]
    return rows


def verdict(measured: Sequence[Measured]) -> Verdict | None:
    """Were the published numbers reproduced? None while no checkpoint of theirs is measured."""
    published = numbers()
    found = {one.revision: one for one in measured}
    told = {row.revision: outcome(row, found[row.revision]) for row in published.fine_tuning if row.revision in found}
    if not told:
        return None
    answers = {answer for answer, _ in told.values()}
    whole = len(told) == len(published.fine_tuning)
    answer = "no" if "not reproduced" in answers else "yes" if answers == {"reproduced"} and whole else "undetermined"
    return Verdict(
        claim="published numbers reproduced",
        scope=published.source,
        answer=answer,
        sentence="; ".join(f"{revision}: {reason}" for revision, (_, reason) in told.items()) + ".",
        test="base perplexity within 5%, else not comparable; change of perplexity within 10%, not reproduced where the 95% "
        "interval over seeds excludes it too; accuracy within twice the standard error of a difference",
        evidence={"outcomes": {revision: found for revision, (found, _) in told.items()}},
    )
