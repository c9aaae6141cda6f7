"""The citation of a figure: what leads from its file back to its numbers.

    cited = citation(figure, FigureSource("loss", (7,), ("noise on tiny",), lab=client.url))
    cited.short                                    # "#3f2a9c1b04de": sha256 of the chart and its
    rows cited.uri                                      #
    "ucurve:loss?experiment=7&lab=...#3f2a9c1b04de" compared(cited, figure_now)                    #
    "unchanged", or how many rows have changed

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

MOST_ROWS = 5000  # a file with more rows has the hash of all rows, but none per row
DIGITS = 9  # significant digits that are hashed
SMALLEST = 12  # decimal places: what should be zero may come out as 1e-17


@dataclass(frozen=True)
class FigureSource:
    """The figure, its experiments and their lab.

    asked: plot options of a comparison. specs: of the experiments, as another lab may use the same
    numbers for other experiments. link: the page that shows it, or its API address.
    """

    figure: str
    experiments: tuple[int, ...]
    names: tuple[str, ...]
    specs: tuple[Mapping[str, Any], ...] = ()
    lab: str = ""
    link: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)


class Citation(BaseModel):
    """The citation embedded in a figure's file."""

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
        """Experiments and figure for people: "experiment 7, figure loss"."""
        numbers = " and ".join(str(id) for id in self.experiments)
        noun = "comparison of experiments" if len(self.experiments) > 1 else "experiment"
        return f"{noun} {numbers}, figure {self.figure}"

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
        """The citation as one word, for a cell of a table."""
        options = {f"asked.{name}": value for name, value in self.asked.items()}
        moment = self.made_at.astimezone(UTC).isoformat(timespec="seconds")
        query = {
            "experiment": self.experiments,
            "specs": self.specs,
            "lab": self.lab,
            "made_at": moment,
            **options,
        }
        return f"ucurve:{self.figure}?{urlencode(query, doseq=True)}#{self.hash}"

    @classmethod
    def from_uri(cls, uri: str) -> Citation:
        """Parse a citation. Raises ValueError when the text is none."""
        parts = urlsplit(uri)
        query = parse_qs(parts.query)
        if parts.scheme != "ucurve" or not parts.fragment or "experiment" not in query:
            raise ValueError(f"{uri!r} is not a citation of a figure")
        options = {
            name.removeprefix("asked."): value
            for name, value in query.items()
            if name.startswith("asked.")
        }
        single = {name: query[name][0] for name in ("specs", "lab", "made_at") if name in query}
        fields = {
            "figure": parts.path,
            "experiments": query["experiment"],
            "asked": options,
            "hash": parts.fragment,
        }
        return cls.model_validate({**fields, **single})


def citation(figure: Figure, origin: FigureSource, made_at: datetime | None = None) -> Citation:
    """Return the citation of a figure."""
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
        made_at=made_at or datetime.now(UTC),
    )


def specs_hash(specs: Iterable[Mapping[str, Any]]) -> str:
    return short_hash([dict(spec) for spec in specs])


def figure_hash(chart: str, rows: Iterable[str]) -> str:
    """Return the hash of the chart and its rows, in any order."""
    return short_hash({"chart": chart, "rows": sorted(rows)}, 12)


def fingerprint(figure: Figure) -> str:
    """Return the short hash printed below a figure."""
    return figure_hash(short_hash(figure.chart), row_hashes(figure))


def row_hashes(figure: Figure) -> list[str]:
    """Return the hashes of the measured rows; reference curves are optional and left out."""
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
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return (
        float(f"{round(value, SMALLEST):.{DIGITS}g}") + 0.0 if isinstance(value, float) else value
    )  # + 0.0: no minus zero


def compared(then: Citation, figure: Figure) -> str:
    """Return whether a cited figure is unchanged, or how many of its rows are not."""
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
    listed = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    return (
        f"{changed + abs(come - gone):,} rows have changed since {when} ({listed}; "
        f"{then.num_rows:,} then, {len(rows):,} now)"
    )


def _draws(figure: Figure) -> str:
    nums = [
        row["num_draws"]
        for rows in figure.datasets.values()
        for row in rows
        if row.get("num_draws") and row.get("low") is not None
    ]
    if not nums:
        return ""
    return f"{min(nums)} seeds" if min(nums) == max(nums) else f"{min(nums)} to {max(nums)} seeds"


def _intervals(figure: Figure) -> str:
    """Return how the intervals were computed, as far as the rows of curves tell."""
    rows = [row for dataset in figure.datasets.values() for row in dataset]
    hows = list(dict.fromkeys(row["how"] for row in rows if row.get("how")))
    if hows:
        return f"95% intervals: {'; '.join(hows)}"
    bands = (
        ["bands: 95% t intervals of the mean over seeds"]
        if any(row.get("low") is not None for row in rows)
        else []
    )
    minima = (
        ["minima: 95% bootstrap intervals"]
        if any(row.get("x_low") is not None for row in rows)
        else []
    )
    return "; ".join(bands + minima)
