"""`ucurve backup`: one file with the database and the artefacts of a lab, while it runs.

The database is read in one snapshot. Artefacts never change once a row names them, so they are
copied after the snapshot is taken: all that its rows name is then on the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ucurve import __version__
from ucurve.formatting import file_size
from ucurve.lab import table_copy
from ucurve.lab.backup_file import (
    CHUNK,
    BackupFileError,
    BackupWriter,
    FileEntry,
    Manifest,
    Progress,
    TableEntry,
)
from ucurve.lab.installation import Installation, database_errors
from ucurve.registry.checkpoint_files import read_small
from ucurve.registry.roots import LocationError
from ucurve.registry.suites import combined_sha256
from ucurve.registry.tensors.stored_tensor import RegistrationError
from ucurve.registry.tensors.weights_layout import weights_layout

if TYPE_CHECKING:
    from ucurve.lab.table_copy import Session

Artefacts = Literal["all", "suites", "none"]
# What a lab downloads or computes again when it needs it: in a backup with --artefacts all only.
CACHES = ("hub", "texts", "tuned", "state")
SECRET = "webhook-secret"
LOCATIONS = """
    SELECT DISTINCT l ->> 'path' FROM (
        SELECT location AS l FROM checkpoints UNION ALL SELECT location FROM datasets) named
    WHERE l ->> 'scheme' = '{}' ORDER BY 1"""

WEIGHTS = """
    SELECT location ->> 'path', weights_sha256 FROM checkpoints
    WHERE location ->> 'scheme' = 'artefacts' AND weights_sha256 IS NOT NULL"""


def write_backup(
    lab: Installation, target: Path, artefacts: Artefacts, progress: Progress
) -> tuple[Manifest, int]:
    """Write a backup; return its manifest and its size in bytes.

    Raises:
        BackupFileError: the target exists, the disk is too small or full.
        EmbeddedError: the database cannot be reached.
    """
    target = target.expanduser().absolute()
    with (
        BackupWriter(target) as backup,
        lab.connect() as session,
        database_errors("the backup, nothing is left of it"),
    ):
        table_copy.snapshot(session)
        revision = table_copy.revision(session)
        if revision is None:
            raise BackupFileError("the database has no schema yet: start the lab once")
        named = _named(session, "artefacts")
        files = list(_files(lab.artefacts, artefacts, named))
        _check_space(session, target, sum(size for _, size in files))
        try:
            manifest = Manifest(
                created_at=datetime.now(UTC),
                ucurve=__version__,
                postgres=str(table_copy.scalar(session, "SHOW server_version")),
                revision=revision,
                tables={
                    name: _write_table(session, name, backup, progress)
                    for name in table_copy.tables(session)
                },
                sequences=dict(table_copy.sequences(session)),
                artefacts=artefacts,
                missing=_missing(lab.artefacts, named) if artefacts != "none" else [],
                outside=_named(session, "path"),
                files={},
            )
            registered = {str(path): sha256 for path, sha256 in session.execute(WEIGHTS)}
            session.rollback()
            _write_files(lab, files, backup, progress)
            manifest.files = dict(backup.files)
            manifest.damaged = _damaged(lab.artefacts, registered, backup.files)
            return manifest, backup.finish(manifest)
        except OSError as error:
            raise BackupFileError(
                f"cannot write {target}: {error.strerror}; nothing is left of it"
            ) from error


def _named(session: Session, scheme: str) -> list[str]:
    """Return the paths of one scheme that suites and datasets name."""
    return [str(row[0]) for row in session.execute(LOCATIONS.format(scheme).encode())]


def _write_table(
    session: Session, name: str, backup: BackupWriter, progress: Progress
) -> TableEntry:
    import pyarrow as pa

    total = table_copy.count(session, name)
    with (
        backup.member(f"tables/{name}.tsv.zst") as member,
        pa.CompressedOutputStream(pa.PythonFile(member, mode="w"), "zstd") as file,
    ):
        return table_copy.copy_out(session, name, file, lambda rows: progress(name, rows, total))


def _write_files(
    lab: Installation, files: list[tuple[str, int]], backup: BackupWriter, progress: Progress
) -> None:
    """Write the artefacts and the key of the webhooks."""
    total, done = sum(size for _, size in files), 0
    for name, _ in files:
        # A cache may be cleaned up meanwhile; `_missing` checks for what rows name.
        with (
            suppress(FileNotFoundError),
            (lab.artefacts / name).open("rb") as source,
            backup.member(f"artefacts/{name}") as file,
        ):
            while chunk := source.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress("artefacts (MB)", done // 1_000_000, max(total, done) // 1_000_000)
    if lab.webhook_secret and lab.webhook_secret.exists():
        with backup.member(SECRET) as file:
            file.write(lab.webhook_secret.read_bytes())


def _files(root: Path, artefacts: Artefacts, named: list[str]) -> Iterator[tuple[str, int]]:
    """Yield the files to copy, relative to the artefact folder, with their sizes."""
    if artefacts == "none":
        return
    names = {Path(name).as_posix() for name in named}
    for folder, _, entries in os.walk(root):
        for entry in sorted(entries):
            path = Path(folder, entry)
            name = path.relative_to(root)
            is_cache = name.parts[0] in CACHES or len(name.parts) == 1
            wanted = any(parent.as_posix() in names for parent in (name, *name.parents))
            if name.parts == ("admin-token",) or (artefacts == "suites" and is_cache > wanted):
                continue
            with suppress(FileNotFoundError):
                if path.is_file() and path.resolve().is_relative_to(root.resolve()):
                    yield name.as_posix(), path.stat().st_size


def _missing(root: Path, named: list[str]) -> list[str]:
    """Return the artefacts that rows name and the folder lacks."""
    return [name for name in named if not (root / name).exists()]


def _damaged(root: Path, registered: dict[str, object], files: dict[str, FileEntry]) -> list[str]:
    """Return the checkpoints whose weights have not the hash that they were registered with."""
    folders: dict[str, dict[str, str]] = {}
    for name, entry in files.items():
        folder, _, file = name.removeprefix("artefacts/").rpartition("/")
        folders.setdefault(folder, {})[file] = entry.sha256
    return [
        path
        for path, sha256 in registered.items()
        if path in folders and _weights_sha256(root, path, folders[path]) not in (None, sha256)
    ]


def _weights_sha256(root: Path, folder: str, hashes: dict[str, str]) -> str | None:
    """Return the hash of the weights of a folder, as registration does, or None without weights.

    "" where its files are no longer a checkpoint.
    """
    try:
        layout = weights_layout(hashes, lambda name: read_small(root / folder / name, root))
    except (OSError, LocationError, RegistrationError):
        return ""
    if not layout.weights:
        return None
    return combined_sha256({name: hashes[name] for name in layout.weights})


def _check_space(session: Session, target: Path, artefacts: int) -> None:
    """Raise BackupFileError unless the disk has room. Tables shrink, so it is an upper bound."""
    rows = table_copy.scalar(
        session,
        "SELECT coalesce(sum(pg_table_size(oid)), 0) FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = 'public'::regnamespace",
    )
    needed, free = int(str(rows)) + artefacts, shutil.disk_usage(target.parent).free
    if needed > free:
        raise BackupFileError(
            f"{target.parent} has {file_size(free)} free and the backup may need "
            f"{file_size(needed)}: choose another folder, or --artefacts none"
        )
