"""Curves as one CSV that Weights & Biases takes: a row per step of a run, with its configuration.

    run_id, name, group, job_type, tags, _step, config.*, tags of provenance, summary.*, metrics

`run_id` is the same at every export, so that a script that logs the rows with `resume="allow"`
updates its runs (docs/how-to/leave-with-your-results.md has one).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

from ucurve.csv_cells import plain_row
from ucurve.import_export.tracked_curves import TrackedCurve, metric_names
from ucurve.import_export.tracked_experiment import TrackedExperiment

FIRST = ("run_id", "name", "group", "job_type", "tags", "_step", "step_unit")


def wandb_csv(experiments: Sequence[TrackedExperiment]) -> str:
    """Return the table of all curves; cells of other experiments' columns are empty."""
    rows = [row for tracked in experiments for row in _rows(tracked)]
    metrics = metric_names(curve for tracked in experiments for curve in tracked.curves)
    others = dict.fromkeys(name for row in rows for name in row)
    columns = [*FIRST, *(n for n in others if n not in {*FIRST, *metrics}), *metrics]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(plain_row(row.get(name, "") for name in columns) for row in rows)
    return text.getvalue()


def run_id(tracked: TrackedExperiment, curve: TrackedCurve) -> str:
    """Return the identity of a curve's run."""
    text = f"{tracked.origin}\n{tracked.experiment.id}\n{curve.key}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rows(tracked: TrackedExperiment) -> Iterator[dict[str, Any]]:
    experiment = tracked.experiment
    shared: dict[str, Any] = {
        "group": f"{tracked.origin} #{experiment.id} {experiment.name}",
        "job_type": experiment.kind,
        "tags": ",".join(experiment.tags),
    }
    facts = {f"config.{name}": text for name, text in tracked.tags.items()}
    verdicts = {f"summary.{claim}": text for claim, text in tracked.answers.items()}
    for curve in tracked.curves:
        labels = {f"config.{name}": value for name, value in curve.labels.items()}
        for step, metrics in sorted(curve.points.items()):
            yield {
                "run_id": run_id(tracked, curve),
                "name": curve.name,
                **shared,
                "_step": step,
                "step_unit": curve.step_name,
                **labels,
                **facts,
                **verdicts,
                **metrics,
            }
