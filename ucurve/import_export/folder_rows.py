"""The rows of an exported folder as a lab takes them; all are checked before any is sent.

check_folder(folder, manifest)                 raises FolderError naming file and row
catalogue_of(folder, manifest)                 suites, datasets and reference curves
measurements_of(folder)                        with their attempts
experiments_of(folder, manifest)               with their points
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ucurve.import_export.parquet import FolderError, Manifest, Row, as_json, read_table
from ucurve.schemas.import_export import (
    ImportedAttempt,
    ImportedCatalogue,
    ImportedExperiment,
    ImportedMeasurement,
)
from ucurve.spec import canonical


def check_folder(folder: Path, manifest: Manifest) -> None:
    """Check every row and what it refers to. Raises FolderError naming file and row."""
    parts = "suites, checkpoints, datasets or reference_curves"
    _valid(ImportedCatalogue, catalogue_of(folder, manifest), parts)
    measured = _check_measurements(folder, manifest)
    _check_references(folder, measured)
    for number, row in enumerate(experiments_of(folder, manifest), 1):
        where = f"experiments.parquet, row {number}"
        _valid(ImportedExperiment, row, where)
        for point in row["points"]:
            if (point["identity"], point["repeat"]) not in measured:
                raise FolderError(
                    f"{where}: its measurement {point['identity'][:12]} is not in "
                    "measurements.parquet; nothing was imported"
                )


def _check_measurements(folder: Path, manifest: Manifest) -> dict[tuple[str, int], int]:
    """Return the row number of every measurement in the folder, by identity and repeat."""
    numbers: dict[tuple[str, int], int] = {}
    last = None
    for number, row in enumerate(read_table(folder, "measurements"), 1):
        where = f"measurements.parquet, row {number}"
        with_inputs = _decoded(row, ("inputs",), where)
        if sha256(canonical(with_inputs["inputs"]).encode()).hexdigest() != row["identity"]:
            raise FolderError(
                f"{where}: the identity is not the SHA-256 of the inputs, so one of them was "
                "changed; nothing was imported"
            )
        if last is not None and (row["id"] is None or row["id"] <= last):
            raise FolderError(f"{where}: its id is not larger than that of the row before")
        last = row["id"]
        key = (row["identity"], row["repeat"])
        if key in numbers:
            raise FolderError(f"{where}: the same measurement as row {numbers[key]}")
        numbers[key] = number
    if len(numbers) != (manifest.files["measurements.parquet"].rows or 0):
        raise FolderError("measurements.parquet has other rows than manifest.json says")
    for number, row in enumerate(measurements_of(folder), 1):
        _valid(ImportedMeasurement, row, f"measurements.parquet, row {number}")
        starts = [(attempt["worker"], attempt["started_at"]) for attempt in row["attempts"]]
        if len(set(starts)) < len(starts):
            raise FolderError(f"measurements.parquet, row {number}: an attempt is listed twice")
    return numbers


def _check_references(folder: Path, measured: dict[tuple[str, int], int]) -> None:
    """Check that attempts and points are in order and belong to rows that exist."""
    ids = {row["id"] for row in read_table(folder, "measurements")}
    assert len(ids) == len(measured), "ids of measurements ascend"
    _check_column(folder, "attempts", "measurement", ids, "measurements.parquet")
    experiments = [row["id"] for row in read_table(folder, "experiments")]
    if experiments != sorted(set(experiments)):
        raise FolderError("experiments.parquet: the ids do not ascend")
    _check_column(folder, "points", "experiment", set(experiments), "experiments.parquet")


def _check_column(folder: Path, table: str, column: str, ids: set[Any], of: str) -> None:
    last = 0
    for number, row in enumerate(read_table(folder, table, 100), 1):
        value = row[column]
        if value not in ids:
            raise FolderError(f"{table}.parquet, row {number}: no row of {of} has the id {value}")
        if value < last:
            raise FolderError(f"{table}.parquet, row {number}: out of order")
        last = value


def _valid(model: type[BaseModel], row: Any, where: str) -> None:
    try:
        model.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise FolderError(
            f"{where}: {f'{field}: ' if field else ''}{reason}; nothing was imported"
        ) from error
    except RecursionError as error:
        raise FolderError(f"{where}: nested too deeply; nothing was imported") from error


def _decoded(row: Row, columns: tuple[str, ...], where: str) -> Row:
    """Return a row with its JSON columns decoded."""
    try:
        return {**row, **{name: as_json(row[name]) for name in columns}}
    except FolderError as error:
        raise FolderError(f"{where}: {error}; nothing was imported") from error


def catalogue_of(folder: Path, manifest: Manifest) -> Row:
    """Return suites with their checkpoints, datasets and reference curves."""
    checkpoints: dict[str, list[Row]] = {}
    for row in _table(folder, "checkpoints", "location"):
        checkpoints.setdefault(row["suite"], []).append(row)
    suites = [
        {
            **_select(row, "name", "description", "evaluation", "recipe"),
            "checkpoints": checkpoints.get(row["name"], []),
        }
        for row in _table(folder, "suites")
    ]
    described = ("name", "description", "kind", "sha256", "size_bytes", "unresolved")
    datasets = [
        _select(row, *described, "parameters", "location")
        for row in _table(folder, "datasets", "parameters", "location")
    ]
    curves = [
        _select(row, "name", "suite", "origin", "rows")
        for row in _table(folder, "reference_curves", "origin", "rows")
    ]
    return {
        "origin": manifest.origin,
        "suites": suites,
        "datasets": datasets,
        "reference_curves": curves,
    }


def measurements_of(folder: Path) -> Iterator[Row]:
    """Yield the measurements with their attempts as the API expects them."""
    attempts = _groups(read_table(folder, "attempts", 100), "measurement")
    columns = ImportedMeasurement.model_fields.keys() - {"attempts"}
    attempt_columns = ImportedAttempt.model_fields.keys() - {"shown"}
    for row in _table(folder, "measurements", "inputs", "source", "labels"):
        yield {
            **_select(row, *columns),
            "attempts": [
                {**_select(attempt, *attempt_columns), "shown": attempt["id"] == row["attempt"]}
                for attempt in attempts(row["id"])
            ],
        }


def experiments_of(folder: Path, manifest: Manifest) -> Iterator[Row]:
    """Yield the experiments with their points as the API expects them."""
    points = _groups(_table(folder, "points", "labels"), "experiment")
    columns = ("id", "name", "kind", "owner", "tags", "notes", "priority", "archived", "spec")
    times = ("created_at", "started_at", "finished_at")
    for row in _table(folder, "experiments", "spec"):
        ordered = sorted(points(row["id"]), key=lambda point: point["position"] or 0)
        yield {
            "origin": manifest.origin,
            **_select(row, *columns, *times),
            "points": [_select(p, "identity", "repeat", "stage", "labels") for p in ordered],
        }


def _table(folder: Path, name: str, *columns: str) -> Iterator[Row]:
    """Yield the rows of a table with these JSON columns decoded."""
    for number, row in enumerate(read_table(folder, name), 1):
        yield _decoded(row, columns, f"{name}.parquet, row {number}")


def _groups(rows: Iterator[Row], key: str) -> Callable[[int], list[Row]]:
    """Return a function from a key to its rows, to be called with ascending keys."""
    waiting: list[Row] = []

    def rows_of(id: int) -> list[Row]:
        group = [row for row in waiting if row[key] == id]
        beyond = [row for row in waiting if row[key] > id]
        waiting.clear()
        waiting.extend(beyond)
        if not beyond:
            for row in rows:
                if row[key] > id:
                    waiting.append(row)
                    break
                if row[key] == id:
                    group.append(row)
        return group

    return rows_of


def _select(row: Row, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}
