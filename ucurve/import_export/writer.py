"""Writing an export to a temporary folder that is then renamed: it is complete or absent."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucurve import __version__, code_version
from ucurve.import_export.parquet import (
    TABLES,
    File,
    FolderError,
    Manifest,
    ProgressCallback,
    Row,
    write_table,
)
from ucurve.registry.artifacts import file_sha256

if TYPE_CHECKING:
    from ucurve.client import Client


def export(
    client: Client,
    folder: Path,
    filters: dict[str, Any],
    origin: str,
    progress: ProgressCallback,
    *,
    site: bool,
    force: bool,
    licence: str | None = None,
) -> Manifest:
    """Write the lab's tables, and pages if `site`, to `folder`.

    origin: name of the lab. force: replace an existing export. licence: also write a dataset card
    and flat tables under this licence. Raises FolderError if the folder exists or
    cannot be written.
    """
    folder = folder.expanduser().absolute()
    _check_target(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial, lock = _temporary_folder(folder)
        try:
            manifest = Manifest(
                version=__version__,
                code=code_version(),
                origin=origin,
                made_at=datetime.now(UTC),
                filters=filters,
            )
            ids = _write_tables(client, partial, filters, manifest, progress)
            if site:
                from ucurve.import_export.site import write_site

                write_site(client, partial, ids, manifest, progress)
            if licence:
                from ucurve.import_export.dataset_card import write_dataset

                write_dataset(client, partial, ids, manifest, licence, progress)
            _list_files(partial, manifest)
            (partial / "manifest.json").write_text(
                manifest.model_dump_json(indent=1), encoding="utf-8"
            )
            _move_into_place(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)
    except OSError as error:
        raise FolderError(f"cannot write {folder}: {error.strerror}; use another folder") from error
    return manifest


def _list_files(partial: Path, manifest: Manifest) -> None:
    """Add the hashes of the files that are no table of the export."""
    for path in sorted(path for path in partial.rglob("*") if path.is_file()):
        if (name := str(path.relative_to(partial))) not in manifest.files:
            manifest.files[name] = File(sha256=file_sha256(path))


def _temporary_folder(folder: Path) -> tuple[Path, int]:
    """Create an empty, locked folder next to the target; files of a killed export are removed.

    Returns the folder and the file descriptor that holds the lock.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise FolderError(
            f"another export is being written to {folder}: wait for it, or use another folder"
        ) from None
    for leftover in partial.iterdir():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return partial, lock


def _check_target(folder: Path, force: bool) -> None:
    """Allow a new or empty folder, and with `force` an existing export. Raises FolderError."""
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "manifest.json").is_file():
        raise FolderError(f"{folder} exists and is not an export: use another folder")
    if not force:
        raise FolderError(
            f"{folder} already contains an export: use another folder, or replace it with --force"
        )


def _write_tables(
    client: Client,
    partial: Path,
    filters: dict[str, Any],
    manifest: Manifest,
    progress: ProgressCallback,
) -> list[int]:
    """Write all tables, referring rows before the rows they refer to; return the experiment ids."""
    sizes = client.export_sizes(**filters).tables
    ids: list[int] = []
    for name in TABLES:
        pages = client.export_pages(name, **filters)
        if name == "points":  # without experiments that were submitted after their table was read
            exported = set(ids)
            pages = ([row for row in page if row["experiment"] in exported] for page in pages)
        if name == "suites":
            pages = _with_remarks(pages, client)
        reported = _report_progress(pages, name, sizes[name], progress)
        if name == "experiments":
            reported = _collect_ids(reported, ids)
        manifest.files[f"{name}.parquet"] = write_table(partial, name, reported)
    return ids


def _with_remarks(pages: Iterator[list[Row]], client: Client) -> Iterator[list[Row]]:
    """Add what the weights of each suite say against its names."""
    remarks = {suite.name: [r.message for r in suite.remarks] for suite in client.suites()}
    for page in pages:
        yield [{**row, "remarks": remarks.get(row["name"], [])} for row in page]


def _report_progress(
    pages: Iterator[list[Row]], name: str, total: int, progress: ProgressCallback
) -> Iterator[list[Row]]:
    done = 0
    for page in pages:
        yield page
        done += len(page)
        progress(name, done, max(done, total))


def _collect_ids(pages: Iterator[list[Row]], ids: list[int]) -> Iterator[list[Row]]:
    for page in pages:
        ids += [row["id"] for row in page]
        yield page


def _move_into_place(partial: Path, folder: Path) -> None:
    """Rename the finished folder to its target, replacing an existing export."""
    partial.chmod(0o755)
    for path in partial.rglob("*.parquet"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if folder.is_dir() and any(folder.iterdir()):
        away = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
        folder.rename(away)
        try:
            partial.rename(folder)
        except OSError:
            away.rename(folder)
            raise
        shutil.rmtree(away)
    else:
        partial.rename(folder)
