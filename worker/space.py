"""Whether this worker may claim points: not while a disk that it writes to is full."""

from __future__ import annotations

import time

from ucurve.disk_space import Disk, full_disk
from ucurve.settings import settings
from worker.transactions import database_full

MIN_WAIT, MAX_WAIT = 5.0, 60.0  # seconds without claims after a write that failed


class SpaceWatch:
    """Reasons why a worker waits. A point that met a full disk is released, never failed."""

    def __init__(self) -> None:
        self._claims_from = 0.0  # on the monotonic clock
        self._wait = MIN_WAIT

    def record_failure(self) -> None:
        """Pause claims: a disk was full, though it may seem to have space (a quota, a large file).

        Each failure in a row doubles the pause.
        """
        self._claims_from = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, MAX_WAIT)

    def record_success(self) -> None:
        """End the series of failures."""
        self._wait = MIN_WAIT

    def no_claim(self) -> str | None:
        """Return why the worker must not claim now, and what to do; None when it may."""
        disk = full_disk()
        if disk is None and time.monotonic() < self._claims_from:
            disk = Disk("artefacts", settings().artefacts, "full")
        return disk.message if disk else None

    def waits_for(self) -> str | None:
        """Return why the worker does not work now; it still tries to write to the database."""
        full = Disk("database", None, "full") if database_full.is_set() else None
        return self.no_claim() or (full.message if full else None)
