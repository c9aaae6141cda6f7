"""Datasets on the Hugging Face hub, rebuilt from their Parquet rows and verified by hash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ucurve.registry.artifacts import Progress, bytes_sha256, no_progress, write_atomically
from ucurve.registry.datasets.example_files import SPLITS
from ucurve.registry.hub import commit_of, fetch_all, remote_files
from ucurve.registry.hub_cache import HubError, repository_folder
from ucurve.registry.suites import Dataset, combined_sha256


def text_file(dataset: Dataset, artefacts: Path, progress: Progress = no_progress) -> Path:
    """Return the text of a hub dataset as one file, equal to the raw file byte for byte. Raises
    HubError.

    WikiText's rows are the lines of the raw file, except that the hub stores a line " \\n" as an
    empty row.
    """
    target = artefacts / "texts" / f"{_folder_name(dataset)}.txt"
    if target.is_file():
        return target
    table = _table(dataset, str(dataset.parameters["rows"]), artefacts, progress)
    content = join_rows(_column(table, "text")).encode()
    _verify(dataset, bytes_sha256(content))
    write_atomically(target, content)
    return target


def example_files(
    dataset: Dataset, artefacts: Path, progress: Progress = no_progress
) -> dict[str, Path]:
    """Return the TSV files of a hub dataset of examples by split. Raises HubError."""
    folder = artefacts / "texts" / _folder_name(dataset)
    targets = {split: folder / f"{split}.tsv" for split in SPLITS}
    if not all(target.is_file() for target in targets.values()):
        tables = {
            split: _table(dataset, str(dataset.parameters[split]), artefacts, progress)
            for split in SPLITS
        }
        contents = {split: _tsv(table, dataset) for split, table in tables.items()}
        hashes = {split: bytes_sha256(content) for split, content in contents.items()}
        _verify(dataset, combined_sha256(hashes))
        for split, target in targets.items():
            write_atomically(target, contents[split])
    return targets


def cached_files(dataset: Dataset, artefacts: Path) -> list[Path]:
    """Return the files of a hub dataset that were rebuilt here before; empty where none is."""
    name = artefacts / "texts" / _folder_name(dataset)
    files = [name.with_name(f"{name.name}.txt")]
    if dataset.kind == "examples":
        files = [name / f"{split}.tsv" for split in SPLITS]
    return files if all(file.is_file() for file in files) else []


def join_rows(rows: Sequence[str]) -> str:
    """Return the raw text of WikiText from its rows on the hub."""
    return "".join(row or " \n" for row in rows)


def _folder_name(dataset: Dataset) -> str:
    return f"{dataset.name}-{(dataset.sha256 or 'unchecked')[:16]}"


def _verify(dataset: Dataset, sha256: str) -> None:
    if dataset.sha256 and sha256 != dataset.sha256:
        raise HubError(
            f"{dataset.name} rebuilt from the hub has sha256 {sha256[:12]}..., "
            f"expected {dataset.sha256[:12]}..."
        )


def _tsv(table: Path, dataset: Dataset) -> bytes:
    columns = str(dataset.parameters["columns"]).split(",")
    rows = zip(*(_column(table, column) for column in columns), strict=True)
    return "".join("\t".join(map(str, row)) + "\n" for row in [columns, *rows]).encode()


def _table(dataset: Dataset, name: str, artefacts: Path, progress: Progress) -> Path:
    """Return a Parquet file of a hub dataset, downloaded unless cached."""
    assert dataset.location, "a hub dataset has a location"
    repository, commit = dataset.location.path, commit_of(dataset.location)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise HubError(f"{name!r} is not the name of a file in {repository}")
    folder = repository_folder(artefacts / "hub", repository, "datasets")
    table = folder / "snapshots" / commit / name
    if not table.is_file():
        files = remote_files(repository, commit, "dataset")
        if name not in files:
            raise HubError(f"{repository}@{commit[:12]} has no file {name}")
        table = fetch_all([files[name]], folder, commit, progress)[0]
    return table


def _column(table: Path, name: str) -> list[Any]:
    from pyarrow import parquet

    column: list[Any] = parquet.read_table(table, columns=[name])[name].to_pylist()
    return column
