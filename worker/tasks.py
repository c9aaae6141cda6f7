"""The Celery side of a worker: the wake-up task, start-up and shutdown."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Any

from celery.signals import (
    setup_logging,
    worker_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from ucurve.logs import configure_logs
from ucurve.settings import settings
from worker.heartbeat import start_heartbeats
from worker.loop import EXIT_BROKEN, WorkerLoop
from worker.predecessor import expire_leases_of_predecessor
from worker.queue import app
from worker.trials import Trials

log = logging.getLogger(__name__)

_worker_loop: WorkerLoop | None = None
_trials: Trials | None = None


def get_worker_loop() -> WorkerLoop:
    """Return this process's loop; the first call starts its lease thread and its timer."""
    global _worker_loop, _trials
    if _worker_loop is None:
        _worker_loop = WorkerLoop()
        expire_leases_of_predecessor(_worker_loop.worker)
        _worker_loop.tail.listen()
        _worker_loop.lease.start()
        threading.excepthook = _exit_process
        threading.Thread(target=_worker_loop.poll, name="poll", daemon=True).start()
        _trials = Trials(_worker_loop.worker["name"], _worker_loop.lease.leaving)
        _trials.start()
    return _worker_loop


def _exit_process(args: threading.ExceptHookArgs) -> None:
    """Exit when the timer or the lease thread dies, so that the supervisor restarts the worker."""
    log.critical("thread %s died", args.thread and args.thread.name, exc_info=args.exc_value)
    os._exit(EXIT_BROKEN)


@app.task(name="worker.tasks.drain")  # type: ignore[untyped-decorator]
def drain() -> None:
    """Handle a wake-up."""
    loop = get_worker_loop()
    if _trials is not None:
        _trials.wake()
    loop.run()


@setup_logging.connect  # type: ignore[untyped-decorator]
def _configure_logs(loglevel: int | None = None, **_: Any) -> None:
    configure_logs(loglevel or logging.WARNING)
    if settings().log_format == "json":
        # Celery writes "worker: Warm shutdown" there directly, in no log's format.
        setattr(sys, "__stdout__", None)  # noqa: B010 - the type checker has it as final


@worker_init.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    start_heartbeats()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _start(**_: Any) -> None:
    get_worker_loop()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _leave(**_: Any) -> None:
    """Handle SIGTERM: the current point stops at its next report and is released.

    The next worker resumes from the state that the point saved.
    """
    if _worker_loop is not None:
        _worker_loop.lease.leave()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    if _worker_loop is not None:
        _worker_loop.end()
