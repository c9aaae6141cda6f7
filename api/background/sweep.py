"""The sweep: periodic work that no request triggers.

Runs in a thread of the API, in one process at a time. Workers recover expired leases in their own
claims, so the sweep only wakes them while there is work (a lost wake-up costs seconds), fails
points that repeatedly lost their worker, and hashes newly registered checkpoints.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.background.hashing import start_hashing
from db import idempotency, recovery, trials
from db.session import engine, open_session
from worker.queue import wake_workers

SWEEP_SECONDS = 5.0
SWEEP_LOCK = 0x73776570  # "swep"

log = logging.getLogger(__name__)


def sweep() -> bool:
    """Sweep once; False when another process is sweeping."""
    # A connection of its own: the lock belongs to it, and a session changes its at every commit.
    with engine().connect() as lock:
        if not lock.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": SWEEP_LOCK}):
            return False
        lock.commit()
        try:
            _sweep()
        finally:
            lock.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": SWEEP_LOCK})
            lock.commit()
    return True


def _sweep() -> None:
    with open_session() as session:
        while (measurement := recovery.fail_repeatedly_lost(session)) is not None:
            session.commit()
            log.warning("measurement %d failed: its workers died repeatedly", measurement)
        recovery.open_unwanted(session)
        session.commit()
        work = recovery.has_wanted(session) or trials.is_waiting(session)
        session.commit()
        idempotency.delete_expired(session)
        session.commit()
    if work:  # outside of transactions: the broker may be slow
        wake_workers()
    start_hashing()


def keep_sweeping(stop: threading.Event) -> None:
    """Sweep until stopped; while the database is unavailable, retry."""
    while not stop.wait(SWEEP_SECONDS):
        try:
            sweep()
        except (DBAPIError, PoolTimeoutError) as error:
            log.warning(
                "database unavailable, the next sweep will retry: %s", str(error).splitlines()[0]
            )
