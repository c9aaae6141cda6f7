"""A file system for the lab's data that can be full without filling anybody else's disk.

As root on Linux it is a tmpfs mounted on the data folder, whose size is reduced to what it holds.
Where the data folder lies on a small file system of its own (at most SMALL free bytes), a ballast
file fills that. Elsewhere this fault is left out, and the report says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

SIZE = 2_000_000_000  # bytes
SMALL = 4_000_000_000  # a file system with more free bytes is not filled by ballast
PAGE = 4096


class Disk:
    """The file system below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounted = self._mount()
        self.ballast = folder / "ballast"

    @property
    def how(self) -> str:
        """Return how this disk gets full, "" where it cannot."""
        if self.mounted:
            return "a tmpfs, reduced to what it holds"
        free = os.statvfs(self.folder)
        small = free.f_bavail * free.f_frsize < SMALL
        return "a ballast file on a small file system" if small else ""

    def fill(self) -> None:
        """Leave no free block."""
        status = os.statvfs(self.folder)
        if self.mounted:
            used = (status.f_blocks - status.f_bfree) * status.f_frsize
            self._remount(max(used, PAGE))
            return
        with self.ballast.open("wb") as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize)

    def free(self) -> None:
        """Give the space back."""
        if self.mounted:
            self._remount(SIZE)
        else:
            self.ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Detach the file system and all that it holds."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False, timeout=60)
            self.mounted = False

    def _mount(self) -> bool:
        if sys.platform != "linux" or os.getuid() != 0:
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "ucurve-chaos"]
        try:
            done = subprocess.run([*command, str(self.folder)], capture_output=True, check=False)
        except OSError:
            return False
        return done.returncode == 0

    def _remount(self, size: int) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,size={size}", str(self.folder)],
            capture_output=True,
            check=False,
            timeout=60,
        )
