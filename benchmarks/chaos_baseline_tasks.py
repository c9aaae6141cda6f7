"""The Celery app of chaos_baseline.py: a task computes for a moment and appends one row.

BASELINE_BROKER, BASELINE_DATABASE and BASELINE_LATE (1: late acknowledgement) configure it. Tasks
retry while the database is away, as Celery's documentation recommends.
"""

from __future__ import annotations

import os
import time

import psycopg
from celery import Celery

app = Celery("baseline", broker=os.environ.get("BASELINE_BROKER", ""))
LATE = os.environ.get("BASELINE_LATE") == "1"
app.conf.update(
    task_acks_late=LATE,
    task_reject_on_worker_lost=LATE,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)


@app.task(
    autoretry_for=(psycopg.OperationalError,), retry_backoff=1, retry_jitter=False, max_retries=10
)
def append(number: int, seconds: float) -> None:
    """Compute for so long, then append the row of this task."""
    time.sleep(seconds)
    with psycopg.connect(os.environ["BASELINE_DATABASE"], connect_timeout=2) as session:
        session.execute("INSERT INTO appended (task) VALUES (%s)", [number])
