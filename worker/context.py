"""The context in which a worker runs points: device, progress, cache of loaded checkpoints."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from worker.lease import Progress

T = TypeVar("T")
CACHE_SIZE = 4  # loaded checkpoints and other objects that a process keeps

log = logging.getLogger(__name__)


@dataclass
class PointContext:
    """The worker's implementation of `ucurve.spec.Context`."""

    device: str
    artefacts: Path
    cache: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    state_dir: Path = Path()
    reporter: Progress | None = None

    def progress(self, done: float, total: float, **metrics: float) -> None:
        """Report progress of the running point."""
        assert self.reporter is not None, "progress() is for a running point"
        self.reporter.report(done, total, metrics)

    def cached(self, key: str, make: Callable[[], T]) -> T:
        """Return the object cached under `key`, else make it; evict the least recently used."""
        if key not in self.cache:
            # Evict before making: the old and the new object together may not fit the device.
            while len(self.cache) >= CACHE_SIZE:
                self.cache.popitem(last=False)
            started = time.monotonic()
            self.cache[key] = make()
            if (seconds := time.monotonic() - started) > 0.05:
                log.info("made %s in %.1f s", key, seconds)
        self.cache.move_to_end(key)
        return cast(T, self.cache[key])
