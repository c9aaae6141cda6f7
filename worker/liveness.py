"""Whether this container's worker said lately that it lives: `python -m worker.liveness`, by UCURVE_WORKER_NAME."""

from __future__ import annotations

import sys

from db.eta import alive_workers
from db.session import open_session
from ucurve.settings import settings


def alive(name: str) -> bool:
    """Whether the worker of this name renewed its row within the time after which it would be taken for dead."""
    with open_session() as session:
        return name in [worker.name for worker in alive_workers(session)]


if __name__ == "__main__":
    sys.exit(0 if alive(settings().worker_name or "") else 1)
