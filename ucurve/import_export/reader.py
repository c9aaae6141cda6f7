"""Import of an export: validated as a whole, then sent in idempotent batches.

    summary = import_folder(client, Path("their-export"), progress)

The order is suites, measurements with their attempts, experiments: what an interrupted import
leaves behind is consistent, and the next import continues from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucurve.client.http import RequestRejectedError
from ucurve.import_export.parquet import (
    FolderError,
    Manifest,
    ProgressCallback,
    Row,
    as_json,
    read_manifest,
    read_table,
)
from ucurve.schemas.import_export import (
    BATCH,
    ImportedAttempt,
    ImportedMeasurement,
    ImportMeasurementsResult,
    ValueConflict,
)
from ucurve.spec import canonical

if TYPE_CHECKING:
    from ucurve.client import Client

MAX_SERIES_VALUES = 200_000  # per batch: attempts carry a loss per window, many megabytes in all
MAX_CONFLICTS = 20


@dataclass
class Summary:
    """What an import changed, and how far measurements of both labs agree."""

    new: int = 0
    completed: int = 0
    gained: int = 0
    existing: int = 0
    num_compared: int = 0
    num_equal: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    differing: list[ValueConflict] = field(default_factory=list)
    experiments: dict[int, int] = field(default_factory=dict)  # new: id there -> id here
    existing_experiments: dict[int, int] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.new or self.completed or self.gained or self.experiments or self.added)

    def add(self, merged: ImportMeasurementsResult) -> None:
        """Add the result of one batch."""
        self.existing += merged.known
        for name in ("new", "completed", "gained", "num_compared", "num_equal"):
            setattr(self, name, getattr(self, name) + getattr(merged, name))
        for metric, difference in merged.largest.items():
            self.largest[metric] = max(difference, self.largest.get(metric, 0.0))
        conflicts = [*self.differing, *merged.differing]
        self.differing = sorted(conflicts, key=_conflict_size, reverse=True)[:MAX_CONFLICTS]


def _conflict_size(conflict: ValueConflict) -> float:
    return float("inf") if conflict.difference is None else conflict.difference


def import_folder(client: Client, folder: Path, progress: ProgressCallback) -> Summary:
    """Merge an export into the lab.

    progress: called with (table, done, total). Raises FolderError naming file and row; the import
    may then be repeated.
    """
    manifest = read_manifest(folder)
    _check_identities(folder, manifest, progress)
    summary = Summary()
    _catalogue(client, folder, manifest, summary)
    _measurements(client, folder, manifest, summary, progress)
    _experiments(client, folder, manifest, summary, progress)
    return summary


def _check_identities(folder: Path, manifest: Manifest, progress: ProgressCallback) -> None:
    total = manifest.files["measurements.parquet"].rows or 0
    for number, row in enumerate(read_table(folder, "measurements"), 1):
        if sha256(canonical(as_json(row["inputs"])).encode()).hexdigest() != row["identity"]:
            raise FolderError(
                f"measurements.parquet, row {number}: the identity is not the SHA-256 of the "
                "inputs, so one of them was changed; nothing was imported"
            )
        if number % BATCH == 0 or number == total:
            progress("checked", number, total)


def _catalogue(client: Client, folder: Path, manifest: Manifest, summary: Summary) -> None:
    checkpoints: dict[str, list[Row]] = {}
    for row in read_table(folder, "checkpoints"):
        checkpoints.setdefault(row["suite"], []).append(
            {**row, "location": as_json(row["location"])}
        )
    suites = [
        {
            **_select(row, "name", "description", "evaluation", "recipe"),
            "checkpoints": checkpoints.get(row["name"], []),
        }
        for row in read_table(folder, "suites")
    ]
    described = ("name", "description", "kind", "sha256", "size_bytes", "unresolved")
    datasets = [
        {
            **_select(row, *described),
            "parameters": as_json(row["parameters"]),
            "location": as_json(row["location"]),
        }
        for row in read_table(folder, "datasets")
    ]
    curves = [
        {
            **_select(row, "name", "suite"),
            "origin": as_json(row["origin"]),
            "rows": as_json(row["rows"]),
        }
        for row in read_table(folder, "reference_curves")
    ]
    batch = {
        "origin": manifest.origin,
        "suites": suites,
        "datasets": datasets,
        "reference_curves": curves,
    }
    with _row_in_errors("suites, checkpoints, datasets or reference_curves"):
        merged = client.import_catalogue(batch)
    summary.added, summary.differ = merged.added, merged.differ


def _measurements(
    client: Client, folder: Path, manifest: Manifest, summary: Summary, progress: ProgressCallback
) -> None:
    total = manifest.files["measurements.parquet"].rows or 0
    attempts = _groups(read_table(folder, "attempts", 100), "measurement")
    rows = (_measurement(row, attempts(row["id"])) for row in read_table(folder, "measurements"))
    done = 0
    for batch in _batches(rows):
        with _row_in_errors("measurements.parquet", first=done + 1):
            summary.add(client.import_measurements(manifest.origin, batch))
        done += len(batch)
        progress("measurements", done, total)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Yield batches of at most BATCH rows, fewer where they carry long series."""
    batch: list[Row] = []
    num_values = 0
    for row in rows:
        batch.append(row)
        num_values += sum(
            len(values) for attempt in row["attempts"] for values in attempt["series"].values()
        )
        if len(batch) == BATCH or num_values > MAX_SERIES_VALUES:
            yield batch
            batch, num_values = [], 0
    if batch:
        yield batch


def _measurement(row: Row, attempts: list[Row]) -> Row:
    """Return a measurement with its attempts as the API expects it."""
    json_columns = ("inputs", "source", "labels")
    columns = ImportedMeasurement.model_fields.keys() - {*json_columns, "attempts"}
    attempt_columns = ImportedAttempt.model_fields.keys() - {"shown"}
    return {
        **_select(row, *columns),
        **{name: as_json(row[name]) for name in json_columns},
        "attempts": [
            {**_select(attempt, *attempt_columns), "shown": attempt["id"] == row["attempt"]}
            for attempt in attempts
        ],
    }


def _experiments(
    client: Client, folder: Path, manifest: Manifest, summary: Summary, progress: ProgressCallback
) -> None:
    total = manifest.files["experiments.parquet"].rows or 0
    points = _groups(read_table(folder, "points"), "experiment")
    columns = ("id", "name", "kind", "owner", "tags", "notes", "priority", "archived")
    times = ("created_at", "started_at", "finished_at")
    for number, row in enumerate(read_table(folder, "experiments"), 1):
        ordered = sorted(points(row["id"]), key=lambda point: point["position"])
        batch = {
            "origin": manifest.origin,
            **_select(row, *columns, *times),
            "spec": as_json(row["spec"]),
            "points": [
                {
                    **_select(point, "identity", "repeat", "stage"),
                    "labels": as_json(point["labels"]),
                }
                for point in ordered
            ],
        }
        with _row_in_errors(f"experiments.parquet, row {number}"):
            merged = client.import_experiment(batch)
        ids = summary.experiments if merged.new else summary.existing_experiments
        ids[row["id"]] = merged.id
        progress("experiments", number, total)


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


@contextmanager
def _row_in_errors(where: str, first: int | None = None) -> Iterator[None]:
    """Turn a rejected request into a FolderError that names the file, and the row if known."""
    try:
        yield
    except RequestRejectedError as error:
        if error.status != 422:
            raise
        problem = error.problem.errors[0] if error.problem.errors else None
        row = re.match(r"/measurements/(\d+)", problem.pointer) if problem else None
        place = f"{where}, row {first + int(row[1])}" if row and first is not None else where
        raise FolderError(f"{place}: {problem.detail if problem else error}") from error
