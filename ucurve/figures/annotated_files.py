"""A figure as a file with title, caption and citation, for print and for machines.

source = FigureSource("loss", (7,), ("noise on tiny",), lab=client.url)
Path("loss.pdf").write_bytes(cited_file(figure, "pdf", source))
redraw(client, citation_in(content))           # the same figure as the lab draws it now
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from datetime import datetime
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ucurve.figures.citation import (
    Citation,
    FigureSource,
    citation,
    compared,
    fingerprint,
    specs_hash,
)
from ucurve.figures.embedded_citation import COLUMN, citation_in, marked
from ucurve.figures.files import Form, figure_file
from ucurve.formatting import date_time
from ucurve.spec import Figure

if TYPE_CHECKING:
    from ucurve.client import Client

MARGIN, LEAST_WIDTH = 16, 460
TITLE, CAPTION, SMALL = 15.0, 11.0, 8.5  # sizes of type, in points of the page
INK, QUIET, FAINT = "#1d2733", "#44505b", "#6b7680"


def cited_file(
    figure: Figure, form: Form, origin: FigureSource, made_at: datetime | None = None
) -> bytes:
    """Return the bytes of the file, on white."""
    cited = citation(figure, origin, made_at)
    if form in ("csv", "json"):
        return marked(figure_file(figure, form), form, cited)
    page = _page(figure_file(figure, "svg").decode(), cited)
    if form == "svg":
        return marked(page.encode(), "svg", cited)
    import vl_convert

    drawn = vl_convert.svg_to_png(page, scale=3) if form == "png" else vl_convert.svg_to_pdf(page)
    return marked(bytes(drawn), form, cited)


def _svg_length(head: str, side: str) -> float:
    match = re.search(rf'\b{side}="([\d.]+)"', head)
    assert match, f"Vega writes an SVG without {side}"
    return float(match[1])


def _page(chart: str, cited: Citation) -> str:
    """Return the chart with its title above, and caption and small print below."""
    head = chart[chart.index("<svg") : chart.index(">", chart.index("<svg")) + 1]
    width, height = (_svg_length(head, side) for side in ("width", "height"))
    inner = chart[chart.index(head) + len(head) : chart.rindex("</svg>")]
    inner = re.sub(r"<title>.*?</title>", "", inner, flags=re.DOTALL)
    page_width = max(width, LEAST_WIDTH) + 2 * MARGIN
    room = page_width - 2 * MARGIN
    texts, at = _lines(cited.title, TITLE, INK, room, MARGIN, ' font-weight="600"')
    at += 8
    drawn, at = f'<g transform="translate({MARGIN},{at:.0f})">{inner}</g>', at + height + 10
    intervals = f"{cited.intervals[:1].upper()}{cited.intervals[1:]}." if cited.intervals else ""
    for words, size, ink in (
        (cited.caption, CAPTION, QUIET),
        (intervals, SMALL, FAINT),
        (cited.line, SMALL, FAINT),
    ):
        lines, at = _lines(words, size, ink, room, at)
        texts, at = texts + lines, at + (5 if words else 0)
    extent = f'width="{page_width:.0f}" height="{at + MARGIN - 5:.0f}"'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f"{extent} "
        f'viewBox="0 0 {page_width:.0f} {at + MARGIN - 5:.0f}">'
        f'<rect width="100%" height="100%" fill="white"/>{drawn}{texts}</svg>'
    )


def _lines(
    words: str, size: float, ink: str, room: float, top: float, more: str = ""
) -> tuple[str, float]:
    """Return words as lines no wider than `room` from `top` on, and the end of the last one."""
    lines = wrap(
        words, max(20, int(room / (0.5 * size))), break_long_words=False, break_on_hyphens=False
    )
    elements = []
    for line in lines:
        top += 1.35 * size
        style = f'font-family="sans-serif" font-size="{size}" fill="{ink}"{more}'
        elements.append(
            f'<text x="{MARGIN}" y="{top - 0.3 * size:.1f}" {style}>{escape(line)}</text>'
        )
    return "".join(elements), top


# ---- back from the file


def experiment_origin(client: Client, id: int, figure: str, at: str | None = None) -> FigureSource:
    """Return the source of a figure of one experiment, now or at a time in the past."""
    experiment = client.experiment(id)
    options = {"at": at} if at else {}
    return FigureSource(
        figure, (id,), (experiment.name,), (experiment.spec,), client.url, experiment.url, options
    )


def redraw(client: Client, cited: Citation) -> Figure:
    """Return the cited figure as this lab draws it now.

    Raises RequestRejectedError, or ValueError when the file is from another lab or unknown.
    """
    specs = [client.experiment(id).spec for id in cited.experiments]
    if cited.specs and specs_hash(specs) != cited.specs:
        ids = ", ".join(f"#{id}" for id in cited.experiments)
        raise ValueError(
            f"the file was made by the lab at {cited.lab}, and the specs of {ids} at {client.url} "
            "differ: use --url with the address of that lab"
        )
    options: dict[str, Any] = cited.asked
    single = {
        name: value[0] if isinstance(value, list) else value
        for name, value in options.items()
        if name in ("x", "y", "by", "at")
    }
    if "x" in options:
        lists = {name: options.get(name, []) for name in ("changes", "minus", "beside")}
        drawn = client.compare(cited.experiments, **single, **lists).figures()
    else:
        drawn = client.figures(cited.experiments[0], single.get("at"))
    if cited.figure not in drawn:
        raise ValueError(
            f"the figure {cited.figure} no longer exists; choose one of {', '.join(drawn)}"
        )
    return drawn[cited.figure]


def describe_file(content: bytes, client: Client) -> str:
    """Return what a file shows: "this figure is experiment 7, figure loss: unchanged since ...".

    Raises UnmarkedError, RequestRejectedError or ValueError.
    """
    cited = citation_in(content)
    figure = redraw(client, cited)
    fate = compared(cited, figure)
    if (
        fingerprint(figure) != cited.hash
        and not content.startswith((b"\x89PNG", b"%PDF", b"{"))
        and b"<svg" not in content[:1000]
    ):
        new, old = _csv_rows(figure_file(figure, "csv")), _csv_rows(content)
        gone, come = sum((old - new).values()), sum((new - old).values())
        when = date_time(cited.made_at)
        fate = (
            f"{max(gone, come):,} rows have changed since {when} ({old.total():,} then, "
            f"{new.total():,} now)"
        )
    names = cited.names or [client.experiment(id).name for id in cited.experiments]
    return f"this figure is {cited.of} ({' and '.join(names)}): {fate}"


def _csv_rows(content: bytes) -> Counter[tuple[tuple[str, str], ...]]:
    """Return the rows by their cells, regardless of the order of rows and columns."""
    rows = csv.DictReader(io.StringIO(content.decode()))
    measured = (row for row in rows if row.get("what") != "reference")
    cells = (tuple(sorted((k, v) for k, v in row.items() if k != COLUMN and v)) for row in measured)
    return Counter(row for row in cells if row)
