"""What this process has measured since its start; it travels to the lab with each heartbeat.

Counters only grow, so that Prometheus derives rates from them; those over the last minutes are
computed here, where the history is.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal

from ucurve.modeling.device import memory_used
from ucurve.modeling.throughput import tokens_processed

RATE_SECONDS = 300.0  # over which rates are computed
RATE_STEP = 10.0  # seconds between the moments that rates are computed from

Outcome = Literal["done", "failed", "stopped"]


class WorkerStatistics:
    """Counters of one process; the worker's loop counts, the lease thread reads."""

    def __init__(self, device: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._device = device
        self._clock = clock
        self._lock = threading.Lock()
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._num_retries = 0
        self._history: deque[tuple[float, int, int]] = deque(
            [(clock(), 0, tokens_processed())], maxlen=int(RATE_SECONDS / RATE_STEP) + 1
        )

    def count(self, kind: str, outcome: Outcome, seconds: float, retried: bool) -> None:
        """Count one attempt; retried: it was not the first at its point."""
        with self._lock:
            self._outcomes[kind, outcome] += 1
            self._seconds[kind] += seconds  # type: ignore[assignment]
            self._num_retries += retried

    def report(self, silent_seconds: float | None) -> dict[str, Any]:
        """Return the counters and rates as JSON.

        silent_seconds: time since the running point last reported progress, None while idle.
        """
        with self._lock:
            outcomes, seconds = dict(self._outcomes), dict(self._seconds)
            num_retries = self._num_retries
        num_done = sum(num for (_, outcome), num in outcomes.items() if outcome == "done")
        points_per_second, tokens_per_second = self._rates(num_done)
        return {
            "measurements": [
                {"kind": kind, "outcome": outcome, "num": num}
                for (kind, outcome), num in sorted(outcomes.items())
            ],
            "seconds": seconds,
            "retries": num_retries,
            "tokens": tokens_processed(),
            "points_per_second": points_per_second,
            "tokens_per_second": tokens_per_second,
            "memory_used_bytes": memory_used(self._device),
            "silent_seconds": silent_seconds,
        }

    def _rates(self, num_done: int) -> tuple[float, float]:
        """Return points and tokens per second over the last minutes, or since the start."""
        moment = (self._clock(), num_done, tokens_processed())
        first = self._history[0]
        if moment[0] - self._history[-1][0] >= RATE_STEP:
            self._history.append(moment)
        elapsed = max(moment[0] - first[0], 1e-3)
        return (moment[1] - first[1]) / elapsed, (moment[2] - first[2]) / elapsed
