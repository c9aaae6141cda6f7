"""Import of an export: validated as a whole, then sent in idempotent batches.

    summary = import_folder(client, Path("their-export"), progress)

The order is suites, measurements with their attempts, experiments: what an interrupted import
leaves behind is consistent, and the next import continues from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ucurve.client.http import RequestRejectedError
from ucurve.import_export.folder_rows import (
    catalogue_of,
    check_folder,
    experiments_of,
    measurements_of,
)
from ucurve.import_export.parquet import (
    FolderError,
    Manifest,
    ProgressCallback,
    Row,
    read_manifest,
)
from ucurve.schemas.import_export import BATCH, ImportMeasurementsResult, ValueConflict

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
    warnings: list[str] = field(default_factory=list)

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

    progress: called with (table, done, total). Everything is checked, here and by the lab, before
    any of it is stored. Raises FolderError naming file and row.
    """
    manifest = read_manifest(folder)
    check_folder(folder, manifest)
    checked = Summary()
    _catalogue(client, folder, manifest, checked, check=True)
    _measurements(client, folder, manifest, checked, progress, check=True)
    summary = Summary()
    _catalogue(client, folder, manifest, summary)
    _measurements(client, folder, manifest, summary, progress)
    _experiments(client, folder, manifest, summary, progress)
    return summary


def _catalogue(
    client: Client, folder: Path, manifest: Manifest, summary: Summary, check: bool = False
) -> None:
    with _row_in_errors("suites, checkpoints, datasets or reference_curves"):
        merged = client.import_catalogue(catalogue_of(folder, manifest), check)
    summary.added, summary.differ = merged.added, merged.differ
    summary.warnings = merged.warnings


def _measurements(
    client: Client,
    folder: Path,
    manifest: Manifest,
    summary: Summary,
    progress: ProgressCallback,
    check: bool = False,
) -> None:
    total, done = manifest.files["measurements.parquet"].rows or 0, 0
    for batch in _batches(measurements_of(folder)):
        with _row_in_errors("measurements.parquet", first=done + 1):
            summary.add(client.import_measurements(manifest.origin, batch, check))
        done += len(batch)
        progress("checked" if check else "measurements", done, total)


def _experiments(
    client: Client, folder: Path, manifest: Manifest, summary: Summary, progress: ProgressCallback
) -> None:
    total = manifest.files["experiments.parquet"].rows or 0
    for number, batch in enumerate(experiments_of(folder, manifest), 1):
        with _row_in_errors(f"experiments.parquet, row {number}"):
            merged = client.import_experiment(batch)
        ids = summary.experiments if merged.new else summary.existing_experiments
        ids[batch["id"]] = merged.id
        progress("experiments", number, total)


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
