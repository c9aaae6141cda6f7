"""What this process measures on, and the versions that its numbers depend on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import socket
from pathlib import Path
from typing import Any

import ucurve


def describe_worker() -> dict[str, Any]:
    """The row of this worker: name, host, pid, device ("cpu" or "cuda"), its memory in GiB, versions."""
    device, memory_gb, hardware = _device()
    return {
        "name": os.environ.get("UCURVE_WORKER_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": device,
        "memory_gb": memory_gb,
        "versions": {**_versions(), "hardware": hardware},
    }


def _device() -> tuple[str, float, str]:
    """UCURVE_DEVICE, or the GPU that CUDA_VISIBLE_DEVICES leaves, or the CPU."""
    import torch

    wanted = os.environ.get("UCURVE_DEVICE", "")
    if wanted not in ("", "cpu", "cuda"):
        raise RuntimeError(f"UCURVE_DEVICE is {wanted!r}: set it to cpu or cuda, or leave it out")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("UCURVE_DEVICE is cuda, but torch sees no GPU: check the driver, or set UCURVE_DEVICE=cpu")
    if wanted != "cpu" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return "cuda", round(properties.total_memory / 2**30, 1), properties.name
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return "cpu", round(pages / 2**30, 1), platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    """Library versions, and `code`: a hash of our own sources, which says more than a version number."""
    digest = hashlib.sha256()
    for source in sorted(Path(ucurve.__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    names = ("ucurve", "torch", "transformers", "numpy")
    return {
        "python": platform.python_version(),
        "code": digest.hexdigest()[:12],
        **{name: importlib.metadata.version(name) for name in names},
    }
