"""The report: a self-contained HTML file with specs, figures, verdicts and provenance.

    report = collect(client, [1, 2, 3, 4])
    Path("report.html").write_text(html(report))

Figures are inline SVG: the file needs neither network nor scripts and prints as it looks. The
measurements of each experiment are included as CSV.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from ucurve import __version__
from ucurve.analysis.verdict_order import standing
from ucurve.formatting import count, counted, date_time
from ucurve.import_export.report_chapter import chapter_html, inline_figure
from ucurve.import_export.report_contents import Chapter as Chapter
from ucurve.import_export.report_contents import Report as Report
from ucurve.import_export.report_contents import collect as collect
from ucurve.import_export.report_provenance import provenance_html, reproduce_html
from ucurve.import_export.verdict_html import badge, claims_html, sentence_case
from ucurve.registry.artifacts import BUILTIN
from ucurve.spec import Figure, Verdict

STYLE = BUILTIN / "report.css"


def _no_appendix(chapter: Chapter) -> str:
    return ""


@dataclass(frozen=True)
class PageOptions:
    """What differs where a report is one page of a site."""

    draw: Callable[[str, Figure], str] = inline_figure  # a figure by name as HTML
    head: str = ""  # HTML added to <head>
    before_title: str = ""
    appendix: Callable[[Chapter], str] = _no_appendix  # HTML below an experiment's CSV link


def html(report: Report, options: PageOptions | None = None) -> str:
    """Return the report as one HTML document."""
    options = options or PageOptions()
    parts = [options.before_title, _header_html(report), _contents_html(report)]
    if report.combined:
        parts.append(_combined_html(report, options))
    parts += [
        chapter_html(chapter, options.draw, options.appendix(chapter))
        for chapter in report.chapters
    ]
    parts += [provenance_html(report.chapters), reproduce_html(report.chapters)]
    return document(report.title, "".join(parts), options.head)


def document(title: str, body: str, head: str = "") -> str:
    """Return a page in the report's style."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="ucurve {__version__}">'
        f"<style>{STYLE.read_text(encoding='utf-8')}</style>{head}</head>\n"
        f"<body>\n<main>{body}</main>\n</body></html>\n"
    )


def _header_html(report: Report) -> str:
    progress = [chapter.experiment.progress for chapter in report.chapters]
    done, total = sum(counts.done for counts in progress), sum(counts.total for counts in progress)
    failed = sum(counts.failed for counts in progress)
    summary = (
        f"{counted(len(progress), 'experiment')}, "
        f"{count(done)} of {counted(total, 'evaluation')} done"
    )
    summary += f", {count(failed)} failed" if failed else ""
    owners = ", ".join(dict.fromkeys(chapter.experiment.owner for chapter in report.chapters))
    warning = ""
    if done + failed < total:
        warning = (
            '<p class="warning">Preliminary: not all evaluations are done. Figures and verdicts '
            "may change.</p>"
        )
    return (
        f"<header><p class='kicker'>ucurve report</p><h1>{escape(report.title)}</h1>"
        f"<p class='meta'>{date_time(report.created_at)} · {escape(owners)} · {summary} · "
        f"ucurve {__version__}</p>{warning}</header>"
    )


def _contents_html(report: Report) -> str:
    links = [("together", "Combined verdicts")] if report.combined else []
    links += [(chapter.anchor, chapter.experiment.name) for chapter in report.chapters]
    links += [("provenance", "Provenance"), ("repeat", "Reproduce")]
    items = (f'<li><a href="#{anchor}">{escape(name)}</a></li>' for anchor, name in links)
    return f"<nav><ol>{''.join(items)}</ol></nav>"


def _combined_html(report: Report, options: PageOptions) -> str:
    figures = "".join(options.draw(name, figure) for name, figure in report.figures.items())
    return (
        '<section id="together"><h2>Combined verdicts</h2>'
        f"{_answers_html(report.chapters)}{claims_html(report.combined)}{figures}</section>"
    )


def _answers_html(chapters: Sequence[Chapter]) -> str:
    """Return a table of overall answers: a row per claim, a column per experiment."""
    overall = [
        {verdict.claim: verdict for verdict in reversed(chapter.verdicts) if verdict.is_summary}
        for chapter in chapters
    ]
    claims = dict.fromkeys(
        verdict.claim for chapter in chapters for verdict in chapter.verdicts if verdict.is_summary
    )
    if not claims:
        return ""
    head = "".join(
        f'<th><a href="#{chapter.anchor}">{escape(chapter.experiment.name)}</a></th>'
        for chapter in chapters
    )
    rows = []
    for claim in claims:
        verdicts = [by_claim.get(claim) for by_claim in overall]
        cells = "".join(f"<td>{_answer_html(verdict)}</td>" for verdict in verdicts)
        rows.append(f"<tr><th>{escape(sentence_case(claim))}</th>{cells}</tr>")
    return (
        f"<table class='answers'><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _answer_html(verdict: Verdict | None) -> str:
    return badge(verdict.answer, standing(verdict)) if verdict else "<span class=none>–</span>"
