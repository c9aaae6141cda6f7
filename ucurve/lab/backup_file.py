"""The file of a backup: a tar of tables and artefacts that ends with a manifest of their hashes.

    with BackupWriter(Path("lab.tar")) as backup:
        with backup.member("tables/users.tsv.zst") as file:
            file.write(content)
        backup.finish(manifest)
    manifest = verify(Path("lab.tar"))

`tar tf lab.tar` lists it. It is written under the name `lab.tar.partial` and renamed when it is
complete and on the disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import BaseModel, Field, ValidationError

FORMAT = 1
MARK, MANIFEST, MANIFEST_HASH = "ucurve-backup", "manifest.json", "manifest.json.sha256"
BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
Progress = Callable[[str, int, int], None]  # name of the step, done, in all


class BackupFileError(RuntimeError):
    """A file that cannot be written or is not a complete backup; the message says why."""


class TableEntry(BaseModel):
    """A table in a backup."""

    columns: list[str] = Field(description="Its columns, without those that Postgres computes.")
    rows: int = Field(description="Number of rows.")
    sha256: str = Field(description="Hash of its rows in the order of the primary key.")


class FileEntry(BaseModel):
    """A member of the tar."""

    size: int = Field(description="Size in bytes.")
    sha256: str = Field(description="Hash of its content.")


class Manifest(BaseModel):
    """What a backup holds."""

    format: int = Field(FORMAT, description="Version of this format.")
    created_at: datetime = Field(description="Time of the database's snapshot.")
    ucurve: str = Field(description="Version of ucurve that wrote it.")
    postgres: str = Field(description="Version of the database.")
    revision: str = Field(description="Revision of the database schema.")
    tables: dict[str, TableEntry] = Field(description="Tables by name.")
    sequences: dict[str, int] = Field(description="Last value of each sequence.")
    artefacts: str = Field(description="Which artefacts it holds: all, suites or none.")
    missing: list[str] = Field([], description="Artefacts that rows name and the folder lacks.")
    damaged: list[str] = Field([], description="Checkpoints unlike when they were registered.")
    outside: list[str] = Field([], description="Paths outside the artefact folder.")
    files: dict[str, FileEntry] = Field(description="Members of the tar by name.")


class Member:
    """A member being written: counts and hashes what passes through."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0
        self.closed = False  # read by pyarrow

    def write(self, content: bytes) -> int:
        """Append to the member."""
        self._file.write(content)
        self._digest.update(content)
        self.size += len(content)
        return len(content)

    def flush(self) -> None:
        """Do nothing: the file is flushed once, at its end."""

    def close(self) -> None:
        """Do nothing: other members follow in the same file."""

    @property
    def entry(self) -> FileEntry:
        return FileEntry(size=self.size, sha256=self._digest.hexdigest())


class BackupWriter:
    """Writes a backup; without `finish`, nothing is left."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.partial = target.with_name(f"{target.name}.partial")
        self.files: dict[str, FileEntry] = {}
        self._finished = False

    def __enter__(self) -> BackupWriter:
        if self.target.exists():
            raise BackupFileError(f"{self.target} exists: choose another name")
        try:
            descriptor = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise BackupFileError(
                f"cannot write to {self.target.parent}: {error.strerror}; choose another folder"
            ) from error
        os.fchmod(descriptor, 0o600)
        self._file = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            self._finished = True  # it belongs to the other process
            raise BackupFileError(f"another backup is being written to {self.partial}") from None
        self._file.truncate()  # of a killed backup
        with self.member(MARK) as file:
            file.write(b"%d\n" % FORMAT)
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()
        if not self._finished:
            self.partial.unlink(missing_ok=True)

    @contextmanager
    def member(self, name: str) -> Iterator[Member]:
        """Yield a member to write to; its size need not be known before."""
        start = self._file.tell()
        self._file.write(_header(name, 0))
        member = Member(self._file)
        yield member
        end = self._file.tell()
        self._file.write(b"\0" * (-member.size % BLOCK))
        after = self._file.tell()
        self._file.seek(start)
        self._file.write(_header(name, member.size))
        assert self._file.tell() == end - member.size, "a header's length depends on its name only"
        self._file.seek(after)
        self.files[name] = member.entry

    def finish(self, manifest: Manifest) -> int:
        """Write the manifest, put everything on the disk and rename. Return the size in bytes."""
        content = manifest.model_dump_json(indent=1).encode()
        with self.member(MANIFEST) as file:
            file.write(content)
        with self.member(MANIFEST_HASH) as file:
            file.write(hashlib.sha256(content).hexdigest().encode())
        self._file.write(b"\0" * (2 * BLOCK))
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        try:
            os.link(self.partial, self.target)  # unlike a rename, it replaces nothing
        except FileExistsError:
            raise BackupFileError(f"{self.target} exists: choose another name") from None
        except OSError:  # a file system without links
            self.partial.rename(self.target)
        self.partial.unlink(missing_ok=True)
        sync_folder(self.target.parent)
        self._finished = True
        return size


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, int(time.time())
    return info.tobuf(tarfile.GNU_FORMAT)


def verify(path: Path, progress: Progress) -> Manifest:
    """Read a backup and return its manifest. Raises BackupFileError unless it is complete."""
    entries: dict[str, FileEntry] = {}
    contents: dict[str, bytes] = {}
    total = size_of(path) // 1_000_000
    with reading(path):
        for member, file in members(path):
            if member.name in entries:
                raise BackupFileError(f"{path} is damaged: it has two members {member.name}")
            digest, done = hashlib.sha256(), 0
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                if member.name in (MANIFEST, MANIFEST_HASH):
                    contents[member.name] = contents.get(member.name, b"") + chunk
                progress("verify (MB)", (member.offset_data + done) // 1_000_000, total)
            entries[member.name] = FileEntry(size=done, sha256=digest.hexdigest())
    if MANIFEST not in contents or MANIFEST_HASH not in contents:
        raise BackupFileError(f"{path} is incomplete: its end is missing; use another backup")
    if entries[MANIFEST].sha256.encode() != contents[MANIFEST_HASH]:
        raise BackupFileError(f"{path} is damaged: its manifest has changed; use another backup")
    manifest = _manifest(path, contents[MANIFEST])
    del entries[MANIFEST], entries[MANIFEST_HASH]
    if wrong := sorted(
        name
        for name in entries.keys() | manifest.files.keys()
        if entries.get(name) != manifest.files.get(name)
    ):
        raise BackupFileError(
            f"{path} is damaged: {wrong[0]} is not what was written; use another backup"
        )
    return manifest


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of reading a backup into one line each."""
    try:
        yield
    except OSError as error:
        raise BackupFileError(f"cannot read {path}: {error.strerror}") from error
    except tarfile.TarError as error:
        with path.open("rb") as file:
            ours = file.read(len(MARK)) == MARK.encode()
        raise BackupFileError(
            f"{path} is incomplete or damaged: use another backup"
            if ours
            else f"{path} is not a backup of ucurve: name a file that `ucurve backup` wrote"
        ) from error


def size_of(path: Path) -> int:
    """Return the size of a backup. Raises BackupFileError where there is no regular file."""
    if not path.is_file():
        raise BackupFileError(f"{path} is not a file: name a file that `ucurve backup` wrote")
    return path.stat().st_size


def _manifest(path: Path, content: bytes) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        manifest = None
    if manifest is None or manifest.format != FORMAT:
        raise BackupFileError(
            f"{path} has a format that this version of ucurve cannot read: install a newer one"
        )
    return manifest


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield the members of a backup in their order; read them within `reading`."""
    with tarfile.open(path, "r:") as archive:
        first = True
        for member in archive:
            if first and member.name != MARK:
                raise tarfile.ReadError("the first member is another program's")
            first = False
            if not member.isreg() or not _is_safe(member.name):
                raise BackupFileError(f"{path} is damaged: {member.name!r} is no plain file")
            file: Any = archive.extractfile(member)
            yield member, file


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name
