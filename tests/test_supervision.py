"""Supervision of small processes: when it restarts, when it waits, when it gives up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import event_loops
import httpx
import pytest
from anyio import to_thread

from api.main import app
from ucurve.lab import supervision
from ucurve.lab.log_files import rotate
from ucurve.lab.processes import ChildProcess
from ucurve.lab.supervision import StartError, Supervision

BEATING = """
import os, sys, time
while True:
    os.write(int(os.environ["UCURVE_HEARTBEAT_FD"]), sys.argv[1].encode())
    time.sleep(0.05)
"""


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervision]:
    running = Supervision(report=lambda _: None)
    yield running
    running.end()
    for process in running.processes:
        process.child.stop()


def python(tmp_path: Path, name: str, code: str, *words: str) -> ChildProcess:
    return ChildProcess(
        name, [sys.executable, "-c", code, *words], tmp_path / f"{name}.log", sends_heartbeats=True
    )


def tick_until(running: Supervision, true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        running.tick()
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_process_is_ready_with_its_first_ready_heartbeat_and_not_before(
    supervised: Supervision, tmp_path: Path
) -> None:
    running = supervised.add(python(tmp_path, "running", BEATING, "."))
    ready = supervised.add(python(tmp_path, "ready", BEATING, "r"))
    tick_until(supervised, lambda: ready.ready and running.answered)
    assert not running.ready


def test_a_process_that_stands_still_is_killed_and_its_successor_started(
    supervised: Supervision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = supervised.add(python(tmp_path, "beating", BEATING, "r"))
    tick_until(supervised, lambda: process.ready)
    monkeypatch.setattr(supervision, "HANG_SECONDS", 0.5)
    pid = process.child.pid
    os.kill(pid, signal.SIGSTOP)
    tick_until(supervised, lambda: process.child.pid != pid and process.ready)
    assert process.hangs == 1


def test_a_process_stopped_during_its_start_is_killed_as_soon_as_one_that_hangs(
    supervised: Supervision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "HANG_SECONDS", 0.5)
    process = supervised.add(python(tmp_path, "silent", "import time; time.sleep(600)"))
    tick_until(supervised, lambda: process.started)
    pid = process.child.pid
    os.kill(pid, signal.SIGSTOP)
    tick_until(supervised, lambda: process.child.pid != pid)  # long before START_SECONDS
    assert process.hangs == 1


def test_time_in_which_the_supervisor_did_not_run_is_no_silence(
    supervised: Supervision, tmp_path: Path
) -> None:
    process = supervised.add(python(tmp_path, "beating", BEATING, "r"))
    tick_until(supervised, lambda: process.ready)
    os.kill(process.child.pid, signal.SIGSTOP)
    while process.child.heartbeat_sign():
        pass
    supervised._last_tick -= 3600  # as if the machine had been suspended for an hour
    supervised.tick()
    assert process.hangs == 0
    assert process.silence <= supervision.LONGEST_TICK
    os.kill(process.child.pid, signal.SIGCONT)


def test_a_process_that_never_starts_ends_the_start_with_the_end_of_its_log(
    supervised: Supervision, tmp_path: Path
) -> None:
    supervised.add(python(tmp_path, "broken", "raise SystemExit('no such device')"))
    with pytest.raises(StartError, match=r"broken exited during startup, 3 times in a row") as told:
        tick_until(supervised, lambda: False)
    assert "no such device" in str(told.value)


def test_exits_while_an_obstacle_lasts_end_no_start_and_name_it(tmp_path: Path) -> None:
    obstacle, reports = ["The disk is full."], []
    running = Supervision(reports.append, lambda: obstacle[0] if obstacle else None)
    running.add(python(tmp_path, "blocked", "raise SystemExit('no space')"))
    try:
        tick_until(running, lambda: len(reports) >= 7)  # exits and restarts: more than it may fail
        assert "The disk is full." in reports[0]
        obstacle.clear()
        with pytest.raises(StartError, match="blocked exited during startup, 3 times"):
            tick_until(running, lambda: False)
    finally:
        running.end()
        running.processes[0].child.stop()


def test_exits_while_what_it_needs_does_not_work_do_not_count_against_a_process(
    supervised: Supervision, tmp_path: Path
) -> None:
    engine = supervised.add(python(tmp_path, "engine", BEATING, "r"))
    child = python(tmp_path, "needy", "import sys; sys.stdin.read(); raise SystemExit(1)")
    child.takes_orders = True
    needy = supervised.add(child, needs=(engine,))
    for _ in range(supervision.MAX_START_FAILURES + 1):
        tick_until(supervised, lambda: needy.restart_at is None and child.alive)
        engine.child.kill()
        tick_until(supervised, lambda: not engine.ready)
        assert child.process is not None
        assert child.process.stdin is not None
        child.process.stdin.close()
        tick_until(supervised, lambda: needy.restart_at is not None)
        assert not engine.ready or not child.alive
    assert needy.start_failures == 0


def test_a_killed_process_that_worked_is_restarted_without_a_growing_delay(
    supervised: Supervision, tmp_path: Path
) -> None:
    process = supervised.add(python(tmp_path, "beating", BEATING, "r"))
    for _ in range(4):
        tick_until(supervised, lambda: process.ready and process.child.alive)
        process.child.kill()
        tick_until(supervised, lambda: not process.ready)
    assert process.failures == 0


def test_a_process_that_ends_successfully_is_done_and_one_that_is_killed_is_repeated(
    supervised: Supervision, tmp_path: Path
) -> None:
    mark = tmp_path / "first"
    code = f"""
import os, pathlib, time
mark = pathlib.Path({str(mark)!r})
if not mark.exists():
    mark.touch()
    os.kill(os.getpid(), 9)
"""
    process = supervised.add(python(tmp_path, "step", code), once=True)
    tick_until(supervised, lambda: process.done)
    assert process.failures == 1


def test_a_log_is_rotated_while_its_process_writes_and_loses_no_line(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"first line\n" * 10)
        assert not rotate(log, limit=1000)
        assert rotate(log, limit=50)
        writer.write(b"second line\n")
    assert log.read_bytes() == b"second line\n"
    assert (tmp_path / "x.old.log").read_bytes() == b"first line\n" * 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.old.log"]


def test_the_health_check_answers_while_no_thread_is_free() -> None:
    assert event_loops.run(live_while_no_thread_is_free()) == {"status": "ok"}


async def live_while_no_thread_is_free() -> object:
    limiter = to_thread.current_default_thread_limiter()
    before = limiter.total_tokens
    limiter.total_tokens = 1
    await limiter.acquire_on_behalf_of("a request that waits for the database")
    try:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.get("/health/live", timeout=30)
    finally:
        limiter.release_on_behalf_of("a request that waits for the database")
        limiter.total_tokens = before
    return answer.json()


def test_loading_what_a_spare_worker_loads_asks_for_no_device() -> None:
    """A spare becomes the worker of any device: CUDA_VISIBLE_DEVICES counts at the first use."""
    script = """
import torch
def ask(*_, **__):
    raise AssertionError("a device was asked for")
for name in ("is_available", "device_count", "init", "_lazy_init"):
    setattr(torch.cuda, name, ask)
from ucurve.modeling.preload import preload
preload()
import sys
assert "transformers.models.gpt_neox.modeling_gpt_neox" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
