"""Reading an export into a lab: checked whole before anything is sent, then sent in batches that may be repeated.

    summary = import_folder(client, Path("their-export"), tell)

The order is suites, measurements with their attempts, experiments: whatever a broken-off import has left behind is complete in
itself, and the next one goes on over it.
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

Told = Callable[[str, int, int], None]
SERIES_VALUES = (
    200_000  # of one batch: attempts carry losses per window, and many of them are many megabytes
)


@dataclass
class Summary:
    """What an import changed, and where two labs measured the same."""

    new: int = 0
    completed: int = 0
    gained: int = 0
    known: int = 0
    num_compared: int = 0
    num_equal: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    differing: list[ValueConflict] = field(default_factory=list)
    experiments: dict[int, int] = field(
        default_factory=dict
    )  # number there -> number here, of the new ones
    known_experiments: dict[int, int] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.new or self.completed or self.gained or self.experiments or self.added)

    def add(self, merged: ImportMeasurementsResult) -> None:
        for name in ("new", "completed", "gained", "known", "num_compared", "num_equal"):
            setattr(self, name, getattr(self, name) + getattr(merged, name))
        for metric, difference in merged.largest.items():
            self.largest[metric] = max(difference, self.largest.get(metric, 0.0))
        found = [*self.differing, *merged.differing]
        self.differing = sorted(
            found, key=lambda one: -(float("inf") if one.difference is None else one.difference)
        )[:20]


def import_folder(client: Client, folder: Path, tell: Told) -> Summary:
    """Merge an export into the lab. Raises FolderError naming file and row; nothing was sent then, or all of it may be again."""
    manifest = read_manifest(folder)
    _check_identities(folder, manifest, tell)
    summary = Summary()
    _catalogue(client, folder, manifest, summary)
    _measurements(client, folder, manifest, summary, tell)
    _experiments(client, folder, manifest, summary, tell)
    return summary


def _check_identities(folder: Path, manifest: Manifest, tell: Told) -> None:
    total = manifest.files["measurements.parquet"].rows or 0
    for number, row in enumerate(read_table(folder, "measurements"), 1):
        if sha256(canonical(as_json(row["inputs"])).encode()).hexdigest() != row["identity"]:
            raise FolderError(
                f"measurements.parquet, row {number}: its identity is not the SHA-256 of its inputs, so one of both was changed; "
                "nothing was imported"
            )
        if number % BATCH == 0 or number == total:
            tell("checked", number, total)


def _catalogue(client: Client, folder: Path, manifest: Manifest, summary: Summary) -> None:
    checkpoints: dict[str, list[Row]] = {}
    for row in read_table(folder, "checkpoints"):
        checkpoints.setdefault(row["suite"], []).append(
            {**row, "location": as_json(row["location"])}
        )
    suites = [
        {
            **_picked(row, "name", "description", "evaluation", "recipe"),
            "checkpoints": checkpoints.get(row["name"], []),
        }
        for row in read_table(folder, "suites")
    ]
    described = ("name", "description", "kind", "sha256", "size_bytes", "unresolved")
    datasets = [
        {
            **_picked(row, *described),
            "parameters": as_json(row["parameters"]),
            "location": as_json(row["location"]),
        }
        for row in read_table(folder, "datasets")
    ]
    curves = [
        {
            **_picked(row, "name", "suite"),
            "origin": as_json(row["origin"]),
            "rows": as_json(row["rows"]),
        }
        for row in read_table(folder, "reference_curves")
    ]
    sent = {
        "origin": manifest.origin,
        "suites": suites,
        "datasets": datasets,
        "reference_curves": curves,
    }
    with _naming("suites, checkpoints, datasets or reference_curves"):
        merged = client.import_catalogue(sent)
    summary.added, summary.differ = merged.added, merged.differ


def _measurements(
    client: Client, folder: Path, manifest: Manifest, summary: Summary, tell: Told
) -> None:
    total = manifest.files["measurements.parquet"].rows or 0
    attempts = _groups(read_table(folder, "attempts", 100), "measurement")
    rows = (_measurement(row, attempts(row["id"])) for row in read_table(folder, "measurements"))
    done = 0
    for batch in _batches(rows):
        with _naming("measurements.parquet", first=done + 1):
            summary.add(client.import_measurements(manifest.origin, batch))
        done += len(batch)
        tell("measurements", done, total)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """At most BATCH rows, and fewer where they carry long series."""
    batch: list[Row] = []
    num_values = 0
    for row in rows:
        batch.append(row)
        num_values += sum(
            len(values) for one in row["attempts"] for values in one["series"].values()
        )
        if len(batch) == BATCH or num_values > SERIES_VALUES:
            yield batch
            batch, num_values = [], 0
    if batch:
        yield batch


def _measurement(row: Row, attempts: list[Row]) -> Row:
    sent = _picked(
        row, *(ImportedMeasurement.model_fields.keys() - {"inputs", "source", "labels", "attempts"})
    )
    tries = ImportedAttempt.model_fields.keys() - {"shown"}
    sent["attempts"] = [
        {**_picked(one, *tries), "shown": one["id"] == row["attempt"]} for one in attempts
    ]
    return {**sent, **{name: as_json(row[name]) for name in ("inputs", "source", "labels")}}


def _experiments(
    client: Client, folder: Path, manifest: Manifest, summary: Summary, tell: Told
) -> None:
    total = manifest.files["experiments.parquet"].rows or 0
    points = _groups(read_table(folder, "points"), "experiment")
    copied = (
        "id",
        "name",
        "kind",
        "owner",
        "tags",
        "notes",
        "priority",
        "archived",
        "created_at",
        "started_at",
        "finished_at",
    )
    for number, row in enumerate(read_table(folder, "experiments"), 1):
        mine = sorted(points(row["id"]), key=lambda point: point["position"])
        sent = {
            "origin": manifest.origin,
            **_picked(row, *copied),
            "spec": as_json(row["spec"]),
            "points": [
                {**_picked(one, "identity", "repeat", "stage"), "labels": as_json(one["labels"])}
                for one in mine
            ],
        }
        with _naming(f"experiments.parquet, row {number}"):
            merged = client.import_experiment(sent)
        (summary.experiments if merged.new else summary.known_experiments)[row["id"]] = merged.id
        tell("experiments", number, total)


def _groups(rows: Iterator[Row], key: str) -> Callable[[int], list[Row]]:
    """The rows of each key, asked for in ascending order of keys; both files are sorted by it."""
    waiting: list[Row] = []

    def of(wanted: int) -> list[Row]:
        found = [row for row in waiting if row[key] == wanted]
        beyond = [row for row in waiting if row[key] > wanted]
        waiting.clear()
        waiting.extend(beyond)
        if not beyond:
            for row in rows:
                if row[key] > wanted:
                    waiting.append(row)
                    break
                if row[key] == wanted:
                    found.append(row)
        return found

    return of


def _picked(row: Row, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


@contextmanager
def _naming(where: str, first: int | None = None) -> Iterator[None]:
    """Turn a refusal into one that names the file, and the row where the server said which of the batch."""
    try:
        yield
    except RequestRejectedError as error:
        if error.status != 422:
            raise
        problem = error.problem.errors[0] if error.problem.errors else None
        row = re.match(r"/measurements/(\d+)", problem.pointer) if problem else None
        place = f"{where}, row {first + int(row[1])}" if row and first is not None else where
        raise FolderError(f"{place}: {problem.detail if problem else error}") from error
