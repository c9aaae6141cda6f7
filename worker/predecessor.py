"""The process that had this worker's name before: its leases need not expire when it is dead."""

from __future__ import annotations

import logging
import os
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from db import recovery, trials
from db.models import Worker
from db.session import open_session

log = logging.getLogger(__name__)


def expire_leases_of_predecessor(worker: dict[str, Any]) -> None:
    """End the leases of the process that last had this name, if it ran here and is dead.

    Call it before the first claim and the first heartbeat, which replaces the predecessor's row.
    """
    try:
        with open_session() as session:
            row = session.get(Worker, worker["name"])
            if row is None or row.host != worker["host"]:
                return
            # A container gives every process the same id: its predecessor is dead.
            if row.pid != worker["pid"] and _exists(row.pid):
                return
            num_points = recovery.expire(session, worker["name"])
            trials.expire(session, worker["name"])
            session.commit()
    except (DBAPIError, PoolTimeoutError):  # then they expire in time
        return
    if num_points:
        log.info("%d points of the dead process %d are free again", num_points, row.pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
