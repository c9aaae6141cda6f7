"""Notebook display of what the client returns: experiments, figures, verdicts.

The classes extend those of the schemas with `_repr_html_` or `_repr_mimebundle_`, so that the
schemas hold no logic. Figures are sent as Vega-Lite (interactive) and as SVG (everywhere else).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ucurve import spec
from ucurve.analysis.verdict_order import by_claim, caveats_of, standing
from ucurve.formatting import count, date_time, duration, scope_title
from ucurve.schemas import experiments as schemas

VEGA_LITE_MAJOR = 6  # of charts that do not name their schema
_STATE_COLOURS = {"done": "#2e7d4f", "running": "#1f6f8b", "failed": "#9e303b", "paused": "#b26a00"}
_ANSWER_COLOURS = {"yes": "#1f6f8b", "undetermined": "#b26a00"}
_GREY = "#6b7680"


class Experiment(schemas.Experiment):
    """An experiment that shows state, progress and link in a notebook."""

    def _repr_html_(self) -> str:
        return (
            f"<div><strong>#{self.id} {escape(self.name)}</strong> "
            f"{_state(self)}<br>{_progress_html(self)}<br>"
            f"<small>{escape(self.kind)} · {escape(self.owner)} · {date_time(self.created_at)} · "
            f'<a href="{escape(self.url)}">{escape(self.url)}</a></small></div>'
        )


class ExperimentPage(schemas.ExperimentPage):
    """A page of experiments that shows a table in a notebook."""

    experiments: list[Experiment]  # type: ignore[assignment]

    def _repr_html_(self) -> str:
        rows = [
            (
                f"#{experiment.id}",
                escape(experiment.name),
                _state(experiment),
                f"{count(experiment.progress.done)} of {count(experiment.progress.total)}",
                escape(experiment.kind),
                escape(experiment.owner),
            )
            for experiment in self.experiments
        ]
        titles = ("", "name", "state", "evaluations", "type", "owner")
        caption = f"{count(len(self.experiments))} of {count(self.total)} experiments"
        return f"{_table(titles, rows)}<small>{caption}</small>"


class Verdict(spec.Verdict):
    """A verdict that shows answer, sentence and statistics in a notebook."""

    def _repr_html_(self) -> str:
        return f"<div><strong>{escape(self.claim)}</strong><br>{' '.join(_cells(self))}</div>"


class Verdicts(list[spec.Verdict]):
    """Verdicts that show a table in a notebook, claim by claim."""

    def _repr_html_(self) -> str:
        if not self:
            return "<em>No verdicts yet.</em>"
        parts = []
        for claim in by_claim(self):
            parts.append(f"<strong>{escape(claim.name)}</strong>{_verdict_table(claim.summaries)}")
            if claim.details:
                summary = f"<summary>{escape(claim.details_title)}</summary>"
                parts.append(f"<details>{summary}{_verdict_table(claim.details)}</details>")
        return f"<div>{''.join(parts)}</div>"


class Figure(spec.Figure):
    """A figure that draws itself in a notebook."""

    @classmethod
    def of(cls, figure: spec.Figure) -> Figure:
        """Return the figure with a notebook display."""
        return cls(figure.title, figure.caption, figure.chart, figure.datasets)

    def vega_lite(self) -> dict[str, Any]:
        """Return the chart with its data inside, and a place for zero beside logarithmic axes."""
        from ucurve.figures.zero_tick import with_zero

        return with_zero(
            spec.Figure(self.title, self.caption, self.chart, self.datasets)
        ).vega_lite()

    def _repr_mimebundle_(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
    ) -> dict[str, Any]:
        from ucurve.figures.files import figure_file, finite

        chart = finite(self.vega_lite())
        vega_lite = f"application/vnd.vegalite.v{_vega_lite_major(self.chart)}.json"
        bundle = {vega_lite: chart, "text/plain": f"{self.title}\n{self.caption}"}
        wanted = set(include) if include is not None else None
        unwanted = set(exclude or ())
        if (wanted is None or "image/svg+xml" in wanted) and "image/svg+xml" not in unwanted:
            bundle["image/svg+xml"] = figure_file(self, "svg").decode()
        return {
            mime: content
            for mime, content in bundle.items()
            if (wanted is None or mime in wanted) and mime not in unwanted
        }


class Figures(dict[str, spec.Figure]):
    """Figures by name that show a table of titles and captions in a notebook."""

    @classmethod
    def of(cls, figures: Mapping[str, spec.Figure]) -> Figures:
        """Return figures with a notebook display."""
        return cls({name: Figure.of(figure) for name, figure in figures.items()})

    def _repr_html_(self) -> str:
        rows = [
            (f"<code>{escape(name)}</code>", escape(figure.title), escape(figure.caption))
            for name, figure in self.items()
        ]
        return _table(("name", "title", "caption"), rows)


def _vega_lite_major(chart: Mapping[str, Any]) -> int:
    version = re.search(r"/vega-lite/v(\d+)", json.dumps(chart.get("$schema", "")))
    return int(version[1]) if version else VEGA_LITE_MAJOR


def _progress_html(experiment: schemas.Experiment) -> str:
    """Return a progress bar with counts and the estimated time left."""
    counts = experiment.progress
    words = [f"{count(counts.done)} of {count(counts.total)} evaluations"]
    words += [f"{count(counts.reused)} cached"] if counts.reused else []
    words += [f"{count(counts.failed)} failed"] if counts.failed else []
    if experiment.eta_seconds is not None:
        words.append(f"{duration(experiment.eta_seconds)} left")
    words += [experiment.waits_for] if experiment.waits_for else []
    bar = (
        f'<progress value="{counts.done + counts.failed}" max="{max(counts.total, 1)}"></progress>'
    )
    return f"{bar} {escape(', '.join(words))}"


def _verdict_table(verdicts: Iterable[spec.Verdict]) -> str:
    verdicts = list(verdicts)
    caveats = "".join(f"<p>Caution: {escape(text)}</p>" for text in caveats_of(verdicts))
    titles = ("answer", "scope", "verdict")
    return caveats + _table(titles, [_cells(verdict) for verdict in verdicts])


def _cells(verdict: spec.Verdict) -> tuple[str, str, str]:
    """Return answer, scope and sentence with statistics, as HTML."""
    basis = f"<br><small>{escape(verdict.basis)}</small>" if verdict.basis else ""
    badge = _badge(standing(verdict), _ANSWER_COLOURS.get(verdict.answer, _GREY))
    return badge, escape(scope_title(verdict.scope)), f"{escape(verdict.sentence)}{basis}"


def _state(experiment: schemas.Experiment) -> str:
    return _badge(experiment.state, _STATE_COLOURS.get(experiment.state, _GREY))


def _badge(text: str, colour: str) -> str:
    style = f"color: white; background: {colour}; border-radius: 4px; padding: 0 6px"
    return f'<span style="{style}">{escape(text)}</span>'


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; titles are text, cells are HTML."""
    left = ' style="text-align: left"'
    head = "".join(f"<th{left}>{escape(title)}</th>" for title in titles)
    body = "".join(
        f"<tr>{''.join(f'<td{left}>{cell}</td>' for cell in cells)}</tr>" for cells in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
