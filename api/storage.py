"""Full disks as the API sees them: which ones there are, and whether the database can write."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.session import open_session
from ucurve.disk_space import Disk, disks, is_disk_full

PROBE_SECONDS = 2.0  # between two probes of a disk that was full
# Sorting with little memory writes a temporary file of a megabyte, and nothing that stays.
PROBE = "SELECT count(*) FROM (SELECT g FROM generate_series(1, 100000) g ORDER BY -g OFFSET 0) s"


class DatabaseSpace:
    """Whether the database's disk is full; it may be on another machine, so it is asked."""

    def __init__(self) -> None:
        self._refused = threading.Event()  # it could not write the last time
        self._probing = threading.Lock()
        self._probed = 0.0  # on the monotonic clock

    def record_refusal(self) -> None:
        """Remember that the database could not write."""
        self._refused.set()

    def is_full(self) -> bool:
        """Return whether the database still cannot write; probes it now and then."""
        if self._refused.is_set() and self._probing.acquire(blocking=False):
            try:
                if time.monotonic() - self._probed > PROBE_SECONDS:
                    self._probed = time.monotonic()
                    self._probe()
            finally:
                self._probing.release()
        return self._refused.is_set()

    def _probe(self) -> None:
        try:
            with open_session() as session:
                session.execute(text("SET LOCAL work_mem = '64kB'"))
                session.execute(text(PROBE))
        except DBAPIError as error:
            if is_disk_full(error):
                return
            raise
        self._refused.clear()


database_space = DatabaseSpace()


def current_disks() -> list[Disk]:
    """Return the disks of the lab, with what the database itself says about its own."""
    seen = disks()
    if not database_space.is_full():
        return seen
    others = [disk for disk in seen if disk.name != "database"]
    own = next((disk for disk in seen if disk.name == "database"), Disk("database", None, "full"))
    return [*others, replace(own, state="full")]


def full_database_disk() -> Disk | None:
    """Return the database's disk where this machine sees that it is full, without asking it."""
    return next((d for d in disks() if d.name == "database" and d.state == "full"), None)
