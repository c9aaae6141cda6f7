"""Answers that several askers share: each is made once, beside the event loop, and the latest are kept.

    judgements = Shared[list[Verdict]]("verdicts", kept=200)
    answer = await judgements.ask((id, version), lambda: judge(id))   # a second asker meanwhile waits for the same one

A key names what determines its answer, so an answer is never out of date; one that failed is forgotten.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """At most `kept` answers, made by `threads` threads of their own. Ask on the event loop only: nothing here is locked."""

    def __init__(self, name: str, kept: int, threads: int = 1) -> None:
        self._kept = kept
        self._made_by = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._answers: OrderedDict[Hashable, Future[T]] = OrderedDict()

    async def ask(self, key: Hashable, make: Callable[[], T]) -> T:
        """The answer under this key, made now if nobody asked before. Raises what `make` raises."""
        if key not in self._answers:
            while len(self._answers) >= self._kept:
                self._answers.popitem(last=False)
            self._answers[key] = self._made_by.submit(make)
        self._answers.move_to_end(key)
        answer = self._answers[key]
        try:
            return await asyncio.shield(
                asyncio.wrap_future(answer)
            )  # whoever goes away stops nobody else's
        except Exception:
            if self._answers.get(key) is answer:
                del self._answers[key]
            raise
