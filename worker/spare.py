"""A spare worker: a process that has loaded torch and waits to replace a worker that died.

`ucurve up` starts `python -m worker.spare` and writes one line to its standard input: a JSON object
with the name, device, log and command of the worker that it becomes. At the end of its input it
exits.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

from ucurve import code_version
from ucurve.experiments import kinds
from ucurve.modeling.preload import preload
from ucurve.settings import settings
from worker import heartbeat

MODULES = (
    "celery.__main__",
    "celery.apps.worker",
    "celery.bin.worker",
    "celery.concurrency.thread",
    "kombu.transport.redis",
    "worker.tasks",
)


def main() -> None:
    """Load, report, wait, become a worker."""
    heartbeat.start_heartbeats()
    _load()
    heartbeat.report_ready()
    order = sys.stdin.buffer.readline()
    if order:
        _become(json.loads(order))


def _load() -> None:
    """Import what a worker imports until its first result."""
    for name in MODULES:
        import_module(name)
    kinds()
    preload()
    code_version()  # of the sources as they were loaded; an upgrade may change them meanwhile


def _become(order: dict[str, Any]) -> None:
    """Run a worker's command in this process."""
    from celery.__main__ import main as celery_main

    heartbeat.report_starting()
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order["env"])
    settings.cache_clear()
    sys.argv = order["command"]
    celery_main()


if __name__ == "__main__":
    main()
