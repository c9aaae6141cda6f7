"""Read files of reference numbers: results of evaluation tools (JSON), and plain tables (CSV).

harness.py reads lm-evaluation-harness of all ages, lighteval.py and olmes.py two others, tables.py
tables. A number is named TASK/METRIC; with a filter other than none TASK/METRIC,FILTER; with
examples before the question TASK (5-shot)/METRIC; and where one upload has several versions of a
task, TASK (version 2)/METRIC. Messages name the file, the place in it and what to do; of the
contents they quote names of models, revisions and suites only.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from api.reference_files import harness, lighteval, olmes, tables
from api.reference_files.contents import ROLLING, ContentError, Results, Score, documents
from api.reference_models import CheckpointFinder, FoundCheckpoint, UnknownCheckpointError
from ucurve.formatting import counted, shortened
from ucurve.schemas.references import MAX_ROWS, ReferenceRow, SentFile

LARGEST = sys.float_info.max


class FileProblemError(ValueError):
    """A file that cannot be read: which one, where in it, and what to do."""

    def __init__(self, position: int, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.position = position


@dataclass(frozen=True)
class ParsedFiles:
    """The finite numbers of all files, how many others were left out, and what to know of them."""

    rows: list[ReferenceRow]
    tool: str
    model: str
    num_left_out: int
    notes: list[str]


@dataclass
class _Upload:
    """What the files read so far hold."""

    rows: list[ReferenceRow] = field(default_factory=list)
    places: dict[tuple[str, str, str], str] = field(default_factory=dict)
    num_left_out: int = 0
    num_clipped: int = 0  # numbers that are infinite, stored as the largest float


def read(importer: str, files: Sequence[SentFile], finder: CheckpointFinder) -> ParsedFiles:
    """Return all numbers of the files. Raises FileProblemError."""
    _refuse_copies(files)
    upload = _Upload()
    tool, model = importer, ""
    if importer == "csv":
        for position, file in enumerate(files):
            _read_table(upload, position, file, finder)
    else:
        results = [
            (position, file, result)
            for position, file in enumerate(files)
            for result in _results(position, file)
        ]
        tool, model = _tool(results), next((r.evaluated.model for *_, r in results), "")
        _read_results(upload, results, finder)
    if not upload.rows:
        held = f"{counted(upload.num_left_out, 'number')}, none of them finite"
        message = f"the file holds {held if upload.num_left_out else 'a header and no rows'}"
        raise FileProblemError(0, files[0].name, f"{message}; there is no finite number to draw")
    upload.rows.sort(key=lambda row: (row.metric, row.tokens, row.revision))
    return ParsedFiles(upload.rows, tool, model, upload.num_left_out, _notes(upload, tool))


def _refuse_copies(files: Sequence[SentFile]) -> None:
    names: dict[str, str] = {}
    for position, file in enumerate(files):
        if file.content in names:
            message = f"it has the same contents as {names[file.content]}; keep one of them"
            raise FileProblemError(position, file.name, message)
        names[file.content] = file.name


def _read_table(upload: _Upload, position: int, file: SentFile, finder: CheckpointFinder) -> None:
    try:
        for row in tables.read(file.content, finder):
            checkpoint = FoundCheckpoint("", row.revision, row.tokens)
            where = f"{file.name}, {row.where}"
            _add(upload, position, where, checkpoint, row.metric, row.value, row.error)
    except ContentError as error:
        raise _problem(position, file, error) from error


def _results(position: int, file: SentFile) -> Iterator[Results]:
    try:
        for document in documents(file.content):
            results = _read_document(document)
            if not results.scores:
                raise ContentError("results", _without_numbers(document))
            yield results
    except ContentError as error:
        raise _problem(position, file, error) from error


def _read_document(document: dict[str, object]) -> Results:
    """Return the results of a document of whichever tool it is."""
    if olmes.is_olmes(document):
        return olmes.read(document)
    results = document.get("results")
    if isinstance(results, dict) and isinstance(document.get("config_general"), dict):
        return lighteval.read(document)
    if isinstance(results, dict) and all(isinstance(row, dict) for row in results.values()):
        return harness.read(document)
    if "doc_id" in document:
        raise ContentError("", "these are single examples: give the results_*.json beside them")
    held = f"an object with {counted(len(document), 'field')}" if document else "no object"
    if "results" in document:
        held = 'an object whose "results" are no objects of tasks'
    raise ContentError(
        "",
        f'there is no object "results", the file holds {held}: give a results_*.json of '
        "lm-evaluation-harness or lighteval, or a metrics.json of OLMES",
    )


def _without_numbers(document: dict[str, object]) -> str:
    """Return what a file holds instead of numbers; names of its contents are not quoted."""
    rows = document.get("results")
    num_tasks = len(rows) if isinstance(rows, dict) else 0
    held = f"{counted(num_tasks, 'task')} without a number" if num_tasks else "no task"
    return (
        f'the file holds {held}; looked for {{"results": {{TASK: {{METRIC: NUMBER}}}}}}, such as '
        '{"results": {"lambada_openai": {"acc,none": 0.27}}}: give the file that the evaluation '
        "wrote when it ended, or evaluate again"
    )


def _tool(results: Sequence[tuple[int, SentFile, Results]]) -> str:
    """Return the tool that wrote the files: numbers of two tools are not one curve."""
    _, first, one = results[0]
    for position, file, result in results:
        if result.tool != one.tool:
            raise FileProblemError(
                position,
                file.name,
                f"it is of {result.tool}, {first.name} of {one.tool}: they measure differently; "
                "add a curve for each tool",
            )
    return one.tool


def _read_results(
    upload: _Upload,
    results: Sequence[tuple[int, SentFile, Results]],
    finder: CheckpointFinder,
) -> None:
    versions: dict[str, set[str | None]] = defaultdict(set)
    for *_, result in results:
        for score in result.scores:
            versions[score.task].add(score.version)
    for position, file, result in results:
        try:
            checkpoint = finder.find(result.evaluated)
        except UnknownCheckpointError as error:
            where = f"{file.name}, {result.where}"
            raise FileProblemError(position, where, str(error)) from error
        for score in result.scores:
            name = _metric(score, several=len(versions[score.task]) > 1)
            _add(upload, position, file.name, checkpoint, name, score.value, score.error)


def _metric(score: Score, several: bool) -> str:
    """Return the name of a number; several: the upload has several versions of its task."""
    marks = [f"{score.shots}-shot"] if score.shots else []
    marks += [f"version {score.version}"] if several else []
    return score.task + (f" ({', '.join(marks)})" if marks else "") + f"/{score.metric}"


def _add(
    upload: _Upload,
    position: int,
    where: str,
    checkpoint: FoundCheckpoint,
    metric: str,
    value: float,
    error: float | None,
) -> None:
    if not math.isfinite(value) or abs(value) >= LARGEST:
        upload.num_left_out += 1
        upload.num_clipped += math.isfinite(value)
        return
    place = (checkpoint.suite, checkpoint.revision, metric)
    if first := upload.places.get(place):
        message = f"this checkpoint already has this metric, at {first}; keep one of them"
        raise FileProblemError(position, where, message)
    upload.places[place] = where
    known = error is not None and 0 <= error < LARGEST
    upload.rows.append(
        ReferenceRow(
            revision=checkpoint.revision,
            tokens=checkpoint.tokens,
            metric=metric,
            value=value,
            standard_error=error if known else None,
        )
    )
    if len(upload.rows) > MAX_ROWS:
        message = f"more than {MAX_ROWS:,} numbers: split them over several curves"
        raise FileProblemError(position, where, message)


def _notes(upload: _Upload, tool: str) -> list[str]:
    """Return what to know of the numbers: which are infinite, and which have no interval."""
    notes = []
    if upload.num_clipped:
        notes.append(
            f"{counted(upload.num_clipped, 'number')} at the largest float left out: that is how "
            "MLflow stores infinity."
        )
    without = list(dict.fromkeys(r.metric for r in upload.rows if r.standard_error is None))
    if without:
        rolling = tool == "lm-eval" and all(_base(name) in ROLLING for name in without)
        reason = (
            "lm-evaluation-harness gives rolling perplexities no standard error, with any number "
            "of bootstraps"
            if rolling
            else "the files give no standard error"
        )
        notes.append(f"No interval for {shortened(without)}: {reason}.")
    return notes


def _base(metric: str) -> str:
    return metric.rpartition("/")[2].partition(",")[0]


def _problem(position: int, file: SentFile, error: ContentError) -> FileProblemError:
    where = f"{file.name}, {error.where}" if error.where else file.name
    return FileProblemError(position, where, str(error))
