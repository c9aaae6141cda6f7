"""Description of this worker for the list of workers."""

from __future__ import annotations

import os
import socket
from typing import Any

from ucurve.modeling.device import device, versions
from ucurve.settings import settings


def describe_worker() -> dict[str, Any]:
    """Return this worker's row: name, host, pid, device (cpu or cuda), memory in GiB, versions."""
    kind, memory_gb, hardware = device()
    return {
        "name": settings().worker_name or f"{socket.gethostname()}-{os.getpid()}",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": kind,
        "memory_gb": memory_gb,
        "versions": versions(hardware),
    }
