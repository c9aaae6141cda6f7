"""The device of this process, and the versions that its numbers depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform

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


def versions(hardware: str) -> dict[str, str]:
    """Return library versions, the hardware, and `code`, a hash of the package sources."""
    names = ("ucurve", "torch", "transformers", "numpy")
    return {
        "python": platform.python_version(),
        "code": ucurve.code_version(),
        **{name: importlib.metadata.version(name) for name in names},
        "hardware": hardware,
    }
