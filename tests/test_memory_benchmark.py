"""The rule by which `benchmarks/memory.py` calls a process flat, and how it reads memory."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import memory
import pytest

HOUR = range(0, 3600, 10)


def samples(size_mb: Callable[[float], float], pids: tuple[int, ...] = (1,)) -> list[memory.Sample]:
    """An hour of samples of a process whose memory is `size_mb(hours)`, with noise of 0.5 MB."""
    noise = random.Random(0)
    return [
        memory.Sample(
            seconds, pids, round(1e6 * (size_mb(seconds / 3600) + noise.gauss(0, 0.5))), 0
        )
        for seconds in HOUR
    ]


@pytest.mark.parametrize(
    ("size_mb", "verdict"),
    [
        (lambda hours: 100.0, "flat"),
        (lambda hours: 100.0 + 2.0 * hours, "flat"),  # below the limit of 5 MB per hour
        (lambda hours: 100.0 + 12.0 * hours, "GROWS"),
        (lambda hours: 1000.0 + 12.0 * hours, "flat"),  # 2 % of 1 GB are 20 MB
        (lambda hours: 100.0 if hours > 0.15 else 40.0 + 400 * hours, "flat"),  # the warm-up
    ],
)
def test_a_process_is_judged_by_its_slope_after_the_warm_up(
    size_mb: Callable[[float], float], verdict: str
) -> None:
    line = memory.trend("api", samples(size_mb), warm_up=600)
    assert line is not None
    assert line.verdict == verdict, str(line)


def test_a_noisy_short_run_is_undetermined_and_a_restart_is_said() -> None:
    noise = random.Random(1)
    short = samples(lambda hours: 100.0 + noise.gauss(0, 8))[:36]
    line = memory.trend("api", short, warm_up=0)
    assert line is not None
    assert line.verdict == "undetermined"
    restarted = samples(lambda hours: 100.0)[:180] + samples(lambda hours: 100.0, (2,))[180:]
    line = memory.trend("api", restarted, warm_up=600)
    assert line is not None
    assert line.verdict == "restarted"
    assert memory.trend("api", short[:12], warm_up=0) is None, "two minutes say nothing"


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")
def test_memory_that_a_process_writes_is_counted_as_its_own() -> None:
    before, _ = memory.memory_of(os.getpid())
    held = mmap(-1, 30_000_000, flags=MAP_PRIVATE | MAP_ANONYMOUS)  # not from a freed heap
    held.write(b"x" * 30_000_000)
    after, proportional = memory.memory_of(os.getpid())
    assert 25e6 < after - before < 60e6
    assert proportional > 0
    assert os.getpid() in list(memory.descendants(os.getppid()))
    held.close()
