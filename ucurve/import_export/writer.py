"""Writing an export: all of it under a temporary name beside the place, then renamed, so that a folder is whole or absent."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucurve import __version__, code_version
from ucurve.import_export.parquet import (
    TABLES,
    File,
    FolderError,
    Manifest,
    Row,
    write_table,
)
from ucurve.registry.artifacts import file_sha256

if TYPE_CHECKING:
    from ucurve.client import Client

Told = Callable[[str, int, int], None]  # what is written, how much of it is, how much there is


def export(
    client: Client,
    folder: Path,
    filters: dict[str, Any],
    origin: str,
    tell: Told,
    *,
    site: bool,
    force: bool,
) -> Manifest:
    """Write the lab's tables, and its pages, into `folder`. Raises FolderError where that place is taken."""
    folder = folder.expanduser().absolute()
    _check_place(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial, held = _begun(folder)
        try:
            manifest = Manifest(
                version=__version__,
                code=code_version(),
                origin=origin,
                made_at=datetime.now(UTC),
                filters=filters,
            )
            ids = _write_tables(client, partial, filters, manifest, tell)
            if site:
                from ucurve.import_export.site import write_site

                write_site(client, partial, ids, manifest, tell)
                for path in sorted(
                    path
                    for path in partial.rglob("*")
                    if path.is_file() and path.suffix != ".parquet"
                ):
                    manifest.files[str(path.relative_to(partial))] = File(sha256=file_sha256(path))
            (partial / "manifest.json").write_text(
                manifest.model_dump_json(indent=1), encoding="utf-8"
            )
            _put(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(held)
    except OSError as error:
        raise FolderError(
            f"cannot write {folder}: {error.strerror}; choose another place"
        ) from error
    return manifest


def _begun(folder: Path) -> tuple[Path, int]:
    """An empty folder beside the place, locked for as long as we live: what a killed export left there is thrown away."""
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(mode=0o700, exist_ok=True)
    held = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise FolderError(
            f"another export is being written to {folder}: wait for it, or choose another place"
        ) from None
    for left in partial.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return partial, held


def _check_place(folder: Path, force: bool) -> None:
    """An empty folder may be filled; an export replaced on demand; anything else is left alone."""
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "manifest.json").is_file():
        raise FolderError(f"{folder} exists and is no export: choose another place")
    if not force:
        raise FolderError(
            f"{folder} holds an export already: choose another place, or replace it with --force"
        )


def _write_tables(
    client: Client, partial: Path, filters: dict[str, Any], manifest: Manifest, tell: Told
) -> list[int]:
    """All tables, in the order in which what a row refers to comes later; the experiments' numbers."""
    sizes = client.export_sizes(**filters).tables
    ids: list[int] = []
    for name in TABLES:
        pages = client.export_pages(name, **filters)
        if name == "points":  # an experiment submitted after its table was read is left out whole
            known = set(ids)
            pages = ([row for row in page if row["experiment"] in known] for page in pages)
        counted = _counted(pages, name, sizes[name], tell)
        if name == "experiments":
            counted = _noting(counted, ids)
        manifest.files[f"{name}.parquet"] = write_table(partial, name, counted)
    return ids


def _counted(pages: Iterator[list[Row]], name: str, total: int, tell: Told) -> Iterator[list[Row]]:
    done = 0
    for page in pages:
        yield page
        done += len(page)
        tell(name, done, max(done, total))


def _noting(pages: Iterator[list[Row]], ids: list[int]) -> Iterator[list[Row]]:
    for page in pages:
        ids += [row["id"] for row in page]
        yield page


def _put(partial: Path, folder: Path) -> None:
    """Move the finished folder to its place, and what was there away."""
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
