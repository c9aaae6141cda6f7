"""The Celery app, and the wake-up: "there may be work". Light: the API imports it, torch does not come along.

Rows in Postgres are the truth, so a message carries nothing, expires soon, and may be lost or doubled without harm:
workers also look by themselves every few seconds. Start one process per GPU:

    CUDA_VISIBLE_DEVICES=0 celery -A worker.queue worker -P threads -c 1 -n gpu0@%h
"""

from __future__ import annotations

import logging

from celery import Celery
from kombu.exceptions import OperationalError

from ucurve.settings import settings

QUEUE = "measurements"
WAKE_UP_EXPIRES = 30.0  # seconds; older than this a worker has looked by itself

log = logging.getLogger(__name__)

app = Celery(
    "ucurve",
    broker=settings().broker_url,
    include=["worker.tasks"],
)
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_acks_late=False,  # late ack runs longer tasks twice, early ack loses them: our leases do neither
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,  # a broker restart must not stop a measurement
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_hijack_root_logger=False,
    broker_transport_options={
        "socket_connect_timeout": 2,
        "socket_timeout": 60,
        "visibility_timeout": 3600,
    },
)


def wake_workers(count: int = 1) -> bool:
    """Send wake-ups; call it after the commit. False when the broker does not answer: workers look by themselves soon."""
    try:
        for _ in range(count):
            app.send_task("worker.tasks.drain", expires=WAKE_UP_EXPIRES, retry=False)
    except OperationalError as error:
        log.warning("no wake-up sent, workers will find the work by themselves: %s", error)
        return False
    return True
