"""The files of an export: a Parquet file per table and a manifest, streamed page by page.

    DIR/manifest.json             format, version and code hash of the writer, origin, filters,
                                  rows and SHA-256 of every file
    DIR/experiments.parquet       name, kind, owner, spec, state, counts, dates of each experiment
    DIR/points.parquet            measurements of each experiment, with labels and order
    DIR/measurements.parquet      identity (SHA-256 of `inputs`), repeat, inputs, labels, state,
                                  metrics, nonfinite
    DIR/attempts.parquet          every attempt: worker, device, versions, times, outcome, metrics,
                                  series, traceback, log
    DIR/{suites,checkpoints,datasets,reference_curves}.parquet
    DIR/index.html, DIR/site/     the same as an offline site

Columns without a fixed schema (spec, inputs, source, labels, location, parameters, origin, rows)
are JSON text. A metric that is not finite is null, and `nonfinite` has its state: pos_inf, neg_inf
or nan. `attempt` is the attempt whose metrics are shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from pydantic import BaseModel, ValidationError

from ucurve.registry.artifacts import file_sha256, stream_sha256
from ucurve.registry.roots import LocationError, open_regular
from ucurve.schemas.import_export import FORMAT

if TYPE_CHECKING:
    import pyarrow as pa

MAX_MANIFEST_BYTES = 10_000_000
MAX_GROUP_BYTES = 2**31  # of a part that is read as a whole, unpacked
Form = Literal["text", "int", "float", "bool", "time", "texts", "words", "numbers", "series"]
Row = dict[str, Any]
ProgressCallback = Callable[[str, int, int], None]  # (table, done, total)

_COLUMNS = {  # table -> name:form of every column, in the file's order
    "experiments": (
        "id:int name:text kind:text owner:text tags:texts notes:text priority:int spec:text "
        "state:text archived:bool num_points:int num_done:int num_failed:int "
        "created_at:time started_at:time finished_at:time"
    ),
    "points": (
        "experiment:int measurement:int identity:text repeat:int position:int stage:int "
        "labels:text reused:bool"
    ),
    "measurements": (
        "id:int identity:text repeat:int kind:text inputs:text source:text labels:text "
        "group_key:text seconds:float requires_device:text requires_memory_gb:float "
        "state:text metrics:numbers nonfinite:words error:text attempt:int finished_at:time"
    ),
    "attempts": (
        "id:int measurement:int worker:text device:text versions:words outcome:text "
        "started_at:time finished_at:time metrics:numbers nonfinite:words series:series "
        "traceback:text log:text origin:text"
    ),
    "suites": ("name:text description:text evaluation:text recipe:text owner:text created_at:time"),
    "checkpoints": (
        "suite:text revision:text location:text step:int tokens:int replicate:int "
        "phase:text words:int training_phase:text replicate_name:text position_source:text "
        "num_parameters:int context:int weights_sha256:text config_sha256:text "
        "tokenizer_sha256:text size_bytes:int unresolved:text"
    ),
    "datasets": (
        "name:text description:text kind:text parameters:text location:text sha256:text "
        "size_bytes:int unresolved:text owner:text created_at:time"
    ),
    "reference_curves": ("name:text suite:text origin:text rows:text owner:text created_at:time"),
}
TABLES: dict[str, dict[str, Form]] = {
    table: {
        name: cast("Form", form)
        for name, _, form in (column.partition(":") for column in columns.split())
    }
    for table, columns in _COLUMNS.items()
}

# Columns that exports of earlier releases lack: null there.
LATER: dict[str, frozenset[str]] = {
    "checkpoints": frozenset(("words", "training_phase", "replicate_name", "position_source"))
}

# For readers of the files: derived, so that no import needs it and older exports do not have it.
DERIVED: dict[str, dict[str, Form]] = {"suites": {"remarks": "texts"}}


class FolderError(ValueError):
    """The folder cannot be written or read as an export; the message says why and what to do."""


class File(BaseModel):
    """A file of an export."""

    sha256: str
    rows: int | None = None  # of a table


class Manifest(BaseModel):
    """Origin, version and files of an export."""

    format: int = FORMAT
    version: str
    code: str
    origin: str  # name of the lab
    made_at: datetime
    filters: dict[str, Any] = {}
    files: dict[str, File] = {}


def write_table(folder: Path, name: str, pages: Iterable[list[Row]]) -> File:
    """Write the pages of a table to a Parquet file; return its hash and number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    forms = TABLES[name] | DERIVED.get(name, {})
    path, schema, num_rows = folder / f"{name}.parquet", _schema(forms), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for page in pages:
            missing = dict.fromkeys(DERIVED.get(name, {}))  # rows of another export lack them
            rows = [_packed({**missing, **row}, forms) for row in page]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            num_rows += len(rows)
    return File(sha256=file_sha256(path), rows=num_rows)


def read_table(folder: Path, name: str, batch: int = 500) -> Iterator[Row]:
    """Yield the rows of a table. Raises FolderError for a file that is no table of an export."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{name}.parquet"
    try:
        with open_inside(folder, path.name) as source, pq.ParquetFile(source) as file:
            absent = LATER.get(name, frozenset()).difference(file.schema_arrow.names)
            forms = {column: form for column, form in TABLES[name].items() if column not in absent}
            _check_table(path.name, file, _schema(forms))
            for page in file.iter_batches(batch, columns=list(forms)):
                for row in page.to_pylist():
                    yield dict.fromkeys(absent) | _unpacked(row, forms)
    except (OSError, OverflowError, UnicodeDecodeError, pa.ArrowException) as error:
        raise FolderError(
            f"{path.name} cannot be read as Parquet: copy the folder again, or export again"
        ) from error


def _check_table(name: str, file: Any, schema: pa.Schema) -> None:
    """Raise FolderError unless an open table has the columns of an export, and sizes to read."""
    for column in schema:
        if column.name not in file.schema_arrow.names:
            raise FolderError(f"{name} has no column {column.name}: it is not a ucurve export")
        if not file.schema_arrow.field(column.name).type.equals(column.type):
            raise FolderError(
                f"{name}: the column {column.name} is not of type {column.type}: "
                "it is not a ucurve export"
            )
    groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
    if any(group.total_byte_size > MAX_GROUP_BYTES for group in groups):
        raise FolderError(
            f"{name} has parts of more than {MAX_GROUP_BYTES // 2**30} GiB: it is not a ucurve "
            "export"
        )


def open_inside(folder: Path, name: str) -> BinaryIO:
    """Open a regular file of a folder. Raises FolderError where a link leads out of it."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise FolderError(f"{name} is a link that leads out of the folder")
        return open_regular(path)
    except (LocationError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise FolderError(f"{name} is not a regular file") from error


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest after checking every table against it. Raises FolderError."""
    try:
        with open_inside(folder, "manifest.json") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        manifest = Manifest.model_validate_json(content[:MAX_MANIFEST_BYTES])
    except OSError as error:
        raise FolderError(
            f"{folder} has no manifest.json: use a folder written by `ucurve export`"
        ) from error
    except ValidationError as error:
        raise FolderError(
            f"{folder}/manifest.json is not a ucurve manifest: export again"
        ) from error
    if not 1 <= manifest.format <= FORMAT:
        raise FolderError(
            f"the export has format {manifest.format}, this ucurve reads up to {FORMAT}: "
            "install a newer version"
        )
    for name in TABLES:
        _check_file(folder, f"{name}.parquet", manifest)
    return manifest


def _check_file(folder: Path, name: str, manifest: Manifest) -> None:
    try:
        if name not in manifest.files:
            raise FileNotFoundError
        with open_inside(folder, name) as file:
            sha256 = stream_sha256(file)
    except OSError as error:
        raise FolderError(f"{name} is missing: copy the folder again, or export again") from error
    if sha256 != manifest.files[name].sha256:
        raise FolderError(
            f"{name} does not match manifest.json (SHA-256): copy the folder again, or export again"
        )


def as_json(text: str | None) -> Any:
    """Decode a JSON column. Raises FolderError."""
    try:
        return None if text is None else json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise FolderError("a column holds JSON that is nested too deeply") from error
    except ValueError as error:
        raise FolderError(f"a column does not hold JSON ({error})") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _schema(forms: Mapping[str, Form]) -> pa.Schema:
    import pyarrow as pa

    types: dict[Form, pa.DataType] = {
        "text": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "texts": pa.list_(pa.string()),
        "words": pa.map_(pa.string(), pa.string()),
        "numbers": pa.map_(pa.string(), pa.float64()),
        "series": pa.map_(pa.string(), pa.list_(pa.float64())),
    }
    return pa.schema([(column, types[form]) for column, form in forms.items()])


def _as_float(value: float | None) -> float | None:
    # Rows of earlier releases have large floats as integers, which Parquet would refuse.
    return None if value is None else float(value)


MAPS: dict[str, Callable[[Any], Any]] = {
    "words": lambda word: word,
    "numbers": _as_float,
    "series": lambda values: [_as_float(value) for value in values],
}


def _packed(row: Row, columns: dict[str, Form]) -> Row:
    packed = {name: row[name] for name in columns}
    for name, form in columns.items():
        if packed[name] is not None and form == "time":
            packed[name] = datetime.fromisoformat(packed[name])
        elif form in MAPS:
            packed[name] = [(key, MAPS[form](value)) for key, value in (packed[name] or {}).items()]
    return packed


def _unpacked(row: Row, columns: dict[str, Form]) -> Row:
    for name, form in columns.items():
        if row[name] is not None and form == "time":
            row[name] = row[name].isoformat()
        elif form in MAPS:
            row[name] = dict(row[name] or [])
    return row
