"""A cache that computes each answer once for all concurrent requests, off the event loop.

    verdicts = SingleFlightCache[list[Verdict]]("verdicts", size=200)
    answer = await verdicts.get((id, version), lambda: compute(id))  # a second caller waits for it

A key holds everything that determines its answer, so an answer never goes stale. Failures are not
cached.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlightCache(Generic[T]):
    """At most `size` answers, computed by `threads` threads of its own.

    Not locked: call `get` on the event loop only.
    """

    def __init__(self, name: str, size: int, threads: int = 1) -> None:
        self._size = size
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._answers: OrderedDict[Hashable, Future[T]] = OrderedDict()

    async def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the answer of this key, computing it where missing. Raises what `compute` does."""
        if key not in self._answers:
            while len(self._answers) >= self._size:
                self._answers.popitem(last=False)
            self._answers[key] = self._executor.submit(compute)
        self._answers.move_to_end(key)
        answer = self._answers[key]
        try:
            # Shielded: a client that disconnects must not cancel the answer for the others.
            return await asyncio.shield(asyncio.wrap_future(answer))
        except Exception:
            if self._answers.get(key) is answer:
                del self._answers[key]
            raise
