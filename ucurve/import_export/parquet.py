"""The files of an export: one Parquet file per table and a manifest, written and read without holding a table in memory.

    DIR/manifest.json             format, version and code hash of who wrote it, origin, filters, rows and SHA-256 of every file
    DIR/experiments.parquet       a row per experiment: name, kind, owner, spec, state, counts, dates
    DIR/points.parquet            which measurements an experiment points at, with its labels and order
    DIR/measurements.parquet      identity (SHA-256 of `inputs`), repeat, inputs, labels, state, metrics, nonfinite
    DIR/attempts.parquet          every try: worker, device, versions, times, outcome, metrics, series, traceback, log
    DIR/{suites,checkpoints,datasets,reference_curves}.parquet
    DIR/index.html, DIR/site/     the same as pages that need no network

Columns of open structure (spec, inputs, source, labels, location, parameters, origin, rows) are JSON texts. A metric that is not
finite is null, and `nonfinite` says which it is: pos_inf, neg_inf, nan. `attempt` is the one whose metrics are shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from ucurve.registry.artifacts import file_sha256
from ucurve.schemas.import_export import FORMAT

if TYPE_CHECKING:
    import pyarrow as pa

Form = Literal["text", "int", "float", "bool", "time", "texts", "words", "numbers", "series"]
Row = dict[str, Any]

_PLANNED: dict[str, Form] = {
    "group_key": "text",
    "seconds": "float",
    "requires_device": "text",
    "requires_memory_gb": "float",
}
_NUMBERS: dict[str, Form] = {"metrics": "numbers", "nonfinite": "words"}
TABLES: dict[str, dict[str, Form]] = {
    "experiments": {
        **dict.fromkeys(("id",), "int"), **dict.fromkeys(("name", "kind", "owner"), "text"), "tags": "texts", "notes": "text",
        "priority": "int", "spec": "text", "state": "text", "archived": "bool",
        **dict.fromkeys(("num_points", "num_done", "num_failed"), "int"),
        **dict.fromkeys(("created_at", "started_at", "finished_at"), "time"),
    },
    "points": {
        "experiment": "int", "measurement": "int", "identity": "text", "repeat": "int", "position": "int", "stage": "int",
        "labels": "text", "reused": "bool",
    },
    "measurements": {
        "id": "int", "identity": "text", "repeat": "int", **dict.fromkeys(("kind", "inputs", "source", "labels"), "text"),
        **_PLANNED, "state": "text", **_NUMBERS, "error": "text", "attempt": "int", "finished_at": "time",
    },
    "attempts": {
        "id": "int", "measurement": "int", "worker": "text", "device": "text", "versions": "words", "outcome": "text",
        "started_at": "time", "finished_at": "time", **_NUMBERS, "series": "series",
        "traceback": "text", "log": "text", "origin": "text",
    },
    "suites": {**dict.fromkeys(("name", "description", "evaluation", "recipe", "owner"), "text"), "created_at": "time"},
    "checkpoints": {
        **dict.fromkeys(("suite", "revision", "location"), "text"), "step": "int", "tokens": "int", "replicate": "int",
        "phase": "text", "num_parameters": "int", "context": "int",
        **dict.fromkeys(("weights_sha256", "config_sha256", "tokenizer_sha256"), "text"), "size_bytes": "int", "unresolved": "text",
    },
    "datasets": {
        **dict.fromkeys(("name", "description", "kind", "parameters", "location", "sha256"), "text"), "size_bytes": "int",
        "unresolved": "text", "owner": "text", "created_at": "time",
    },
    "reference_curves": {**dict.fromkeys(("name", "suite", "origin", "rows", "owner"), "text"), "created_at": "time"},
}  # fmt: skip


class FolderError(ValueError):
    """A folder that cannot be written or read as an export; says why and what to do."""


class File(BaseModel):
    sha256: str
    rows: int | None = None  # of a table


class Manifest(BaseModel):
    """What an export is and what belongs to it."""

    format: int = FORMAT
    version: str
    code: str
    origin: str  # what the lab is called
    made_at: datetime
    filters: dict[str, Any] = {}
    files: dict[str, File] = {}


def write_table(folder: Path, name: str, pages: Iterable[list[Row]]) -> File:
    """One Parquet file from the pages of a table, and its hash."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, schema, num_rows = folder / f"{name}.parquet", _schema(name), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for page in pages:
            rows = [_packed(row, TABLES[name]) for row in page]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            num_rows += len(rows)
    return File(sha256=file_sha256(path), rows=num_rows)


def read_table(folder: Path, name: str, batch: int = 500) -> Iterator[Row]:
    """The rows of a table as they were written. Raises FolderError where the file has not this table's columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{name}.parquet"
    try:
        with pq.ParquetFile(path) as file:
            if missing := TABLES[name].keys() - set(file.schema_arrow.names):
                raise FolderError(
                    f"{path.name} has no column {min(missing)}: it is no export of ucurve"
                )
            for found in file.iter_batches(batch, columns=list(TABLES[name])):
                yield from (_unpacked(row, TABLES[name]) for row in found.to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise FolderError(
            f"{path.name} cannot be read as Parquet: copy the folder again, or export again"
        ) from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export whose tables are what it says. Raises FolderError."""
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except OSError as error:
        raise FolderError(
            f"{folder} holds no manifest.json: name the folder that `ucurve export` has written"
        ) from error
    except ValidationError as error:
        raise FolderError(
            f"{folder}/manifest.json is not a manifest of ucurve: export again"
        ) from error
    if manifest.format > FORMAT:
        raise FolderError(
            f"this export has format {manifest.format}; this ucurve reads up to {FORMAT}: install a newer one"
        )
    for name in TABLES:
        file = f"{name}.parquet"
        if file not in manifest.files or not (folder / file).is_file():
            raise FolderError(f"{file} is missing: copy the folder again, or export again")
        if file_sha256(folder / file) != manifest.files[file].sha256:
            raise FolderError(
                f"{file} is not the file that manifest.json speaks of (SHA-256): copy the folder again, or export again"
            )
    return manifest


def as_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _schema(name: str) -> pa.Schema:
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
    return pa.schema([(column, types[form]) for column, form in TABLES[name].items()])


MAPS = ("words", "numbers", "series")


def _packed(row: Row, columns: dict[str, Form]) -> Row:
    packed = {name: row[name] for name in columns}
    for name, form in columns.items():
        if packed[name] is not None and form == "time":
            packed[name] = datetime.fromisoformat(packed[name])
        elif form in MAPS:
            packed[name] = list((packed[name] or {}).items())
    return packed


def _unpacked(row: Row, columns: dict[str, Form]) -> Row:
    for name, form in columns.items():
        if row[name] is not None and form == "time":
            row[name] = row[name].isoformat()
        elif form in MAPS:
            row[name] = dict(row[name] or [])
    return row
