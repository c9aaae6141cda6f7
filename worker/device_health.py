"""Device health: a CUDA error ruins the process's context, so every later point would fail."""

from __future__ import annotations

import logging

MAX_CONSECUTIVE_FAILURES = 5

log = logging.getLogger(__name__)


def probe(device: str) -> str | None:
    """Return why the device cannot compute, None when it can; any call surfaces a sticky error."""
    import torch

    try:
        if device == "cuda":
            torch.cuda.empty_cache()
        ones = torch.ones(8, 8, device=device)
        total = float((ones @ ones).sum())
        if device == "cuda":
            torch.cuda.synchronize()
    except Exception as error:  # any exception means that the device does not work
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    return None if total == 512.0 else f"the device computes 8 x 8 x 8 as {total:g}"


def is_device_error(error: Exception) -> bool:
    """Return whether torch raised the error. It raises RuntimeError itself, or subclasses of its
    own; ours (a model that is refused, a hub that does not answer) are about the point.
    """
    return isinstance(error, RuntimeError) and (
        type(error) is RuntimeError or type(error).__module__.split(".")[0] == "torch"
    )


class DeviceHealth:
    """Track how points end; `broken` is the reason why the process must exit, None while healthy.

    The process is broken when the device fails its own probe, or when a process that has already
    measured successfully fails MAX_CONSECUTIVE_FAILURES points in a row with the same error of the
    device. A process that fails from its start is healthy: there the points are at fault.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.broken: str | None = probe(device)
        self._proven = False
        self._num_failures = 0
        self._last_error: type[Exception] | None = None

    def record_success(self) -> None:
        """Reset the count of failures."""
        self._proven, self._num_failures, self._last_error = True, 0, None

    def record_failure(self, error: Exception) -> None:
        """Count the failure and probe the device: a point's exception may be a sticky error."""
        self._num_failures = self._num_failures + 1 if type(error) is self._last_error else 1
        self._last_error = type(error)
        self.broken = probe(self.device)
        if (
            self._proven
            and self._num_failures >= MAX_CONSECUTIVE_FAILURES
            and is_device_error(error)
        ):
            self.broken = (
                self.broken
                or f"{self._num_failures} points in a row failed with {type(error).__name__}"
            )
