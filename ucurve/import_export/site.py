"""The pages of an export: an index of experiments with a search, and the report of each with live charts, for any browser offline.

index.html      site/charts.js (Vega and ours)      site/experiment-7.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ucurve.figures.files import finite
from ucurve.formatting import date_time
from ucurve.import_export import report
from ucurve.import_export.parquet import Manifest
from ucurve.import_export.verdict_html import badge, sentence_case
from ucurve.registry.artifacts import BUILTIN
from ucurve.schemas.experiments import Experiment
from ucurve.spec import Figure, Verdict

if TYPE_CHECKING:
    from ucurve.client import Client

MOST_ROWS = 1000  # of a page's table; the CSV in the page has all
STYLE = """<style>
.live { overflow-x: auto; position: relative; } .live .vega-embed { width: 100%; }
#search { font: inherit; padding: 8px 14px; width: min(100%, 420px); border: 1px solid var(--line); border-radius: 8px; }
#found { color: var(--quiet); margin-left: 12px; font-size: 0.875rem; }
#experiments td { overflow-wrap: anywhere; } #experiments .badge { margin: 0 0 3px; } [hidden] { display: none; }
.rows { overflow-x: auto; max-height: 420px; overflow-y: auto; } .rows td, .rows th { white-space: nowrap; }
</style>"""


def write_site(
    client: Client,
    folder: Path,
    ids: Sequence[int],
    manifest: Manifest,
    tell: Callable[[str, int, int], None],
) -> None:
    """Write the pages of these experiments below `folder`, one at a time."""
    import vl_convert

    (folder / "site").mkdir()
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    own = (BUILTIN / "site.js").read_text(encoding="utf-8")
    (folder / "site" / "charts.js").write_text(
        f"(() => {{{library}}})();\n(() => {{{own}}})();\n", encoding="utf-8"
    )
    listed = []
    for number, id in enumerate(ids, 1):
        found = report.collect(client, [id])
        (folder / "site" / f"experiment-{id}.html").write_text(
            _page(found, manifest), encoding="utf-8"
        )
        listed.append(_row(found.chapters[0].experiment, found.chapters[0].verdicts))
        tell("pages", number, len(ids))
    (folder / "index.html").write_text(_index(listed, manifest), encoding="utf-8")


def _page(found: report.Report, manifest: Manifest) -> str:
    above = f'<p class="meta"><a href="../index.html">All experiments of {escape(manifest.origin)}</a></p>'
    page = report.html(found, report.Dress(_live, STYLE, above, _rows))
    return page.replace("</body>", '<script src="charts.js"></script></body>')


def _live(name: str, figure: Figure) -> str:
    """The chart with its data; a browser draws it."""
    chart = json.dumps(finite(figure.vega_lite()), separators=(",", ":")).replace(
        "<", "\\u003c"
    )  # in no script as a tag
    wide = (
        " class='wide'"
        if any(key in figure.chart for key in ("hconcat", "vconcat", "concat", "facet", "repeat"))
        else ""
    )
    return (
        f"<figure{wide}><h3>{escape(figure.title)}</h3><div class='live' id='{escape(name)}' role='img' "
        f"aria-label='{escape(figure.title)}'></div><script type='application/json'>{chart}</script>"
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def _rows(chapter: report.Chapter) -> str:
    """The measurements as a table, as far as a page bears them."""
    lines = chapter.csv.splitlines()[: MOST_ROWS + 1]
    import csv

    head, *rows = list(csv.reader(lines)) or [[]]
    total = chapter.experiment.progress.total
    shown = (
        f"{len(rows):,} of {total:,} measurements"
        if len(rows) < total
        else f"All {total:,} measurements"
    )
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    table = f"<table class='small'><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
    return f"<details><summary>{shown}</summary><div class='rows'>{table}</div></details>"


def _row(experiment: Experiment, verdicts: Sequence[Verdict]) -> str:
    """A line of the index; the words that the search looks through stand in it."""
    overall = [verdict for verdict in verdicts if verdict.is_summary]
    answers: dict[tuple[str, str], list[str]] = {}
    for verdict in overall:
        answers.setdefault((verdict.claim, verdict.answer), []).append(verdict.scope)
    said = "".join(
        f"<div>{badge(answer)} {escape(sentence_case(claim))} "
        f"<span class='meta'>{escape('' if '' in scopes else ', '.join(scopes))}</span></div>"
        for (claim, answer), scopes in answers.items()
    )
    progress = experiment.progress
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    text = " ".join(
        [
            experiment.name,
            experiment.kind,
            experiment.owner,
            *experiment.tags,
            experiment.notes,
            json.dumps(experiment.spec),
        ]
    )
    tags = (
        f"<div class='meta'>{escape(', '.join(experiment.tags))}</div>" if experiment.tags else ""
    )
    return (
        f'<tr data-text="{escape(text.lower())}"><td>{experiment.id}</td>'
        f"<td><a href='site/experiment-{experiment.id}.html'>{escape(experiment.name)}</a>{tags}</td>"
        f"<td>{escape(experiment.kind.replace('_', ' '))}</td><td>{escape(experiment.owner)}</td>"
        f"<td>{experiment.state}<div class='meta'>{progress.done:,} of {progress.total:,}{failed}</div></td>"
        f"<td>{experiment.created_at.astimezone(UTC):%Y-%m-%d}</td><td>{said}</td></tr>"
    )


def _index(rows: Sequence[str], manifest: Manifest) -> str:
    counts = manifest.files["measurements.parquet"].rows or 0
    made = date_time(manifest.made_at)
    chosen = ", ".join(
        f"{name} {value}" for name, value in manifest.filters.items() if value is not None
    )
    experiments = "1 experiment" if len(rows) == 1 else f"{len(rows):,} experiments"
    words = (
        f"{made} · {experiments}, {counts:,} measurements{f' · only {chosen}' if chosen else ''}"
    )
    titles = "".join(
        f"<th>{title}</th>"
        for title in ("", "experiment", "kind", "owner", "state", "submitted", "what it says")
    )
    body = (
        f"<header><p class='kicker'>ucurve export</p><h1>Measurements of {escape(manifest.origin)}</h1>"
        f"<p class='meta'>{escape(words)}</p></header>"
        "<p style='margin-top: 28px'><input id='search' type='search' placeholder='Search name, tag, kind, setting' "
        "aria-label='Search'><span id='found' role='status'></span></p>"
        f"<table id='experiments'><thead><tr>{titles}</tr></thead><tbody>{''.join(reversed(rows))}</tbody></table>"
        "<p class='meta'>The numbers are beside this page as Parquet files; manifest.json lists them.</p>"
        '<script src="site/charts.js"></script>'
    )
    return report.document(f"{manifest.origin}: experiments", body, STYLE)
