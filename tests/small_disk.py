"""A file system of a few megabytes, to be filled (as root only: it is mounted)."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class SmallDisk:
    """Mounted inside a `with` block."""

    folder: Path
    megabytes: int

    def __enter__(self) -> SmallDisk:
        self.folder.mkdir()
        size = f"size={self.megabytes}m,mode=0755"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.folder],
            check=True,
            capture_output=True,
            text=True,
        )
        return self

    def __exit__(self, *failure: object) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)

    def fill(self) -> None:
        """Leave not a byte."""
        with self._filler.open("ab") as file:
            while free := os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free)

    def clear(self) -> None:
        """Give the space back."""
        self._filler.unlink()

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"


def why_not() -> str:
    """Why this process cannot mount file systems, "" when it can."""
    if os.getuid() != 0:
        return "needs root to mount a small file system"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else ""
