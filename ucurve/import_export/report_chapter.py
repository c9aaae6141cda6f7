"""One experiment of a report as HTML: figures, verdicts, settings, its numbers as CSV."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html import escape

from ucurve.figures.citation import fingerprint
from ucurve.figures.files import figure_file
from ucurve.formatting import count, counted, date_time
from ucurve.import_export.report_contents import Chapter
from ucurve.import_export.verdict_html import claims_html
from ucurve.spec import Figure, Spec

WIDE_FIGURE = 620  # pixels: a wider figure spans both columns


def chapter_html(chapter: Chapter, draw: Callable[[str, Figure], str], appendix: str) -> str:
    """Return the section of one experiment.

    draw: returns a figure as HTML. appendix: HTML at the end.
    """
    experiment = chapter.experiment
    notes = f"<p class='notes'>{escape(experiment.notes)}</p>" if experiment.notes else ""
    question = " ".join((type(chapter.spec).__doc__ or "").split())
    figures = "".join(draw(name, figure) for name, figure in chapter.figures.items())
    return (
        f'<section id="{chapter.anchor}"><h2>{escape(experiment.name)}</h2>'
        f'<p class="meta">{escape(_summary(chapter))}</p>{notes}'
        f"<p class='question'>{escape(question)}</p>"
        f"<div class='figures'>{figures}</div>"
        f"<h3>Verdicts</h3>{claims_html(chapter.verdicts)}"
        f"<h3>Settings</h3>{_settings_html(chapter.spec)}"
        f"{_csv_link(chapter)}{appendix}</section>"
    )


def inline_figure(name: str, figure: Figure) -> str:
    """Return a figure as inline SVG, scaled to the column, with ids unique in the page.

    It is one image for screen readers: Vega's labels of every single mark are most of its size and
    are removed.
    """
    svg = figure_file(figure, "svg").decode()
    svg = re.sub(r' (?:aria-[a-z]+|role)="[^"]*"', "", svg[svg.index("<svg") :])
    svg = re.sub(r' (?:d|transform)="[^"]*"', _round_coordinates, svg)
    for attribute in ('id="', "url(#"):
        svg = svg.replace(attribute, f"{attribute}{name}-")
    width = float(svg.split('width="', 1)[1].split('"', 1)[0])
    wide = " class='wide'" if width > WIDE_FIGURE else ""
    label = escape(f"{figure.title}. {figure.caption}")
    tag = f'<svg role="img" aria-label="{label}" style="max-width: {width:.0f}px"'
    return (
        f"<figure{wide}><h3>{escape(figure.title)}</h3>{svg.replace('<svg', tag, 1)}"
        f"<figcaption>{escape(figure.caption)} <small>#{fingerprint(figure)}</small></figcaption>"
        "</figure>"
    )


def _round_coordinates(attribute: re.Match[str]) -> str:
    """Cut coordinates to a hundredth of a pixel."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def _summary(chapter: Chapter) -> str:
    """Return type, id, counts and date: "Gaussian perturbation · #7 · 36 of 36 evaluations"."""
    experiment, progress = chapter.experiment, chapter.experiment.progress
    parts = [
        chapter.spec.title or experiment.kind,
        f"#{experiment.id}",
        f"{count(progress.done)} of {counted(progress.total, 'evaluation')}",
    ]
    if progress.reused:
        parts.append(f"{count(progress.reused)} cached")
    if progress.failed:
        parts.append(f"{count(progress.failed)} failed")
    return " · ".join([*parts, date_time(experiment.created_at)])


def _csv_link(chapter: Chapter) -> str:
    data = base64.b64encode(chapter.csv.encode()).decode()
    return (
        f"<p class='screen'><a download='experiment-{chapter.experiment.id}.csv' "
        f"href='data:text/csv;base64,{data}'>All measurements as CSV</a> "
        f"({counted(chapter.experiment.progress.total, 'row')}, included in this file)</p>"
    )


def _settings_html(spec: Spec) -> str:
    """Return the spec's fields as a table: value and description, non-default values in bold."""
    values = spec.model_dump(mode="json")
    rows = []
    for name, field in type(spec).model_fields.items():
        default = field.get_default(call_default_factory=True)
        value = escape(json.dumps(values[name]))
        if name != "kind" and getattr(spec, name) != default:
            value = f"<b>{value}</b>"
        rows.append(
            f"<tr><th>{escape(field.title or name)}</th><td class='value'>{value}</td>"
            f"<td>{escape(field.description or '')}</td></tr>"
        )
    return (
        f"<details class='always'><summary>{len(rows)} settings, non-default values in bold"
        "</summary>"
        f"<table class='settings'>{''.join(rows)}</table></details>"
    )
