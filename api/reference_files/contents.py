"""What a reader makes of a file: numbers of tasks, and faults with their place and remedy."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from api.reference_models import EvaluatedModel

ROLLING = frozenset({"word_perplexity", "byte_perplexity", "bits_per_byte"})
# Keys of a task's results that are no metrics, of all tools.
NOT_METRICS = frozenset(
    {"alias", "name", "no_answer", "sample_count", "sample_len", "samples", "task_idx"}
)
NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE
)
TIMES = re.compile(r"(^|_)(seconds?|secondes|time|latency|duration|throughput)$")
# Adapters and quantisation: the number is not that of the checkpoint.
CHANGES = (
    "peft",
    "delta",
    "lora",
    "lora_path",
    "lora_local_path",
    "adapter",
    "adapter_weights",
    "delta_weights",
    "steer_path",
    "load_in_4bit",
    "load_in_8bit",
    "autogptq",
    "gptqmodel",
    "gguf_file",
    "quantization",
    "quantization_config",
)


class ContentError(ValueError):
    """A fault in a file's contents: where in it, and what to do."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(message)
        self.where = where


@dataclass(frozen=True)
class Score:
    """A number of a task. shots, version: of the task, where the file says them."""

    task: str
    metric: str
    value: float
    error: float | None = None
    shots: int | None = None
    version: str | None = None


@dataclass(frozen=True)
class Results:
    """The scores of one checkpoint."""

    tool: str
    where: str  # field that names the checkpoint
    evaluated: EvaluatedModel
    scores: list[Score]


def documents(content: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a file: one, or one a line. Raises ContentError."""
    expect_content(content)
    try:
        return [_object(json.loads(content))]
    except json.JSONDecodeError as error:
        lines = [line for line in content.splitlines() if line.strip()]
        with suppress(json.JSONDecodeError):
            if len(lines) > 1:
                return [_object(json.loads(line)) for line in lines]
        where = f"line {error.lineno}, column {error.colno}"
        raise ContentError(where, "this is not JSON") from error
    except RecursionError as error:
        raise ContentError("", "this is nested too deeply for results of an evaluation") from error
    except ValueError as error:  # Python reads no whole number of more than 4,300 digits
        raise ContentError("", "this holds a number with too many digits") from error


def expect_content(content: str) -> None:
    """Raise ContentError where a file holds nothing."""
    if not content.strip("\ufeff \t\r\n"):
        raise ContentError("", "the file is empty: give it again, or evaluate again")


def _object(document: Any) -> dict[str, Any]:
    return document if isinstance(document, dict) else {}


def metrics_of(row: Mapping[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """Yield (metric, value, standard error) of a task's results.

    Where metrics have a filter, "acc,none", everything without one is something else.
    """
    has_filters = any("," in key for key in row)
    for key, value in row.items():
        name, _, filter = key.partition(",")
        number = number_of(value)
        if number is None or name.endswith("_stderr") or (has_filters and not filter):
            continue
        if name in NOT_METRICS or name.startswith("num_") or TIMES.search(name):
            continue
        error = number_of(row.get(f"{name}_stderr,{filter}" if filter else f"{name}_stderr"))
        name = {"ppl": "perplexity"}.get(name, name)
        metric = name + (f",{filter}" if filter not in ("", "none") else "")
        yield metric, number, error if error is not None and math.isfinite(error) else None


def number_of(value: Any) -> float | None:
    """Return a number, or a text that is one; None for anything else, such as "N/A".

    JSON has no NaN and no infinity, so that tools write them as text.
    """
    if isinstance(value, str):
        return float(value) if NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number beyond the largest float
        return math.inf if value > 0 else -math.inf


def whole_number(value: Any) -> int | None:
    """Return a count of at least 0, else None."""
    number = None if isinstance(value, str) else number_of(value)
    if number is None or not math.isfinite(number) or value != int(value) or value < 0:
        return None
    return int(value)


def revision_text(value: Any) -> str:
    """Return a revision as text; tools turn 0001000 into a number on the way."""
    number = whole_number(value)
    if number is not None:
        return str(number)
    return value.strip() if isinstance(value, str) and value != "None" else ""


def refuse_changed(args: Mapping[str, Any], where: str) -> None:
    """Raise ContentError where the evaluated model is more than the checkpoint."""
    for name in CHANGES:
        value = args.get(name)
        if value and value not in ("None", "False", "false", "none"):
            raise ContentError(
                where,
                f"it was made with {name}, so these are not the checkpoint's numbers: evaluate "
                "the checkpoint itself, or give them as CSV under a metric of another name",
            )


def refuse_limited(limit: Any, where: str) -> None:
    """Raise ContentError where only a part of the examples was evaluated."""
    if limit not in (None, "", "None"):
        raise ContentError(
            where,
            "it was made with a limit on the examples, so these are not the task's numbers: "
            "evaluate without it, or give them as CSV under a metric of another name",
        )
