"""Container health check `python -m worker.liveness`: exit 0 while UCURVE_WORKER_NAME is alive."""

from __future__ import annotations

import sys

from db.eta import alive_workers
from db.session import open_session
from ucurve.settings import settings


def alive(name: str) -> bool:
    """Return whether the worker's last heartbeat is recent enough for it to count as alive."""
    with open_session() as session:
        return name in [worker.name for worker in alive_workers(session)]


if __name__ == "__main__":
    sys.exit(0 if alive(settings().worker_name or "") else 1)
