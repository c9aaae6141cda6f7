"""Numbers for people: counts, tokens, durations, sizes, non-finite values. Every room formats here.

number(0.03125)          "0.03125"        number(float("inf"))      "∞"
tokens(14_336_000)       "14.3M"          duration(7800)            "2 h 10 min"
counted(3, "seed")       "3 seeds"        file_size(281_000_000)    "281 MB"
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

INFINITY, MINUS_INFINITY, NOT_A_NUMBER, MISSING = "∞", "−∞", "NaN", "–"
STATE_LABELS = {  # the stored states of a metric, see ucurve.schemas.measurements.NonFinite
    "pos_inf": INFINITY,
    "neg_inf": MINUS_INFINITY,
    "nan": NOT_A_NUMBER,
    "missing": "missing",
}
LABEL_TITLES = {
    "replicate": "pre-training seed",
    "scale": "noise scale",
    "learning_rate": "learning rate",
    "evaluation": "evaluation set",
    "phase": "learning-rate phase",
    "measurement": "evaluation ID",
    "num_draws": "seeds",
    "how": "interval",
}
NOISE_CONVENTIONS = {
    "current_std": "relative to current weights (current_std)",
    "init_std": "relative to initialisation (init_std)",
    "matched_displacement": "at matched displacement (matched_displacement)",
}
_TOKEN_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"))
_SIZE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def number(value: float | None, digits: int = 4) -> str:
    """Format to significant digits, whole numbers in full: "0.0312", "1,130", "∞", "NaN"."""
    if (word := _word(value)) is not None:
        return word
    assert value is not None
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def exact(value: float | None) -> str:
    """Format so that the text reads back as the same number: "0.1", "5e-05", "∞"."""
    if (word := _word(value)) is not None:
        return word
    return repr(value)


def compact(value: float | None, digits: int = 3) -> str:
    """Format numbers from 100,000 with a unit, "0.918M", "2.1B"; smaller ones as `number`."""
    if (word := _word(value)) is not None:
        return word
    assert value is not None
    rounded = float(f"{value:.{digits}g}")  # 999,999,999 is 1B, not 1,000M
    if abs(value) < 1e5:
        return number(value, digits)
    scale, letter = next((unit for unit in _TOKEN_UNITS if abs(rounded) >= unit[0]), (1e6, "M"))
    return _significant(rounded / scale, digits) + letter


def tokens(num: float | None) -> str:
    """Format a number of tokens: "4,096", "0.918M", "14.3M", "2.1B"."""
    return compact(num)


def token_span(nums: Iterable[float]) -> str:
    """Format the range of numbers of tokens: "0 to 8.39B", or one number where all are equal."""
    ends = sorted(nums)
    return tokens(ends[0]) if ends[0] == ends[-1] else f"{tokens(ends[0])} to {tokens(ends[-1])}"


def count(num: int) -> str:
    """Format a count with thousands separators: "1,130"."""
    return f"{num:,}"


def counted(num: int, noun: str) -> str:
    """Format a count with its noun: "1 point", "1,130 points"."""
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"


def shortened(names: Sequence[str], most: int = 3) -> str:
    """List the first names and how many follow: "a, b, c and 332 more"."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def p_value(p: float) -> str:
    """Format a p-value: "p = 0.012", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def duration(seconds: float | None) -> str:
    """Format a duration in at most two figures or units: "12 s", "3 min", "2 h 10 min", "4 d"."""
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    if seconds < 1:
        return "under 1 s"
    if round(seconds) < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 36 * 60:
        hours, minutes = divmod(minutes, 60)
        if hours >= 10:
            return f"{round(seconds / 3600)} h"
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{seconds / 86400:.0f} d"


def roughly(seconds: float | None) -> str:
    """Format an estimated duration: "about 12 s", "under 1 s"."""
    text = duration(seconds)
    return text if seconds is None or seconds < 1 or text == "unknown" else f"about {text}"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Format the time since a moment: "just now", "3 min ago"."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return "just now" if seconds < 10 else f"{duration(seconds)} ago"


def date(moment: datetime) -> str:
    """Format a day: "3 February 2026" (UTC)."""
    return f"{_utc(moment):%-d %B %Y}"


def date_time(moment: datetime) -> str:
    """Format a time: "3 February 2026, 04:05 UTC"."""
    return f"{_utc(moment):%-d %B %Y, %H:%M} UTC"


def file_size(num_bytes: float | None) -> str:
    """Format a size in decimal units: "512 bytes", "1.23 GB"."""
    if num_bytes is None or not math.isfinite(num_bytes):
        return "unknown"
    rounded = float(f"{num_bytes:.3g}")
    for scale, unit in _SIZE_UNITS:
        if abs(rounded) >= scale:
            return f"{_significant(rounded / scale, 3)} {unit}"
    return counted(round(num_bytes), "byte")


class Doing(Protocol):
    """The fields of ucurve.schemas.status.RunningPoint that `activity` reads."""

    @property
    def experiments(self) -> Sequence[Named]: ...
    @property
    def done(self) -> float | None: ...
    @property
    def total(self) -> float | None: ...


class Named(Protocol):
    """An experiment with an id."""

    @property
    def id(self) -> int: ...


class WorkerActivity(Protocol):
    """The fields of ucurve.schemas.status.WorkerStatus that `activity` reads."""

    @property
    def state(self) -> str: ...
    @property
    def running(self) -> Doing | None: ...
    @property
    def silent_seconds(self) -> float | None: ...


def activity(worker: WorkerActivity) -> str:
    """Say what a worker does: "experiment 7, 40 %", "idle", "no progress for 3 min"."""
    if worker.state == "lost":
        return "no sign of life; its evaluations go to other workers"
    if worker.running is None:
        return "idle"
    ids = ", ".join(str(experiment.id) for experiment in worker.running.experiments)
    text = f"experiment {ids}" if ids else "an evaluation that was cancelled"
    if percent := progress_percent(worker.running):
        text += f", {percent}"
    if worker.state == "stalled":
        text += f", no progress for {duration(worker.silent_seconds)}"
    return text


def progress_percent(point: Doing) -> str:
    """Format the progress of a point: "40 %"; empty before its first report."""
    if point.done is None or not point.total:
        return ""
    return f"{min(100, 100 * point.done / point.total):.0f} %"


class PlanCounts(Protocol):
    """The fields of ucurve.schemas.experiments.PlanPreview that a summary reads."""

    num_points: int
    num_existing: int
    num_running: int
    num_new: int
    num_again: int
    num_workers: int
    estimated_seconds: float | None


def plan_summary(plan: PlanCounts) -> str:
    """Summarise a plan: "312 of 504 cached, 192 new, about 1 h 40 min on 2 workers"."""
    parts = []
    if plan.num_existing:
        parts.append(f"{plan.num_existing:,} of {plan.num_points:,} cached")
    if plan.num_running:
        parts.append(f"{plan.num_running:,} shared with a running experiment")
    if plan.num_new:
        parts.append(f"{plan.num_new:,} new")
    if plan.num_again:
        parts.append(f"{plan.num_again:,} to re-measure and compare")
    if not (plan.num_running or plan.num_new or plan.num_again):
        return f"{parts[0]}: results are available immediately"
    if plan.estimated_seconds is not None:
        parts.append(f"{roughly(plan.estimated_seconds)} on {counted(plan.num_workers, 'worker')}")
    return ", ".join(parts)


def rate(per_second: float, nouns: str = "") -> str:
    """Format a rate in a readable unit: "12/s", "4.5 points/min", "3 points/h"."""
    nouns = f" {nouns}" if nouns else ""
    if per_second >= 1 or per_second == 0:
        return f"{compact(per_second)}{nouns}/s"
    if per_second * 60 >= 1:
        return f"{compact(per_second * 60)}{nouns}/min"
    return f"{compact(per_second * 3600)}{nouns}/h"


def scope_title(scope: str) -> str:
    """Return a verdict's scope with its noise convention spelled out."""
    for name, title in NOISE_CONVENTIONS.items():
        scope = re.sub(rf"^under {name}(?=$|, )", f"noise {title}", scope)
        scope = scope.replace(f"under {name}", title)
    return scope


def label_conflict_warning(conflict: str, num: int) -> str:
    """Say why cached results under the same labels are not reused.

    conflict: what differs: "weights", "data" or "protocol" (see db.label_conflicts).
    """
    reason = {
        "weights": "with different weights",
        "data": "with different dataset contents",
        "protocol": "with another protocol version",
    }[conflict]
    return f"{counted(num, 'evaluation')} cached under the same labels {reason}: not reused."


def audit_details(details: Mapping[str, object]) -> str:
    """ "role viewer, tags a b, blocked no": what an audit record says beside its object."""
    words = []
    for name, value in details.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        words.append(f"{name} {value}")
    return ", ".join(words)


def _word(value: float | None) -> str | None:
    """Return the wording of a value that is no finite number, None for one that is."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return NOT_A_NUMBER
    if math.isinf(value):
        return INFINITY if value > 0 else MINUS_INFINITY
    return None


def _significant(value: float, digits: int) -> str:
    """Format to significant digits without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC)
