"""Results of lighteval: {"config_general": {...}, "results": {"leaderboard|arc:challenge|25":
{"acc": 0.2, "acc_stderr": 0.01}, "all": {...}}}.

Newer versions leave the suite out of the key, "gsm8k|5". "all" is the mean over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.reference_files.contents import (
    Results,
    Score,
    metrics_of,
    refuse_changed,
    refuse_limited,
    revision_text,
)
from api.reference_files.harness import model_args
from api.reference_models import EvaluatedModel


def read(document: Mapping[str, Any]) -> Results:
    """Return the scores of a results_*.json of lighteval. Raises ContentError."""
    general = document["config_general"]
    config = general.get("model_config")
    config = config if isinstance(config, dict) else {}
    where = "config_general.model_config" if config else "config_general"
    refuse_changed(config, where)
    refuse_limited(general.get("max_samples"), "config_general.max_samples")
    name = config.get("model_name") or config.get("pretrained") or general.get("model_name") or ""
    args = model_args(name) if "=" in str(name) else {"model_name": name}
    revisions = (args.get("revision"), config.get("revision"), general.get("model_sha"))
    evaluated = EvaluatedModel(
        model=str(args.get("model_name") or args.get("pretrained") or ""),
        revision=next((text for text in map(revision_text, revisions) if text), ""),
        subfolder=revision_text(config.get("subfolder")),
    )
    scores = [
        Score(task, metric, value, error, shots)
        for key, row in document["results"].items()
        if key != "all" and isinstance(row, dict)
        for task, shots in [_task(key)]
        for metric, value, error in metrics_of(row)
    ]
    return Results("lighteval", where, evaluated, scores)


def _task(key: str) -> tuple[str, int | None]:
    """Split "leaderboard|arc:challenge|25|0" or "gsm8k|5" into task and number of shots."""
    parts = key.split("|")
    place = 1 if len(parts) == 2 else 2
    if len(parts) > place and parts[place].isdecimal():
        return "|".join(parts[:place]), int(parts[place])
    return key, None
