"""Provenance of a report as HTML: workers and versions, checkpoints and datasets, commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC
from html import escape
from typing import Any

from ucurve.formatting import count, date_time, duration
from ucurve.import_export.report_contents import Chapter
from ucurve.schemas.experiments import Experiment

Rows = list[list[str]]
HASH_COLUMNS = ("SHA-256", "SHA-256 of the weights", "code")


def provenance_html(chapters: Sequence[Chapter]) -> str:
    """Return the section about workers, versions, checkpoints and datasets."""
    return (
        "<section id='provenance'><h2>Provenance</h2>"
        f"{''.join(_workers_html(chapter) for chapter in chapters)}{_artefacts_html(chapters)}"
        "</section>"
    )


def reproduce_html(chapters: Sequence[Chapter]) -> str:
    """Return the section with the commands that repeat every measurement."""
    commands = [
        f"ucurve submit - --wait <<'JSON'\n{_submission_json(chapter.experiment)}\nJSON"
        for chapter in chapters
    ]
    blocks = "".join(f"<pre>{escape(command)}</pre>" for command in commands)
    ids = " ".join(str(chapter.experiment.id) for chapter in chapters)
    return (
        "<section id='repeat'><h2>Reproduce</h2><p>In a lab with the same suites and datasets, "
        "these commands submit the same measurements; cached ones are reused.</p>"
        f"{blocks}<p>This report, with the ids of the new experiments:</p>"
        f"<pre>ucurve report {ids} -o report.html</pre></section>"
    )


def _workers_html(chapter: Chapter) -> str:
    rows: Rows = []
    for source in chapter.provenance.measured:
        versions = dict(source.versions)
        hardware, code = versions.pop("hardware", ""), versions.pop("code", "")
        rows.append(
            [
                f"{count(source.num_attempts)} {source.outcome}",
                source.worker,
                f"{source.device} {hardware}",
                ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
                code,
                f"{date_time(source.first)} to {source.last.astimezone(UTC):%H:%M}",
                duration(source.seconds),
            ]
        )
    titles = ("attempts", "worker", "hardware", "versions", "code", "time", "total duration")
    return f"<h4>{escape(chapter.experiment.name)}</h4>{_table(titles, rows)}"


def _artefacts_html(chapters: Sequence[Chapter]) -> str:
    """Return checkpoints and datasets with their hashes, each once."""
    checkpoints = {
        (checkpoint.suite, checkpoint.revision): [
            checkpoint.suite,
            checkpoint.revision,
            "" if checkpoint.tokens is None else count(checkpoint.tokens),
            checkpoint.weights_sha256 or "",
        ]
        for chapter in chapters
        for checkpoint in chapter.provenance.checkpoints
    }
    datasets = {
        dataset.name: [dataset.name, dataset.description, dataset.sha256 or ""]
        for chapter in chapters
        for dataset in chapter.provenance.datasets
    }
    parts = []
    if checkpoints:
        titles = ("suite", "revision", "tokens", "SHA-256 of the weights")
        parts.append(f"<h4>Checkpoints</h4>{_table(titles, list(checkpoints.values()))}")
        remarks = dict.fromkeys(r for chapter in chapters for r in chapter.provenance.remarks)
        parts += [f"<p class='warning'>{escape(remark)}</p>" for remark in remarks]
    if datasets:
        columns = ("name", "description", "SHA-256")
        parts.append(f"<h4>Datasets</h4>{_table(columns, list(datasets.values()))}")
    return "".join(parts)


def _table(titles: Sequence[str], rows: Rows) -> str:
    """Return a table; columns of hashes are set in small type."""
    classes = [" class='hash'" if title in HASH_COLUMNS else "" for title in titles]
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = ""
    for row in rows:
        cells = (f"<td{c}>{escape(cell)}</td>" for c, cell in zip(classes, row, strict=True))
        body += f"<tr>{''.join(cells)}</tr>"
    return f"<table class='small'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _submission_json(experiment: Experiment) -> str:
    fields: dict[str, Any] = experiment.model_dump(
        mode="json", include={"name", "tags", "notes", "spec"}
    )
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in fields.items()
        if value
    ]
    return "{" + ",\n ".join(lines) + "}"
