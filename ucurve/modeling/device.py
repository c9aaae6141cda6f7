"""The device of this process, and the versions that its numbers depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from pathlib import Path

import ucurve
from ucurve.settings import settings


def device() -> tuple[str, float, str]:
    """Return the device ("cpu" or "cuda"), its memory in GiB and its hardware name.

    UCURVE_DEVICE decides; by default the first visible GPU, else the CPU. Raises RuntimeError when
    it is "cuda" and there is no GPU.
    """
    import torch

    requested = settings().device
    if requested == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            "UCURVE_DEVICE is cuda, but torch finds no GPU: "
            "check the driver, or set UCURVE_DEVICE=cpu"
        )
    if requested != "cpu" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return "cuda", round(properties.total_memory / 2**30, 1), properties.name
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return "cpu", round(pages / 2**30, 1), platform.processor() or platform.machine()


def memory_used(device: str) -> int:
    """Return the memory in use by this process, in bytes: of its GPU, or its main memory."""
    if device == "cuda":
        import torch

        return int(torch.cuda.memory_reserved(0))
    try:
        resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux: the largest it has been
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def versions(hardware: str) -> dict[str, str]:
    """Return library versions, the hardware, and `code`, a hash of the package sources."""
    names = ("ucurve", "torch", "transformers", "numpy")
    return {
        "python": platform.python_version(),
        "code": ucurve.code_version(),
        **{name: importlib.metadata.version(name) for name in names},
        "hardware": hardware,
    }
