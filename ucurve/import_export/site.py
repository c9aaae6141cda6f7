"""The offline site of an export: an index with a search, a page per experiment with live charts.

index.html      site/charts.js (Vega and ours)      site/experiment-7.html
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import UTC
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ucurve.analysis.verdict_order import standing
from ucurve.figures.files import finite
from ucurve.figures.zero_tick import with_zero
from ucurve.formatting import count, counted, date_time, scope_title
from ucurve.import_export import report
from ucurve.import_export.parquet import Manifest, ProgressCallback
from ucurve.import_export.verdict_html import badge, sentence_case
from ucurve.registry.artifacts import BUILTIN
from ucurve.schemas.experiments import Experiment
from ucurve.spec import Figure, Verdict

if TYPE_CHECKING:
    from ucurve.client import Client

MAX_ROWS = 1000  # of a page's table; the CSV in the page has all
WIDE_CHARTS = ("hconcat", "vconcat", "concat", "facet", "repeat")
COLUMNS = ("", "experiment", "type", "owner", "state", "submitted", "verdicts")


def write_site(
    client: Client,
    folder: Path,
    ids: Sequence[int],
    manifest: Manifest,
    progress: ProgressCallback,
) -> None:
    """Write the pages of the experiments to `folder`, one at a time."""
    import vl_convert

    (folder / "site").mkdir()
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    site_script = (BUILTIN / "site.js").read_text(encoding="utf-8")
    (folder / "site" / "charts.js").write_text(
        f"(() => {{{library}}})();\n(() => {{{site_script}}})();\n", encoding="utf-8"
    )
    rows = []
    for number, id in enumerate(ids, 1):
        contents = report.collect(client, [id])
        path = folder / "site" / f"experiment-{id}.html"
        path.write_text(_page(contents, manifest), encoding="utf-8")
        chapter = contents.chapters[0]
        rows.append(_index_row(chapter.experiment, chapter.verdicts))
        progress("pages", number, len(ids))
    (folder / "index.html").write_text(_index(rows, manifest), encoding="utf-8")


def _style() -> str:
    return f"<style>{(BUILTIN / 'site.css').read_text(encoding='utf-8')}</style>"


def _page(contents: report.Report, manifest: Manifest) -> str:
    link = f'<a href="../index.html">All experiments of {escape(manifest.origin)}</a>'
    options = report.PageOptions(
        draw=_live_figure,
        head=_style(),
        before_title=f'<p class="meta">{link}</p>',
        appendix=_rows_html,
    )
    page = report.html(contents, options)
    return page.replace("</body>", '<script src="charts.js"></script></body>')


def _live_figure(name: str, figure: Figure) -> str:
    """Return a figure with its data; the browser draws it."""
    chart = json.dumps(finite(with_zero(figure).vega_lite()), separators=(",", ":"))
    chart = chart.replace("<", "\\u003c")  # or a text in it could end the script tag
    wide = " class='wide'" if any(key in figure.chart for key in WIDE_CHARTS) else ""
    title = escape(figure.title)
    return (
        f"<figure{wide}><h3>{title}</h3>"
        f"<div class='live' id='{escape(name)}' role='img' aria-label='{title}'></div>"
        f"<script type='application/json'>{chart}</script>"
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def _rows_html(chapter: report.Chapter) -> str:
    """Return the first MAX_ROWS measurements as a table."""
    lines = chapter.csv.splitlines()[: MAX_ROWS + 1]
    head, *rows = list(csv.reader(lines)) or [[]]
    total = chapter.experiment.progress.total
    summary = f"All {counted(total, 'measurement')}"
    if len(rows) < total:
        summary = f"{count(len(rows))} of {counted(total, 'measurement')}"
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    table = f"<table class='small'><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
    return f"<details><summary>{summary}</summary><div class='rows'>{table}</div></details>"


def _index_row(experiment: Experiment, verdicts: Sequence[Verdict]) -> str:
    """Return a row of the index; `data-text` is what the search matches."""
    progress = experiment.progress
    failed = f", {count(progress.failed)} failed" if progress.failed else ""
    words = [experiment.name, experiment.kind, experiment.owner, *experiment.tags, experiment.notes]
    search_text = " ".join([*words, json.dumps(experiment.spec)]).lower()
    tags = ""
    if experiment.tags:
        tags = f"<div class='meta'>{escape(', '.join(experiment.tags))}</div>"
    link = f"site/experiment-{experiment.id}.html"
    counts = f"{count(progress.done)} of {count(progress.total)}{failed}"
    cells = (
        str(experiment.id),
        f"<a href='{link}'>{escape(experiment.name)}</a>{tags}",
        escape(experiment.kind.replace("_", " ")),
        escape(experiment.owner),
        f"{experiment.state}<div class='meta'>{counts}</div>",
        f"{experiment.created_at.astimezone(UTC):%Y-%m-%d}",
        _answers_html(verdicts),
    )
    columns = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr data-text="{escape(search_text)}">{columns}</tr>'


def _answers_html(verdicts: Sequence[Verdict]) -> str:
    """Return the overall answers, equal ones merged with their scopes."""
    scopes: dict[tuple[str, str, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.is_summary:
            key = (verdict.claim, verdict.answer, standing(verdict))
            scopes.setdefault(key, []).append(scope_title(verdict.scope))
    return "".join(
        f"<div>{badge(answer, word)} {escape(sentence_case(claim))} "
        f"<span class='meta'>{escape('' if '' in names else ', '.join(names))}</span></div>"
        for (claim, answer, word), names in scopes.items()
    )


def _index(rows: Sequence[str], manifest: Manifest) -> str:
    num_measurements = manifest.files["measurements.parquet"].rows or 0
    filters = ", ".join(
        f"{name} {value}" for name, value in manifest.filters.items() if value is not None
    )
    summary = (
        f"{date_time(manifest.made_at)} · {counted(len(rows), 'experiment')}, "
        f"{counted(num_measurements, 'measurement')}{f' · only {filters}' if filters else ''}"
    )
    titles = "".join(f"<th>{title}</th>" for title in COLUMNS)
    body = (
        "<header><p class='kicker'>ucurve export</p>"
        f"<h1>Measurements of {escape(manifest.origin)}</h1>"
        f"<p class='meta'>{escape(summary)}</p></header>"
        "<p style='margin-top: 28px'><input id='search' type='search' aria-label='Search' "
        "placeholder='Search name, tag, type, setting'>"
        "<span id='num-matches' role='status'></span></p>"
        f"<table id='experiments'><thead><tr>{titles}</tr></thead>"
        f"<tbody>{''.join(reversed(rows))}</tbody></table>"
        "<p class='meta'>The measurements are next to this page as Parquet files; manifest.json "
        "lists them.</p>"
        '<script src="site/charts.js"></script>'
    )
    return report.document(f"{manifest.origin}: experiments", body, _style())
