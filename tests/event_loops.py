"""Coroutines in tests: the main thread may run the event loop of another module's browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own."""
    return in_thread(lambda: asyncio.run(coroutine))


def in_thread(function: Callable[[], T]) -> T:
    """Return what a function returns in a thread of its own, where no loop runs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()
