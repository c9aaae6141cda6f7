"""What leads from a figure's file back to its numbers: experiments, figure, hash, and what the hash was made of.

    cited = citation(figure, FigureSource("loss", (7,), ("noise on tiny",), lab="http://lab:8000"))
    cited.short                                    # "#3f2a9c1b04de": sha256 of the chart and its rows
    cited.uri                                      # "ucurve:loss?experiment=7&lab=...#3f2a9c1b04de"
    compared(cited, figure_now)                    # "unchanged", or how many rows have changed

Numbers are hashed to nine significant digits, so that another machine's rounding is not a change.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from pydantic import BaseModel

from ucurve import __version__
from ucurve.figures.files import finite
from ucurve.formatting import date, date_time
from ucurve.schemas.canonical_json import canonical
from ucurve.schemas.results import Figure

MOST_ROWS = 5000  # beyond it a file carries the hash of all rows, but none of each
DIGITS, SMALLEST = (
    9,
    12,
)  # significant digits; decimal places, since what should be zero comes out as 1e-17


@dataclass(frozen=True)
class FigureSource:
    """Which figure of which experiments this is, and where they were asked for.

    asked: how a comparison was asked for. specs: what the experiments measure: a number may mean another one in another lab.
    link: the page that shows it, or the API's address of it.
    """

    figure: str
    experiments: tuple[int, ...]
    names: tuple[str, ...]
    specs: tuple[Mapping[str, Any], ...] = ()
    lab: str = ""
    link: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)


class Citation(BaseModel):
    """What a figure's file says of itself."""

    figure: str
    experiments: list[int]
    names: list[str] = []
    specs: str = ""  # hash of what the experiments measure
    asked: dict[str, Any] = {}
    lab: str = ""
    link: str = ""
    title: str = ""
    caption: str = ""
    draws: str = ""
    intervals: str = ""
    hash: str
    chart: str = ""  # hash of the drawing alone
    num_rows: int = 0
    rows: list[str] = []  # short hash of each
    made_at: datetime
    version: str = __version__

    @property
    def short(self) -> str:
        return f"#{self.hash}"

    @property
    def of(self) -> str:
        """In words: "experiment 7, figure loss"."""
        numbers = " and ".join(str(id) for id in self.experiments)
        what = "comparison of experiments" if len(self.experiments) > 1 else "experiment"
        return f"{what} {numbers}, figure {self.figure}"

    @property
    def line(self) -> str:
        """The small print below a figure."""
        parts = [
            f"ucurve {self.of}",
            self.draws,
            date(self.made_at),
            self.link or self.lab,
            self.short,
        ]
        return " · ".join(part for part in parts if part)

    @property
    def uri(self) -> str:
        """All that is needed to find it again, as one word for a cell of a table."""
        asked = {f"asked.{name}": value for name, value in self.asked.items()}
        moment = self.made_at.astimezone(UTC).isoformat(timespec="seconds")
        query = {
            "experiment": self.experiments,
            "specs": self.specs,
            "lab": self.lab,
            "made_at": moment,
            **asked,
        }
        return f"ucurve:{self.figure}?{urlencode(query, doseq=True)}#{self.hash}"

    @classmethod
    def from_uri(cls, uri: str) -> Citation:
        """Raises ValueError where it is none."""
        parts = urlsplit(uri)
        found = parse_qs(parts.query)
        if parts.scheme != "ucurve" or not parts.fragment or "experiment" not in found:
            raise ValueError(f"{uri!r} is no citation of a figure")
        asked = {
            name.removeprefix("asked."): value
            for name, value in found.items()
            if name.startswith("asked.")
        }
        single = {name: found[name][0] for name in ("specs", "lab", "made_at") if name in found}
        fields = {
            "figure": parts.path,
            "experiments": found["experiment"],
            "asked": asked,
            "hash": parts.fragment,
        }
        return cls.model_validate({**fields, **single})


def citation(figure: Figure, origin: FigureSource, now: datetime | None = None) -> Citation:
    """What the file of this figure says."""
    rows = row_hashes(figure)
    chart = short_hash(figure.chart)
    return Citation(
        figure=origin.figure,
        experiments=list(origin.experiments),
        names=list(origin.names),
        specs=specs_hash(origin.specs),
        asked=dict(origin.asked),
        lab=origin.lab,
        link=origin.link,
        title=figure.title,
        caption=figure.caption,
        draws=_draws(figure),
        intervals=_intervals(figure),
        hash=fingerprint(figure),
        chart=chart,
        num_rows=len(rows),
        rows=rows if len(rows) <= MOST_ROWS else [],
        made_at=now or datetime.now(UTC),
    )


def specs_hash(specs: Iterable[Mapping[str, Any]]) -> str:
    return short_hash([dict(spec) for spec in specs])


def figure_hash(chart: str, rows: Iterable[str]) -> str:
    """Of the drawing and its rows, in whatever order they come."""
    return short_hash({"chart": chart, "rows": sorted(rows)}, 12)


def fingerprint(figure: Figure) -> str:
    """The short hash that stands below a figure."""
    return figure_hash(short_hash(figure.chart), row_hashes(figure))


def row_hashes(figure: Figure) -> list[str]:
    """Of the rows that were measured here: reference curves are laid over a figure as somebody chooses."""
    return [
        short_hash([name, row], 10)
        for name, rows in figure.datasets.items()
        for row in rows
        if row.get("what") != "reference"
    ]


def short_hash(value: Any, length: int = 12) -> str:
    return hashlib.sha256(canonical(_rounded(finite(value))).encode()).hexdigest()[:length]


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return (
        float(f"{round(value, SMALLEST):.{DIGITS}g}") + 0.0 if isinstance(value, float) else value
    )  # + 0.0: no minus zero


def compared(then: Citation, figure: Figure) -> str:
    """What has become of a cited figure: "unchanged since", or how many of its rows changed, came and went."""
    rows = row_hashes(figure)
    when = date_time(then.made_at)
    if fingerprint(figure) == then.hash:
        return f"unchanged since {when}"
    if not then.rows:
        return f"changed since {when}: it has {len(rows):,} rows now" + (
            f", had {then.num_rows:,}" if then.num_rows else ""
        )
    old, new = Counter(then.rows), Counter(rows)
    gone, come = sum((old - new).values()), sum((new - old).values())
    if not gone and not come:
        drawing = f"the drawing differs (made by ucurve {then.version}, now {__version__})"
        return f"its {len(rows):,} rows are unchanged since {when}; {drawing}"
    changed = min(gone, come)
    counts = {"changed": changed, "new": come - changed, "gone": gone - changed}
    said = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    return f"{changed + abs(come - gone):,} rows have changed since {when} ({said}; {then.num_rows:,} then, {len(rows):,} now)"


def _draws(figure: Figure) -> str:
    nums = [
        row["num_draws"]
        for rows in figure.datasets.values()
        for row in rows
        if row.get("num_draws") and row.get("low") is not None
    ]
    if not nums:
        return ""
    return f"{min(nums)} draws" if min(nums) == max(nums) else f"{min(nums)} to {max(nums)} draws"


def _intervals(figure: Figure) -> str:
    """How the bands were made, as far as rows of curves say."""
    rows = [row for found in figure.datasets.values() for row in found]
    hows = list(dict.fromkeys(row["how"] for row in rows if row.get("how")))
    if hows:
        return f"95% intervals: {'; '.join(hows)}"
    bands = (
        ["bands: 95% t intervals of the mean over draws"]
        if any(row.get("low") is not None for row in rows)
        else []
    )
    bottoms = (
        ["lowest points: 95% bootstrap intervals"]
        if any(row.get("x_low") is not None for row in rows)
        else []
    )
    return "; ".join(bands + bottoms)
