"""The state of the lab, read once for all who ask within two seconds.

The dashboard of every viewer, `ucurve status` and Prometheus share one reading: it costs a few
queries, however many ask.
"""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from api.failures import by_cause, to_groups
from api.single_flight import SingleFlightCache
from db import status
from db.eta import seen_workers
from db.models import Worker
from db.session import open_session
from ucurve.schemas.status import (
    DiskSpace,
    LabStatus,
    RunningPoint,
    WorkerState,
    WorkerStatus,
)
from ucurve.settings import settings

MAX_AGE = 2.0  # seconds
STALLED_SECONDS = 120.0  # without progress of a point, while its worker reports
MAX_WORKERS = 200  # those that reported last

_readings = SingleFlightCache[LabStatus]("status", size=1)


async def current_status() -> LabStatus:
    """Return the state of the lab, at most MAX_AGE old."""
    return await _readings.get(int(time.monotonic() / MAX_AGE), read_status)


def read_status() -> LabStatus:
    """Read the state of the lab."""
    moment = datetime.now(UTC)
    with open_session() as session:
        workers = _workers(session, moment)
        failures = to_groups(by_cause(status.failed_points(session)))
        queue, totals = status.queues(session), status.totals(session)
    live = [worker for worker in workers if worker.alive]
    return LabStatus(
        at=moment,
        workers=workers,
        queue=queue,
        failures=failures,
        points_per_second=sum(worker.points_per_second for worker in live),
        tokens_per_second=sum(worker.tokens_per_second for worker in live),
        disks=_disks(),
        **totals,
    )


def _workers(session: Session, moment: datetime) -> list[WorkerStatus]:
    running = {row.worker: row for row in status.running_points(session)}
    workers = sorted(seen_workers(session), key=lambda seen: seen[0].seen_at, reverse=True)
    return [
        _worker(worker, alive, measuring, running.get(worker.name), moment)
        for worker, alive, measuring in sorted(
            workers[:MAX_WORKERS], key=lambda seen: (not seen[1], seen[0].name)
        )
    ]


def _worker(
    worker: Worker, alive: bool, measuring: list[int], row: Any, moment: datetime
) -> WorkerStatus:
    statistics = worker.statistics
    point = None if row is None or not alive else _point(row)
    silent = statistics.get("silent_seconds") if point else None
    state: WorkerState = "running" if point else "idle"
    if not alive:
        state = "lost"
    elif silent is not None and silent > STALLED_SECONDS:
        state = "stalled"
    columns = (
        *("name", "host", "pid", "device", "memory_gb", "versions", "started_at", "seen_at"),
        "waits_for",
    )
    return WorkerStatus(
        **{column: getattr(worker, column) for column in columns},
        alive=alive,
        measuring=measuring,
        state=state,
        heartbeat_age=max(0.0, (moment - worker.seen_at).total_seconds()),
        running=point,
        points_per_second=statistics.get("points_per_second", 0.0) if alive else 0.0,
        tokens_per_second=statistics.get("tokens_per_second", 0.0) if alive else 0.0,
        memory_used_bytes=statistics.get("memory_used_bytes"),
        silent_seconds=silent,
        measurements=statistics.get("measurements", []),
        seconds=statistics.get("seconds", {}),
        retries=statistics.get("retries", 0),
        tokens=statistics.get("tokens", 0),
    )


def _point(row: Any) -> RunningPoint:
    live = row.live or {}
    return RunningPoint(
        measurement=row.measurement,
        kind=row.kind,
        experiments=row.experiments,
        started_at=row.started_at,
        **{name: live.get(name) for name in ("done", "total", "rate", "seconds_left")},
    )


def _disks() -> list[DiskSpace]:
    try:
        usage = shutil.disk_usage(settings().artefacts)
    except OSError:
        return []  # the folder is not there: the metric is absent, and an alert can say so
    return [DiskSpace(folder="artefacts", free_bytes=usage.free, total_bytes=usage.total)]
