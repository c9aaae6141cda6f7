"""Log files of bounded size, rotated while their processes write to them."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

LOG_LIMIT = 20_000_000  # bytes; a larger log moves to NAME.old.log, whose content is dropped


def rotate(log: Path, limit: int = LOG_LIMIT) -> bool:
    """Copy a log above the limit to NAME.old.log and empty it; return whether it did.

    The processes keep their open files: they append, so that they continue at the new end.
    What is written between the copy and the truncation is lost, which takes microseconds. On a
    full disk nothing happens: the log cannot grow either.
    """
    with suppress(OSError):
        if log.stat().st_size <= limit:
            return False
        copy = log.with_suffix(".old.log.new")
        try:
            with log.open("rb") as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                copy.replace(log.with_suffix(".old.log"))
                while rest := source.read(1 << 20):
                    target.write(rest)
                target.flush()
                os.truncate(log, 0)
        finally:
            copy.unlink(missing_ok=True)
        return True
    return False
