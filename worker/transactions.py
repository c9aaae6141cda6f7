"""Transactions that survive a database outage."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from db.session import open_session
from db.submissions import SuiteTakenError

T = TypeVar("T")
DB_RETRY_TIMEOUT = 600.0  # seconds for which a result waits until the database is available again
# The database rejects the result; trying again would end the same way.
REJECTED = (DataError, IntegrityError, ProgrammingError, SuiteTakenError)

log = logging.getLogger(__name__)


def run_in_transaction(action: Callable[[Session], T], retry_for: float = DB_RETRY_TIMEOUT) -> T:
    """Run `action` and commit; retry for `retry_for` seconds while the database is unavailable.

    Running it twice is harmless: every transition compares the lease's token.
    """
    deadline = time.monotonic() + retry_for
    while True:
        try:
            with open_session() as session:
                answer = action(session)
                session.commit()
                return answer
        except (DBAPIError, PoolTimeoutError) as error:
            if time.monotonic() > deadline or isinstance(error, REJECTED):
                raise
            log.warning("database unavailable, retrying: %s", str(error).splitlines()[0])
            time.sleep(1.0)
