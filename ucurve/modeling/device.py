"""What this process measures on, and the versions that its numbers depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import ucurve
from ucurve.settings import settings


def device() -> tuple[str, float, str]:
    """("cpu" or "cuda", its memory in GiB, its name): UCURVE_DEVICE, or the GPU that CUDA_VISIBLE_DEVICES leaves, or the CPU."""
    import torch

    wanted = settings().device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            "UCURVE_DEVICE is cuda, but torch sees no GPU: check the driver, or set UCURVE_DEVICE=cpu"
        )
    if wanted != "cpu" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return "cuda", round(properties.total_memory / 2**30, 1), properties.name
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return "cpu", round(pages / 2**30, 1), platform.processor() or platform.machine()


def versions(hardware: str) -> dict[str, str]:
    """Of the libraries, and `code`: a hash of our own sources, which says more than a version number."""
    names = ("ucurve", "torch", "transformers", "numpy")
    return {
        "python": platform.python_version(),
        "code": ucurve.code_version(),
        **{name: importlib.metadata.version(name) for name in names},
        "hardware": hardware,
    }
