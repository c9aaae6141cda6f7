"""Free space of the disks that a lab writes to, and which errors mean that one is full.

    for disk in disks():
        print(disk.state, disk.message)   # low The disk of the artefacts has 800 MB free. ...

Below UCURVE_LOW_DISK_GB a disk is low: pages and health checks warn. Below UCURVE_MIN_DISK_GB it is
full: workers claim nothing until it has space again.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ucurve.formatting import file_size
from ucurve.settings import settings

State = Literal["ok", "low", "full"]
FULL = (errno.ENOSPC, errno.EDQUOT)
SQLSTATE_FULL = "53100"
# Libraries that write by themselves keep the kernel's words only.
WORDS = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
NO_SPACE = 1 << 20  # bytes free: less than what any file of weights needs
REMEDY = "Free some space or enlarge the disk: the lab then continues on its own."


@dataclass(frozen=True)
class Disk:
    """A disk that the lab writes to; sizes in bytes, None where this process cannot see it."""

    name: str  # artefacts, database
    folder: Path | None
    state: State
    free: int | None = None
    total: int | None = None

    @property
    def message(self) -> str | None:
        """What is the matter and what to do; None while all is well.

        Names no folder, since health checks are public, and rounds, since pages redraw on change.
        """
        if self.state == "full":
            return f"The disk of the {self.name} is full. {REMEDY}"
        if self.state == "low":
            return (
                f"The disk of the {self.name} is almost full: about "
                f"{file_size(float(f'{self.free or 0:.1g}'))} are free. Free some space or enlarge "
                f"it: below {file_size(settings().min_disk_gb * 1e9)} workers pause."
            )
        return None


def disks() -> list[Disk]:
    """Return the disks that this process can see."""
    folders = {"artefacts": settings().artefacts, "database": settings().database_folder}
    return [measure(name, folder) for name, folder in folders.items() if folder and folder.exists()]


def measure(name: str, folder: Path) -> Disk:
    """Return the disk of a folder."""
    usage = shutil.disk_usage(folder)
    least, low = settings().min_disk_gb * 1e9, settings().low_disk_gb * 1e9
    state: State = "full" if usage.free < least else "low" if usage.free < low else "ok"
    return Disk(name, folder, state, usage.free, usage.total)


def full_disk() -> Disk | None:
    """Return a visible disk that is full, None when there is none."""
    return next((disk for disk in disks() if disk.state == "full"), None)


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, means that a disk or a quota is full."""
    while error is not None:
        if getattr(error, "errno", None) in FULL or getattr(error, "sqlstate", "") == SQLSTATE_FULL:
            return True
        if any(words in str(error) for words in WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Raise OSError with ENOSPC for any failure inside the block that a full disk explains."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error) or shutil.disk_usage(folder).free < NO_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise
