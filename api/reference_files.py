"""Read files of reference numbers: results of lm-evaluation-harness, and plain CSV.

lm-eval: results_*.json, one file per checkpoint. `results` holds {task: {"acc,none": 0.27,
"acc_stderr,none": 0.01}}: a number per task and metric, named TASK/METRIC (with a filter other than
none: TASK/METRIC,FILTER). `config.model_args` names the checkpoint:
"pretrained=EleutherAI/pythia-70m,revision=step1000", or the same as an object.

CSV: a header and a row per number:

    checkpoint,tokens,metric,value,standard_error
    step1000,2097152000,lambada_openai/perplexity,1200.5,30.1

`tokens` may be empty where the checkpoint's name or the suite gives it; `standard_error` may be
missing. Messages name the file, line and column and what to do, never the file's contents.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ucurve.registry.revisions import parse_revision
from ucurve.schemas.references import MAX_ROWS, ReferenceRow, SentFile

COLUMNS = ("checkpoint", "tokens", "metric", "value")
TokenLookup = Callable[[str, str], int | None]  # (model, revision) -> tokens, where known


class FileProblemError(ValueError):
    """A file that cannot be read: which one, where in it, and what to do."""

    def __init__(self, position: int, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.position = position


@dataclass(frozen=True)
class ParsedFiles:
    """The finite numbers of all files, and how many others were left out."""

    rows: list[ReferenceRow]
    model: str
    num_left_out: int


def read(importer: str, files: Sequence[SentFile], tokens: TokenLookup) -> ParsedFiles:
    """Return all numbers of the files. Raises FileProblemError."""
    reader = _read_lm_eval if importer == "lm-eval" else _read_csv
    rows: list[ReferenceRow] = []
    places: dict[tuple[str, str], str] = {}
    model, num_left_out = "", 0
    for position, file in enumerate(files):
        for number in reader(position, file, tokens):
            model = model or number.model
            if not math.isfinite(number.value):
                num_left_out += 1
                continue
            if first := places.get((number.revision, number.metric)):
                message = f"this checkpoint already has this metric, at {first}; keep one of them"
                raise FileProblemError(position, number.where, message)
            places[number.revision, number.metric] = number.where
            rows.append(number.row())
            if len(rows) > MAX_ROWS:
                message = f"more than {MAX_ROWS:,} numbers: split them over several curves"
                raise FileProblemError(position, number.where, message)
    if not rows:
        raise FileProblemError(0, files[0].name, "the file has no finite number")
    rows.sort(key=lambda row: (row.metric, row.tokens, row.revision))
    return ParsedFiles(rows, model, num_left_out)


@dataclass(frozen=True)
class _Number:
    where: str
    revision: str
    tokens: int
    metric: str
    value: float
    standard_error: float | None
    model: str = ""

    def row(self) -> ReferenceRow:
        names = ReferenceRow.model_fields
        return ReferenceRow.model_validate({name: getattr(self, name) for name in names})


def _read_lm_eval(position: int, file: SentFile, tokens: TokenLookup) -> Iterator[_Number]:
    document = _json_object(position, file)
    results = document.get("results")
    if not isinstance(results, dict) or not all(isinstance(r, dict) for r in results.values()):
        raise FileProblemError(
            position,
            file.name,
            'there is no object "results": give a results_*.json of lm-evaluation-harness',
        )
    config: Any = document.get("config") if isinstance(document.get("config"), dict) else {}
    args = _model_args(config.get("model_args"))
    model = args.get("pretrained") or str(document.get("model_name") or "")
    revision = args.get("revision") or str(config.get("model_revision") or "main")
    count = _token_count(tokens, model, revision)
    if count is None:
        raise FileProblemError(
            position,
            f"{file.name}, config.model_args",
            "the tokens of its checkpoint are unknown: name a registered suite that has this "
            "revision, or give a CSV with tokens",
        )
    for task, metrics in results.items():
        for name, value, error in _lm_eval_metrics(metrics):
            yield _Number(file.name, revision, count, f"{task}/{name}", value, error, model)


def _json_object(position: int, file: SentFile) -> dict[str, Any]:
    try:
        document = json.loads(file.content)
    except json.JSONDecodeError as error:
        where = f"{file.name}, line {error.lineno}, column {error.colno}"
        raise FileProblemError(position, where, "this is not JSON") from error
    except RecursionError as error:
        message = "this is nested too deeply for results of lm-eval"
        raise FileProblemError(position, file.name, message) from error
    return document if isinstance(document, dict) else {}


def _lm_eval_metrics(metrics: dict[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """Yield (metric, value, standard error) of a task."""
    for key, value in metrics.items():
        name, _, filter = key.partition(",")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or name.endswith("_stderr") or name == "sample_len":
            continue
        # "N/A" where there is none
        error: Any = metrics.get(f"{name}_stderr,{filter}" if filter else f"{name}_stderr")
        has_error = isinstance(error, int | float) and math.isfinite(error)
        metric = name + (f",{filter}" if filter not in ("", "none") else "")
        yield metric, float(value), float(error) if has_error else None


def _model_args(args: Any) -> dict[str, str]:
    if isinstance(args, dict):
        return {str(name): str(value) for name, value in args.items()}
    pairs = (part.partition("=") for part in args.split(",")) if isinstance(args, str) else ()
    return {name.strip(): value.strip() for name, _, value in pairs}


def _read_csv(position: int, file: SentFile, tokens: TokenLookup) -> Iterator[_Number]:
    def problem(line: int, column: str, message: str) -> FileProblemError:
        where = f"{file.name}, line {line}" + (f", column {column}" if column else "")
        return FileProblemError(position, where, message)

    text = file.content.removeprefix("\ufeff")
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        if missing := [name for name in COLUMNS if name not in names]:
            header = ",".join(COLUMNS)
            raise problem(1, missing[0], f"it is missing; the header is {header}[,standard_error]")
        for row in reader:
            line = reader.line_num
            if "" in row or any(row[name] is None for name in COLUMNS):
                raise problem(line, "", f"the row does not have {len(names)} values as the header")
            try:
                yield _csv_number(row, f"{file.name}, line {line}", tokens)
            except _CellError as error:
                raise problem(line, error.column, str(error)) from error
    except csv.Error as error:
        line = reader.reader.line_num
        raise problem(line, "", "this is not CSV: look for an unclosed quotation mark") from error


class _CellError(ValueError):
    """A cell that cannot be read."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


def _csv_number(row: dict[str, str], where: str, tokens: TokenLookup) -> _Number:
    revision, metric = row["checkpoint"].strip(), row["metric"].strip()
    if not revision or not metric:
        raise _CellError("metric" if revision else "checkpoint", "it is empty")
    has_tokens = row["tokens"].strip()
    count = _integer(row["tokens"]) if has_tokens else _token_count(tokens, "", revision)
    if count is None:
        raise _CellError(
            "tokens",
            "give an integer, since neither the checkpoint's name nor a suite gives the tokens",
        )
    value = _float(row["value"])
    if value is None:
        raise _CellError("value", "it is not a number; write it like 12.5 or 1.25e1")
    text = (row.get("standard_error") or "").strip()
    error = _float(text)
    if text and not (error is not None and 0 <= error < math.inf):
        raise _CellError(
            "standard_error", "it is not a number of at least 0; leave it empty if unknown"
        )
    return _Number(where, revision, count, metric, value, error)


def _token_count(tokens: TokenLookup, model: str, revision: str) -> int | None:
    count = tokens(model, revision)
    return parse_revision(revision).tokens if count is None else count


def _integer(text: str) -> int | None:
    number = _float(text)
    if number is None or not math.isfinite(number) or number < 0 or number != int(number):
        return None
    return int(number)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
