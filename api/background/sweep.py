"""The sweep: what has to happen although nobody asks. Runs in the API's lifespan, in one process at a time.

Workers recover expired leases in their own claims, so the sweep only wakes them while there is work (a lost wake-up
costs seconds), fails points over which several workers died, and resolves the hashes of newly registered checkpoints.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.routes.suites import resolve_pending
from db import leases
from db.session import engine, open_session
from worker.queue import wake_workers

SWEEP_SECONDS = 5.0
SWEEP_LOCK = 0x73776570  # "swep"

log = logging.getLogger(__name__)


def sweep() -> bool:
    """One sweep; False when another process is at it."""
    with (
        engine().connect() as lock
    ):  # the lock belongs to a connection, and a session changes its own at every commit
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
        while (measurement := leases.fail_poison(session)) is not None:
            session.commit()
            log.warning("measurement %d failed: the workers that measured it died", measurement)
        if session.scalar(text("SELECT EXISTS (SELECT FROM measurements WHERE state = 'open')")):
            wake_workers()
        resolve_pending(session)
        session.commit()


def keep_sweeping(stop: threading.Event) -> None:
    """Sweep until told to stop; a database that does not answer is tried again."""
    while not stop.wait(SWEEP_SECONDS):
        try:
            sweep()
        except (DBAPIError, PoolTimeoutError) as error:
            log.warning(
                "the database does not answer, the next sweep tries again: %s",
                str(error).splitlines()[0],
            )
