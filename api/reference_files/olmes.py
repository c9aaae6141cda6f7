"""Results of OLMES (oe-eval): metrics.json, a task's own file, or metrics-all.jsonl.

{"tasks": [{"alias": "arc_easy:rc::olmes", "metrics": {"acc_per_char": 0.5, "primary_score": 0.5},
"task_config": {"num_shots": 5, "limit": 1000}}], "model_config": {"model": ..., "revision": ...}}

The standard itself limits tasks to 1,000 examples, which is therefore part of a task's name here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.reference_files.contents import (
    ContentError,
    Results,
    Score,
    metrics_of,
    refuse_changed,
    revision_text,
    whole_number,
)
from api.reference_models import EvaluatedModel

WHERE = "model_config"


def is_olmes(document: Mapping[str, Any]) -> bool:
    """Whether a document is of OLMES."""
    if "all_primary_scores" in document:
        return True
    return "task_config" in document and isinstance(document.get("metrics"), dict)


def read(document: Mapping[str, Any]) -> Results:
    """Return the scores of a document. Raises ContentError."""
    config = document.get("model_config")
    config = config if isinstance(config, dict) else {}
    refuse_changed(config, WHERE)
    model = config.get("model_path") or config.get("model") or ""
    evaluated = EvaluatedModel(
        model=model if isinstance(model, str) else "",
        revision=revision_text(config.get("revision")),
    )
    tasks = document.get("tasks") or document.get("metrics")
    rows = tasks if isinstance(tasks, list) else [document]
    scores = [score for row in rows if isinstance(row, dict) for score in _scores(row)]
    if not scores:
        raise ContentError(
            "tasks", "no metrics are in this file: give the metrics.json or metrics-all.jsonl"
        )
    return Results("olmes", WHERE, evaluated, scores)


def _scores(row: Mapping[str, Any]) -> list[Score]:
    config = row.get("task_config")
    config = config if isinstance(config, dict) else {}
    metadata = config.get("metadata")
    alias = metadata.get("alias") if isinstance(metadata, dict) else None
    name = row.get("alias") or alias or row.get("task_name") or row.get("task") or "task"
    limit = whole_number(config.get("limit"))
    task = str(name) + (f" (limit {limit})" if limit else "")
    metrics = row.get("metrics")
    shots = whole_number(config.get("num_shots"))
    return [
        Score(task, metric, value, error, shots)
        for metric, value, error in metrics_of(metrics if isinstance(metrics, dict) else row)
    ]
