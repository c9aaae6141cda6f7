"""Files on this machine: the folder that a location names, the hash of a file, atomic writes.

>>> folder_of(Location(scheme="artefacts", path="suites/mine/step1000"), Path("/data"))
PosixPath('/data/suites/mine/step1000')
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from ucurve.registry.suites import Location
from ucurve.settings import settings

Progress = Callable[[float, float], object]  # bytes done, bytes in all; may raise to stop
BUILTIN = Path(__file__).parents[1] / "builtin"  # what comes with the package
CHUNK = 1 << 22


class LocationError(ValueError):
    """A location outside the folder of its scheme."""


def no_progress(done: float, total: float) -> None:
    """No-op progress callback."""


def folder_of(location: Location, artefacts: Path | None = None) -> Path:
    """Return the local folder (or file) of a location that is not on a hub.

    Args:
        location: relative to the package or the artefact root, or an absolute path.
        artefacts: the artefact root; that of this process when None.

    Raises:
        LocationError: after resolving links, the path lies outside the package or the artefact
            root.
    """
    if location.scheme == "path":
        return Path(location.path)
    assert location.scheme != "hub", "use hub.local_copy for a location on a hub"
    folder = BUILTIN if location.scheme == "builtin" else artefacts or settings().artefacts
    resolved = (folder / location.path).resolve()
    if not resolved.is_relative_to(folder.resolve()):
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
    """Return the SHA-256 of a file in hex; `progress` is called every 4 MiB."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    return digest.hexdigest()


def cached_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex, read once per process while its size and time stay the
    same.
    """
    state = path.stat()
    return _cached_sha256(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=10_000)
def _cached_sha256(path: Path, mtime_ns: int, size: int) -> str:
    return file_sha256(path)


def bytes_sha256(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file so that it is complete or absent, even after a crash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name}.", delete=False
    ) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(target)
