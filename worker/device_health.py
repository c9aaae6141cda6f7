"""Whether this process can still measure: after a CUDA error its context is lost for good, and every later point would fail."""

from __future__ import annotations

import logging

SAME_IN_A_ROW = 5
OF_THE_POINT = (
    ValueError,
    LookupError,
    OSError,
)  # a wrong spec, a missing file: said of what was asked, not of the process

log = logging.getLogger(__name__)


def trouble(device: str) -> str | None:
    """Why nothing can be computed on the device, None when it can: a sticky error comes back with any call."""
    import torch

    try:
        if device == "cuda":
            torch.cuda.empty_cache()
        ones = torch.ones(8, 8, device=device)
        total = float((ones @ ones).sum())
        if device == "cuda":
            torch.cuda.synchronize()
    except Exception as error:  # whatever it is, the device does not work
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    return None if total == 512.0 else f"the device computes 8 x 8 x 8 as {total:g}"


class Soundness:
    """Notes how points ended; `broken` says why the process has to go.

    Two signs: the device fails a sum of its own, or a process that measured well before now fails SAME_IN_A_ROW points with the
    same exception. A fresh process that does so from its start is sound: then it is the points that are wrong.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.broken: str | None = trouble(device)
        self._proven = False
        self._same = 0
        self._last: type[Exception] | None = None

    def measured(self) -> None:
        self._proven, self._same, self._last = True, 0, None

    def failed(self, error: Exception) -> None:
        """Look at the device after a failure of any kind: a sticky error is first seen as some point's exception."""
        self._same = self._same + 1 if type(error) is self._last else 1
        self._last = type(error)
        self.broken = trouble(self.device)
        if self._proven and self._same >= SAME_IN_A_ROW and not isinstance(error, OF_THE_POINT):
            self.broken = (
                self.broken or f"{self._same} points in a row failed with {type(error).__name__}"
            )
