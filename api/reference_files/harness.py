"""Results of lm-evaluation-harness, of all ages.

0.4 writes {"results": {task: {"acc,none": 0.27, "acc_stderr,none": 0.01}}, "n-shot": {task: 0},
"config": {"model_args": "pretrained=EleutherAI/pythia-70m,revision=step1000"}}, model_args as text
or as an object whose values are cast. Before that, metrics had no filter and perplexity was called
ppl; evaluations of a trainer have its whole config as model_args, with the step as `iteration`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from api.reference_files.contents import (
    ContentError,
    Results,
    Score,
    metrics_of,
    refuse_changed,
    refuse_limited,
    revision_text,
    whole_number,
)
from api.reference_models import EvaluatedModel

WHERE = "config.model_args"


def read(document: Mapping[str, Any]) -> Results:
    """Return the scores of a results_*.json. Raises ContentError."""
    config = _mapping(document.get("config"))
    args = model_args(config.get("model_args"))
    refuse_changed(args, WHERE)
    refuse_limited(config.get("limit"), "config.limit")
    _refuse_partial(document)
    tasks = _mapping(document["results"])
    scores = [
        Score(task, metric, value, error, _shots(document, task), _version(document, task))
        for task, row in tasks.items()
        for metric, value, error in metrics_of(_mapping(row))
    ]
    return Results("lm-eval", WHERE, _evaluated(document, config, args), scores)


def model_args(args: Any) -> dict[str, Any]:
    """Return arguments given as an object, as JSON, or as name=value with commas."""
    if isinstance(args, str) and args.lstrip().startswith("{"):
        try:
            args = json.loads(args)
        except json.JSONDecodeError:
            args = None
    if isinstance(args, dict):
        return {str(name): value for name, value in args.items()}
    pairs = (part.partition("=") for part in args.split(",")) if isinstance(args, str) else ()
    return {name.strip(): value.strip() for name, _, value in pairs}


def _evaluated(
    document: Mapping[str, Any], config: Mapping[str, Any], args: Mapping[str, Any]
) -> EvaluatedModel:
    step = whole_number(args.get("iteration", config.get("iteration")))
    trainer = args if "iteration" in args else config
    names = [args.get(name) for name in ("pretrained", "model", "path")]
    if step is not None:
        names += [trainer.get("load"), trainer.get("save")]
    names.append(document.get("model_name"))
    model = next((name for name in names if isinstance(name, str) and name), "")
    evaluated = EvaluatedModel(
        model=model,
        revision=revision_text(args.get("revision")),
        subfolder=revision_text(args.get("subfolder")),
        step=step,
        tokens_per_step=_tokens_per_step(trainer) if step is not None else None,
    )
    named = revision_text(config.get("model_revision"))
    if evaluated.revision or named in ("", "main") or not evaluated.hub:
        return evaluated
    return EvaluatedModel(model, named, evaluated.subfolder, step, evaluated.tokens_per_step)


def _tokens_per_step(trainer: Mapping[str, Any]) -> int | None:
    batch, length = (whole_number(trainer.get(k)) for k in ("train_batch_size", "seq_length"))
    return batch * length if batch and length else None


def _shots(document: Mapping[str, Any], task: str) -> int | None:
    config = _mapping(_mapping(document.get("configs")).get(task))
    known = (
        _mapping(document.get("n-shot")).get(task),
        config.get("num_fewshot"),
        _mapping(document.get("config")).get("num_fewshot"),
    )
    return next((n for n in map(whole_number, known) if n is not None), None)


def _version(document: Mapping[str, Any], task: str) -> str | None:
    version = _mapping(document.get("versions")).get(task)
    return str(version) if isinstance(version, int | float | str) else None


def _refuse_partial(document: Mapping[str, Any]) -> None:
    for counts in _mapping(document.get("n-samples")).values():
        used, total = (whole_number(_mapping(counts).get(k)) for k in ("effective", "original"))
        if used is not None and total is not None and used < total:
            raise ContentError(
                "n-samples",
                f"it was made with {used:,} of {total:,} examples, so these are not the task's "
                "numbers: evaluate all, or give them as CSV under a metric of another name",
            )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
