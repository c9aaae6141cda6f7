"""Files on this machine: the folder that a location names, the hash of a file, atomic writes.

>>> folder_of(Location(scheme="artefacts", path="suites/mine/step1000"), Path("/data"))
PosixPath('/data/suites/mine/step1000')
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ucurve.disk_space import naming_full_disk
from ucurve.registry.roots import BUILTIN as BUILTIN
from ucurve.registry.roots import SUITES, UPLOADS, open_file, open_regular, registered
from ucurve.registry.roots import LocationError as LocationError
from ucurve.registry.suites import Location
from ucurve.settings import settings

Progress = Callable[[float, float], object]  # bytes done, bytes in all; may raise to stop
CHUNK = 1 << 22
MAX_HASHES = 10_000  # kept by a process


def no_progress(done: float, total: float) -> None:
    """No-op progress callback."""


def folder_of(location: Location, artefacts: Path | None = None) -> Path:
    """Return the local folder (or file) of a location that is not on a hub.

    Args:
        location: relative to the package or the artefact root, or an absolute path.
        artefacts: the artefact root; that of this process when None.

    Raises:
        LocationError: after resolving links, the path lies outside the package, the folders of
            models, or the suites and uploads of the artefact root.
    """
    assert location.scheme != "hub", "use hub.local_copy for a location on a hub"
    root = artefacts or settings().artefacts
    if location.scheme == "path":
        return registered(Path(location.path), root)
    folders = (
        [BUILTIN] if location.scheme == "builtin" else [root / name for name in (SUITES, UPLOADS)]
    )
    base = BUILTIN if location.scheme == "builtin" else root
    resolved = (base / location.path).resolve()
    if not any(resolved.is_relative_to(folder.resolve()) for folder in folders):
        raise LocationError(f"{location.path!r} points outside the {location.scheme} folder")
    return resolved


def location_of(path: Path) -> Location:
    """Return the location of a local path: relative below the artefact root, which workers may
    mount elsewhere.
    """
    artefacts, resolved = settings().artefacts.resolve(), path.resolve()
    if resolved.is_relative_to(artefacts):
        return Location(scheme="artefacts", path=str(resolved.relative_to(artefacts)))
    return Location(scheme="path", path=str(path))


def file_sha256(path: Path, progress: Progress = no_progress) -> str:
    """Return the SHA-256 of a regular file in hex; `progress` is called every 4 MiB."""
    with open_regular(path) as file:
        return stream_sha256(file, progress)


def stream_sha256(file: BinaryIO, progress: Progress = no_progress) -> str:
    """Return the SHA-256 of an open file in hex, read from its start."""
    digest, done, total = hashlib.sha256(), 0, os.fstat(file.fileno()).st_size
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        done += len(chunk)
        progress(done, total)
    return digest.hexdigest()


def cached_sha256(path: Path, artefacts: Path | None = None) -> str:
    """Return the SHA-256 of a file in hex, read once per process while its size and time stay the
    same.

    Raises LocationError for a file that workers may not read.
    """
    with open_file(path, artefacts) as file:
        state = os.fstat(file.fileno())
        key = (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)
        if key not in _hashes:
            sha256 = stream_sha256(file)
            while len(_hashes) >= MAX_HASHES:
                del _hashes[next(iter(_hashes))]
            _hashes[key] = sha256
        return _hashes[key]


_hashes: dict[tuple[int, int, int, int], str] = {}  # at most MAX_HASHES, the oldest leaves


def bytes_sha256(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file so that it is complete or absent, even after a crash or on a full disk."""
    with replacement(target) as temporary, temporary.open("wb") as file:
        file.write(content)


@contextmanager
def replacement(target: Path) -> Iterator[Path]:
    """Yield a temporary file that takes the place of `target` at the end, complete and on disk.

    A failure leaves no half file. Raises OSError with ENOSPC on a full disk, whatever the library
    that writes makes of it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        with naming_full_disk(target.parent):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
