"""How this worker describes itself."""

from __future__ import annotations

import os
import socket
from typing import Any

from ucurve.modeling.device import device, versions
from ucurve.settings import settings


def describe_worker() -> dict[str, Any]:
    """The row of this worker: name, host, pid, device ("cpu" or "cuda"), its memory in GiB, versions."""
    kind, memory_gb, hardware = device()
    return {
        "name": settings().worker_name or f"{socket.gethostname()}-{os.getpid()}",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": kind,
        "memory_gb": memory_gb,
        "versions": versions(hardware),
    }
