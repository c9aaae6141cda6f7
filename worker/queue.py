"""The Celery app and the wake-up message; light, because the API imports it (no torch).

Postgres holds the queue, so a message carries nothing, expires soon, and may be lost or delivered
twice without harm: workers also poll every few seconds. Start one process per GPU:

    CUDA_VISIBLE_DEVICES=0 celery -A worker.queue worker -P threads -c 1 -n gpu0@%h
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.signals import celeryd_init
from kombu.exceptions import OperationalError

from ucurve.logs import configure_logs
from ucurve.settings import settings

QUEUE = "measurements"
WAKE_UP_EXPIRES = 30.0  # seconds; by then every worker has polled

log = logging.getLogger(__name__)

app = Celery(
    "ucurve",
    broker=settings().broker_url,
    include=["worker.tasks"],
)
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    # Late acks run long tasks twice, early acks lose them; the leases in Postgres prevent both.
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    # A broker restart must not stop a measurement.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_hijack_root_logger=False,
    broker_transport_options={
        "socket_connect_timeout": 2,
        "socket_timeout": 5,
        "visibility_timeout": 3600,
    },
)


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _configure_logs(**_: Any) -> None:
    """Before Celery's own checks, which warn: every line of a log has one format."""
    configure_logs(logging.WARNING)


def wake_workers(count: int = 1) -> bool:
    """Send wake-ups, after the commit; return False when the broker is unavailable.

    Without a wake-up the workers find the work at their next poll.
    """
    try:
        for _ in range(count):
            app.send_task("worker.tasks.drain", expires=WAKE_UP_EXPIRES, retry=False)
    except OperationalError as error:
        log.warning("no wake-up sent, workers will find the work at their next poll: %s", error)
        return False
    return True
