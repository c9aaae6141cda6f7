"""The report: one self-contained HTML file with specs, figures, verdicts, and where every number comes from.

    found = collect(client, [1, 2, 3, 4])
    Path("report.html").write_text(html(found))

Figures are inline SVG, so the file needs no network and no script and prints as it looks; each experiment's numbers are
inside as CSV.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucurve import __version__
from ucurve.experiments import parse, study
from ucurve.figures.citation import fingerprint
from ucurve.figures.files import figure_file
from ucurve.formatting import date_time
from ucurve.import_export.verdict_html import badge, claims_html, sentence_case
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.measurements import ExperimentProvenance
from ucurve.spec import Figure, Spec, Verdict

if TYPE_CHECKING:
    from ucurve.client import Client

STYLE = Path(__file__).parents[1] / "builtin" / "report.css"


@dataclass(frozen=True)
class Chapter:
    """One experiment with everything that the report says about it."""

    experiment: Experiment
    spec: Spec
    figures: dict[str, Figure]
    verdicts: list[Verdict]
    origins: ExperimentProvenance
    csv: str

    @property
    def anchor(self) -> str:
        return f"experiment-{self.experiment.id}"


@dataclass(frozen=True)
class Report:
    """Several experiments, and what they say together (nothing where there is only one)."""

    title: str
    chapters: list[Chapter]
    together: list[Verdict]
    made_at: datetime

    @property
    def figures(self) -> dict[str, Figure]:
        """Of all experiments together."""
        return study.figures(self.together)

    def all_figures(self) -> dict[str, Figure]:
        """Every figure, under a name that is also a file's."""
        own = {
            f"{c.experiment.id}-{name}": figure
            for c in self.chapters
            for name, figure in c.figures.items()
        }
        return {**self.figures, **own}


def collect(client: Client, ids: Sequence[int], title: str = "") -> Report:
    """Ask the lab for all that the report needs. Raises RequestRejectedError where there is no such experiment."""
    chapters = []
    for id in dict.fromkeys(ids):
        experiment = client.experiment(id)
        spec, verdicts = parse(experiment.spec), client.verdicts(id)
        figures = client.with_references(spec, spec.figures(client.table(id), verdicts))
        chapters.append(
            Chapter(
                experiment,
                spec,
                figures,
                verdicts,
                client.experiment_provenance(id),
                client.csv(id),
            ),
        )
    together = client.study_verdicts(list(dict.fromkeys(ids))) if len(chapters) > 1 else []
    known = {one.name: one for one in client.studies()}
    tags = [
        tag
        for tag in chapters[0].experiment.tags
        if all(tag in c.experiment.tags for c in chapters)
    ]
    of_study = [known[tag].title for tag in tags if tag in known and len(chapters) > 1]
    names = [chapter.experiment.name for chapter in chapters]
    joined = (
        " and ".join(names)
        if len(names) < 3
        else f"{names[0]} and {len(names) - 1} more experiments"
    )
    return Report(title or next(iter(of_study), joined), chapters, together, datetime.now(UTC))


@dataclass(frozen=True)
class Dress:
    """What a report looks like where it is a page among others: how figures are drawn, and what is added."""

    draw: Callable[[str, Figure], str]
    head: str = ""  # of the HTML
    above: str = ""  # the title
    below: Callable[[Chapter], str] = lambda chapter: ""  # an experiment's CSV


def html(report: Report, dress: Dress | None = None) -> str:
    """The whole file."""
    dress = dress or Dress(inline)
    parts = [dress.above, _head(report), _contents(report)]
    if report.together:
        parts.append(_together(report, dress))
    parts += [_chapter(chapter, dress) for chapter in report.chapters]
    parts += [_provenance(report), _repeat(report)]
    return document(report.title, "".join(parts), dress.head)


def document(title: str, body: str, head: str = "") -> str:
    """A page in the report's style."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="ucurve {__version__}">'
        f"<style>{STYLE.read_text()}</style>{head}</head>\n<body>\n<main>{body}</main>\n</body></html>\n"
    )


def _head(report: Report) -> str:
    counts = [chapter.experiment.progress for chapter in report.chapters]
    done, total = sum(c.done for c in counts), sum(c.total for c in counts)
    failed = sum(c.failed for c in counts)
    words = (
        f"{len(counts)} experiment{'s' * (len(counts) > 1)}, {done:,} of {total:,} points measured"
    )
    words += f", {failed:,} failed" if failed else ""
    owners = ", ".join(dict.fromkeys(chapter.experiment.owner for chapter in report.chapters))
    unfinished = (
        ""
        if done + failed == total
        else '<p class="warning">Not all points are measured yet: figures and verdicts are those of this moment.</p>'
    )
    return (
        f"<header><p class='kicker'>ucurve report</p><h1>{escape(report.title)}</h1>"
        f"<p class='meta'>{date_time(report.made_at)} · {escape(owners)} · {words} · ucurve {__version__}</p>{unfinished}</header>"
    )


def _contents(report: Report) -> str:
    links = [("together", "What the experiments say together")] if report.together else []
    links += [(chapter.anchor, chapter.experiment.name) for chapter in report.chapters]
    links += [("provenance", "Where the numbers come from"), ("repeat", "How to repeat it")]
    return (
        "<nav><ol>"
        + "".join(f'<li><a href="#{to}">{escape(name)}</a></li>' for to, name in links)
        + "</ol></nav>"
    )


def _together(report: Report, dress: Dress) -> str:
    figures = "".join(dress.draw(name, figure) for name, figure in report.figures.items())
    return (
        f'<section id="together"><h2>What the experiments say together</h2>{_answers(report.chapters)}'
        f"{claims_html(report.together)}{figures}</section>"
    )


def _answers(chapters: Sequence[Chapter]) -> str:
    """A claim per row, an experiment per column: the most general answer of each."""
    claims = dict.fromkeys(
        v.claim for chapter in chapters for v in chapter.verdicts if v.is_summary
    )
    if not claims:
        return ""
    head = "".join(
        f'<th><a href="#{c.anchor}">{escape(c.experiment.name)}</a></th>' for c in chapters
    )
    rows = []
    for claim in claims:
        found = [
            next((v for v in c.verdicts if v.claim == claim and v.is_summary), None)
            for c in chapters
        ]
        cells = "".join(
            f"<td>{badge(v.answer) if v else '<span class=none>–</span>'}</td>" for v in found
        )
        rows.append(f"<tr><th>{escape(sentence_case(claim))}</th>{cells}</tr>")
    return f"<table class='answers'><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


# ---- one experiment


def _chapter(chapter: Chapter, dress: Dress) -> str:
    experiment, progress = chapter.experiment, chapter.experiment.progress
    words = [
        chapter.spec.title or experiment.kind,
        f"number {experiment.id}",
        f"{progress.done:,} of {progress.total:,} points",
    ]
    if progress.reused:
        words.append(f"{progress.reused:,} measured before")
    if progress.failed:
        words.append(f"{progress.failed:,} failed")
    words.append(date_time(experiment.created_at))
    notes = f"<p class='notes'>{escape(experiment.notes)}</p>" if experiment.notes else ""
    data = base64.b64encode(chapter.csv.encode()).decode()
    return (
        f'<section id="{chapter.anchor}"><h2>{escape(experiment.name)}</h2><p class="meta">{escape(" · ".join(words))}</p>{notes}'
        f"<p class='question'>{escape(' '.join((type(chapter.spec).__doc__ or '').split()))}</p>"
        f"<div class='figures'>{''.join(dress.draw(name, figure) for name, figure in chapter.figures.items())}</div>"
        f"<h3>What it says</h3>{claims_html(chapter.verdicts)}"
        f"<h3>What was asked</h3>{_settings(chapter.spec)}"
        f"<p class='screen'><a download='experiment-{experiment.id}.csv' href='data:text/csv;base64,{data}'>"
        f"All measurements as CSV</a> ({progress.total:,} rows, inside this file)</p>{dress.below(chapter)}</section>"
    )


def inline(name: str, figure: Figure) -> str:
    """Inline, scaled to the column; ids inside are made unique, since a page may have only one of each.

    It is one image for screen readers: what Vega says of every single mark is most of its size and is left out.
    """
    svg = figure_file(figure, "svg").decode()
    svg = re.sub(r' (?:aria-[a-z]+|role)="[^"]*"', "", svg[svg.index("<svg") :])
    svg = re.sub(
        r' (?:d|transform)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), svg
    )  # of a pixel
    for attribute in ('id="', "url(#"):
        svg = svg.replace(attribute, f"{attribute}{name}-")
    width = float(svg.split('width="', 1)[1].split('"', 1)[0])
    wide = " class='wide'" if width > 620 else ""
    spoken = escape(f"{figure.title}. {figure.caption}")
    label = f'<svg role="img" aria-label="{spoken}" style="max-width: {width:.0f}px"'
    return (
        f"<figure{wide}><h3>{escape(figure.title)}</h3>{svg.replace('<svg', label, 1)}"
        f"<figcaption>{escape(figure.caption)} <small>#{fingerprint(figure)}</small></figcaption></figure>"
    )


def _settings(spec: Spec) -> str:
    """The fields as a table: value and meaning, those off their default in bold."""
    rows = []
    for name, field in type(spec).model_fields.items():
        value = json.dumps(spec.model_dump(mode="json")[name])
        changed = name != "kind" and getattr(spec, name) != field.get_default(
            call_default_factory=True
        )
        shown = f"<b>{escape(value)}</b>" if changed else escape(value)
        meaning = escape(field.description or "")
        rows.append(
            f"<tr><th>{escape(field.title or name)}</th><td class='value'>{shown}</td><td>{meaning}</td></tr>"
        )
    table = f"<table class='settings'>{''.join(rows)}</table>"
    return f"<details class='always'><summary>{len(rows)} settings; bold: other than the default</summary>{table}</details>"


# ---- provenance and repetition


def _provenance(report: Report) -> str:
    return (
        "<section id='provenance'><h2>Where the numbers come from</h2>"
        f"{''.join(_measured(chapter) for chapter in report.chapters)}{_files(report.chapters)}</section>"
    )


def _measured(chapter: Chapter) -> str:
    rows = []
    for one in chapter.origins.measured:
        versions = dict(one.versions)
        hardware, code = versions.pop("hardware", ""), versions.pop("code", "")
        libraries = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        when = f"{date_time(one.first)} to {one.last.astimezone(UTC):%H:%M}"
        device = f"{one.device} {hardware}"
        rows.append(
            [
                f"{one.num_attempts:,} {one.outcome}",
                one.worker,
                device,
                libraries,
                code,
                when,
                f"{one.seconds:,.0f} s",
            ]
        )
    titles = ("attempts", "worker", "hardware", "versions", "code", "when", "in all")
    return f"<h4>{escape(chapter.experiment.name)}</h4>{_table(titles, rows)}"


def _files(chapters: Sequence[Chapter]) -> str:
    """Checkpoints and texts by their hashes, each once."""
    checkpoints = {
        (c.suite, c.revision): c for chapter in chapters for c in chapter.origins.checkpoints
    }
    datasets = {d.name: d for chapter in chapters for d in chapter.origins.datasets}
    made = ""
    if checkpoints:
        rows = [
            [
                c.suite,
                c.revision,
                "" if c.tokens is None else f"{c.tokens:,}",
                c.weights_sha256 or "",
            ]
            for c in checkpoints.values()
        ]
        made += f"<h4>Checkpoints</h4>{_table(('suite', 'revision', 'tokens', 'sha256 of the weights'), rows)}"
    if datasets:
        rows = [[d.name, d.description, d.sha256 or ""] for d in datasets.values()]
        made += f"<h4>Texts and examples</h4>{_table(('name', 'what it is', 'sha256'), rows)}"
    return made


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of hashes are set in small type."""
    classes = [
        " class='hash'" if title.startswith("sha256") or title == "code" else "" for title in titles
    ]
    head = "".join(f"<th>{title}</th>" for title in titles)
    lines = (
        "".join(f"<td{c}>{escape(cell)}</td>" for c, cell in zip(classes, row, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table class='small'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _repeat(report: Report) -> str:
    """The commands that measure all of it again, as they are typed."""
    commands = [
        f"ucurve submit - --wait <<'JSON'\n{_submission(chapter.experiment)}\nJSON"
        for chapter in report.chapters
    ]
    numbers = " ".join(str(chapter.experiment.id) for chapter in report.chapters)
    blocks = "".join(f"<pre>{escape(command)}</pre>" for command in commands)
    return (
        "<section id='repeat'><h2>How to repeat it</h2><p>In a lab that knows the same suites and texts, these commands ask for "
        f"the same measurements; those that exist are not made again.</p>{blocks}<p>This report, with the numbers that the lab "
        f"gives the experiments then:</p><pre>ucurve report {numbers} -o report.html</pre></section>"
    )


def _submission(experiment: Experiment) -> str:
    fields: dict[str, Any] = experiment.model_dump(
        mode="json", include={"name", "tags", "notes", "spec"}
    )
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in fields.items()
        if value
    ]
    return "{" + ",\n ".join(lines) + "}"
