"""The folders that registered files may lie in, and files opened so that no others are read.

A request may name files only below a folder of UCURVE_MODELS, or below `suites` or `uploads` in the
artefact folder. Links are followed first and checked afterwards; whether a file outside exists is
never said. Every file is opened once, without following links any more and without waiting for a
pipe, and what is checked is the open file.

>>> with open_file(Path("/models/mine/config.json")) as file:    # doctest: +SKIP
...     file.read()
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from ucurve.settings import settings

BUILTIN = Path(__file__).parents[1] / "builtin"  # what comes with the package
SUITES, UPLOADS = "suites", "uploads"  # below the artefact folder: what can be registered
WRITTEN = ("hub", "texts")  # below it too: what only the lab itself writes and reads
OUTSIDE = "is not below a folder that this lab reads"


class LocationError(ValueError):
    """A file or folder that may not be read; the message is the same whether or not it exists."""


def registered_roots(artefacts: Path | None = None) -> list[Path]:
    """Return the folders below which a request may name files, resolved."""
    root = artefacts or settings().artefacts
    folders = (*settings().models, root / SUITES, root / UPLOADS)
    return [folder.resolve() for folder in folders]


def readable_roots(artefacts: Path | None = None) -> list[Path]:
    """Return the folders that workers and the background read, resolved."""
    root = artefacts or settings().artefacts
    folders = (BUILTIN, *(root / name for name in WRITTEN))
    return [*registered_roots(root), *(folder.resolve() for folder in folders)]


def registered(path: Path, artefacts: Path | None = None) -> Path:
    """Return the resolved path of a file or folder that a request names. Raises LocationError."""
    return _within(path, registered_roots(artefacts))[1]


def open_file(path: Path, artefacts: Path | None = None) -> BinaryIO:
    """Open a regular file below a readable folder.

    Raises:
        LocationError: it lies elsewhere, or is not a regular file.
        OSError: it does not exist, or may not be read.
    """
    root, resolved = _within(path, readable_roots(artefacts))
    parts = resolved.relative_to(root).parts
    if not parts:
        raise LocationError(f"{path} is not a regular file")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in parts[:-1]:  # a folder that became a link in the meantime is refused
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        return open_regular(path, os.open(parts[-1], flags, dir_fd=folder))
    finally:
        os.close(folder)


def open_regular(path: Path, descriptor: int | None = None) -> BinaryIO:
    """Return a regular file, opened without waiting. Raises LocationError for anything else.

    descriptor: of the file, where it is open already.
    """
    if descriptor is None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LocationError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def _within(path: Path, roots: Iterable[Path]) -> tuple[Path, Path]:
    """Return the root that a path lies in, and the path with its links resolved."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, NUL
        raise LocationError(outside(path)) from None
    for root in roots:
        if resolved.is_relative_to(root):
            return root, resolved
    raise LocationError(outside(path))


def outside(path: Path | str) -> str:
    """Return the error about a path outside, with the folders that exist and how to add one."""
    folders = ", ".join(map(str, (*settings().models, settings().artefacts / SUITES)))
    return (
        f"{path} {OUTSIDE}: {folders}. An admin adds a folder with `ucurve up --models DIR`, or "
        "with UCURVE_MODELS"
    )
