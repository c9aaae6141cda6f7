"""Transactions that survive a database outage."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from db.session import open_session
from db.submissions import SuiteTakenError
from ucurve.disk_space import is_disk_full

T = TypeVar("T")
database_full = threading.Event()  # the database's disk refused the latest transaction
DB_RETRY_TIMEOUT = 600.0  # seconds for which a result waits until the database is available again
MAX_WAIT = 5.0  # seconds between two tries
# The database rejects the result; trying again would end the same way.
REJECTED = (DataError, IntegrityError, ProgrammingError, SuiteTakenError)

log = logging.getLogger(__name__)


def run_in_transaction(action: Callable[[Session], T], retry_for: float = DB_RETRY_TIMEOUT) -> T:
    """Run `action` and commit; retry for `retry_for` seconds while the database is unavailable.

    While its disk is full a result waits for as long as it takes. Running an action twice is
    harmless: every transition compares the lease's token.
    """
    deadline, wait = time.monotonic() + retry_for, 1.0
    while True:
        try:
            with open_session() as session:
                answer = action(session)
                session.commit()
            database_full.clear()
            return answer
        except (DBAPIError, PoolTimeoutError) as error:
            full = is_disk_full(error)
            if full:
                database_full.set()
            out_of_time = time.monotonic() > deadline and not (full and retry_for)
            if out_of_time or isinstance(error, REJECTED):
                raise
            log.warning("database unavailable, retrying: %s", str(error).splitlines()[0])
            time.sleep(wait)
            wait = min(2 * wait, MAX_WAIT)
