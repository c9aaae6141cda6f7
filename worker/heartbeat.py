"""Heartbeats to the supervisor, through a pipe: no database, disk or network can delay them.

`ucurve up` kills a worker that sends none for 30 s, because all of its threads stand still. The
progress of the current point is checked by worker.lease; the database sees the worker by its row.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from ucurve.settings import settings

INTERVAL = 1.0  # seconds
RUNNING, READY = b".", b"r"

_started = threading.Event()
_ready = threading.Event()


def start_heartbeats() -> None:
    """Send heartbeats for the rest of the process's life, if a supervisor listens."""
    fd = settings().heartbeat_fd
    if fd is not None and not _started.is_set():
        _started.set()
        threading.Thread(target=_beat, args=(fd,), name="heartbeat", daemon=True).start()


def report_ready() -> None:
    """From now on the heartbeats say that this worker is registered and works."""
    _ready.set()


def report_starting() -> None:
    """Take `report_ready` back: a spare becomes a worker, which is not registered yet."""
    _ready.clear()


def _beat(fd: int) -> None:
    with suppress(OSError):  # the supervisor has ended
        os.set_blocking(fd, False)
        while True:
            with suppress(BlockingIOError):  # a supervisor that stands still reads nothing
                os.write(fd, READY if _ready.is_set() else RUNNING)
            _pause()


def _pause() -> None:
    """Wait for the next heartbeat; the first one of a ready worker is sent at once."""
    if _ready.is_set():
        threading.Event().wait(INTERVAL)
    else:
        _ready.wait(INTERVAL)
