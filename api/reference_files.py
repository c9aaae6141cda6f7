"""Files of reference numbers: lm-evaluation-harness results and plain CSV.

lm-eval: what it writes as results_*.json, one file per checkpoint. `results` holds {task: {"acc,none": 0.27, "acc_stderr,none":
0.01}}: a number per task and metric, named TASK/METRIC (with another filter than none: TASK/METRIC,FILTER). `config.model_args`
names the checkpoint: "pretrained=EleutherAI/pythia-70m,revision=step1000", or the same as an object.

CSV: a header and a row per number:

    checkpoint,tokens,metric,value,standard_error
    step1000,2097152000,lambada_openai/perplexity,1200.5,30.1

`tokens` may be empty where the checkpoint's name says it or the suite knows it; `standard_error` may be missing. What a message
says of a file is its name, a line, a column and what to do, never what stands there.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ucurve.registry.suites import parse_revision
from ucurve.schemas.references import MOST_ROWS, ReferenceRow, SentFile

COLUMNS = ("checkpoint", "tokens", "metric", "value")
Tokens = Callable[[str, str], int | None]  # (model, revision) -> tokens, where the lab knows


class FileProblemError(ValueError):
    """A file that cannot be read: which, where in it, and the remedy."""

    def __init__(self, position: int, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.position = position


@dataclass(frozen=True)
class Found:
    rows: list[ReferenceRow]
    model: str
    num_left_out: int


def read(importer: str, files: Sequence[SentFile], tokens: Tokens) -> Found:
    """All numbers of the files. Raises FileProblemError."""
    reader = _lm_eval if importer == "lm-eval" else _csv
    rows: list[ReferenceRow] = []
    places: dict[tuple[str, str], str] = {}
    model, num_left_out = "", 0
    for position, file in enumerate(files):
        for one in reader(position, file, tokens):
            model = model or one.model
            if not math.isfinite(one.value):
                num_left_out += 1
                continue
            if first := places.get((one.revision, one.metric)):
                raise FileProblemError(
                    position,
                    one.where,
                    f"this checkpoint has this metric already, at {first}; keep one of both",
                )
            places[one.revision, one.metric] = one.where
            rows.append(
                ReferenceRow(
                    revision=one.revision,
                    tokens=one.tokens,
                    metric=one.metric,
                    value=one.value,
                    standard_error=one.standard_error,
                )
            )
            if len(rows) > MOST_ROWS:
                raise FileProblemError(
                    position,
                    one.where,
                    f"more than {MOST_ROWS:,} numbers: split them over several curves",
                )
    if not rows:
        raise FileProblemError(0, files[0].name, "there is no finite number in it")
    return Found(
        sorted(rows, key=lambda row: (row.metric, row.tokens, row.revision)), model, num_left_out
    )


@dataclass(frozen=True)
class _Number:
    where: str
    revision: str
    tokens: int
    metric: str
    value: float
    standard_error: float | None
    model: str = ""


def _lm_eval(position: int, file: SentFile, tokens: Tokens) -> Iterator[_Number]:
    try:
        found = json.loads(file.content)
    except json.JSONDecodeError as error:
        raise FileProblemError(
            position, f"{file.name}, line {error.lineno}, column {error.colno}", "this is not JSON"
        ) from error
    except RecursionError as error:
        raise FileProblemError(
            position, file.name, "this is nested too deeply for results of lm-eval"
        ) from error
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, dict) or not all(isinstance(one, dict) for one in results.values()):
        raise FileProblemError(
            position,
            file.name,
            'there is no object "results": give a results_*.json of lm-evaluation-harness',
        )
    config = found.get("config") if isinstance(found.get("config"), dict) else {}
    given = _model_args(config.get("model_args"))
    model = given.get("pretrained") or str(found.get("model_name") or "")
    revision = given.get("revision") or str(config.get("model_revision") or "main")
    count = _count(tokens, model, revision)
    if count is None:
        raise FileProblemError(
            position,
            f"{file.name}, config.model_args",
            "the tokens of its checkpoint are not known: name a registered suite that has this revision, or give a CSV with tokens",
        )
    for task, metrics in results.items():
        for key, value in metrics.items():
            name, _, chosen = key.partition(",")
            if (
                not isinstance(value, int | float)
                or isinstance(value, bool)
                or name.endswith("_stderr")
                or name == "sample_len"
            ):
                continue
            spread = metrics.get(
                f"{name}_stderr,{chosen}" if chosen else f"{name}_stderr"
            )  # "N/A" where there is none
            known = isinstance(spread, int | float) and math.isfinite(spread)
            metric = f"{task}/{name}" + (f",{chosen}" if chosen not in ("", "none") else "")
            yield _Number(
                file.name,
                revision,
                count,
                metric,
                float(value),
                float(spread) if known else None,
                model,
            )


def _model_args(given: Any) -> dict[str, str]:
    if isinstance(given, dict):
        return {str(name): str(value) for name, value in given.items()}
    pairs = (part.partition("=") for part in given.split(",")) if isinstance(given, str) else ()
    return {name.strip(): value.strip() for name, _, value in pairs}


def _csv(position: int, file: SentFile, tokens: Tokens) -> Iterator[_Number]:
    def problem(line: int, column: str, message: str) -> FileProblemError:
        return FileProblemError(
            position,
            f"{file.name}, line {line}" + (f", column {column}" if column else ""),
            message,
        )

    reader = csv.DictReader(
        io.StringIO(file.content.removeprefix("\ufeff"), newline=""), restkey="", strict=True
    )
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        if missing := [name for name in COLUMNS if name not in names]:
            raise problem(
                1, missing[0], f"it is missing; the header is {','.join(COLUMNS)}[,standard_error]"
            )
        for row in reader:
            line = reader.line_num
            if "" in row or any(row[name] is None for name in COLUMNS):
                raise problem(line, "", f"it has not {len(names)} values as the header has")
            revision, metric = row["checkpoint"].strip(), row["metric"].strip()
            if not revision or not metric:
                raise problem(line, "metric" if revision else "checkpoint", "it is empty")
            count = _whole(row["tokens"]) if row["tokens"].strip() else _count(tokens, "", revision)
            if count is None:
                raise problem(
                    line,
                    "tokens",
                    "give a whole number, since neither the checkpoint's name nor a suite says it",
                )
            value, error = _float(row["value"]), _float(row.get("standard_error") or "")
            if value is None:
                raise problem(line, "value", "it is no number; write it like 12.5 or 1.25e1")
            if (row.get("standard_error") or "").strip() and not (
                error is not None and 0 <= error < math.inf
            ):
                raise problem(
                    line,
                    "standard_error",
                    "it is no number from 0 up; leave it empty where it is not known",
                )
            yield _Number(f"{file.name}, line {line}", revision, count, metric, value, error)
    except csv.Error as error:
        raise problem(
            reader.reader.line_num, "", "this is not CSV: look for an unclosed quotation mark"
        ) from error


def _count(tokens: Tokens, model: str, revision: str) -> int | None:
    known = tokens(model, revision)
    return parse_revision(revision).tokens if known is None else known


def _whole(text: str) -> int | None:
    number = _float(text)
    return (
        int(number)
        if number is not None and math.isfinite(number) and number >= 0 and number == int(number)
        else None
    )


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
