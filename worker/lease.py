"""The thread that renews the lease of a worker's claimed points and stops cancelled ones.

It lives as long as the process. Every few seconds it sends the worker's heartbeat, renews the
lease, publishes the current point's progress and learns whether its experiment is still active.
When a point reports nothing for UCURVE_HANG_SECONDS the process exits: its supervisor starts
another one, and the lease expires.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Case, case, delete, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from db import leases
from db.models import Worker
from db.session import open_session
from ucurve.settings import settings
from ucurve.spec import PointInterrupted
from worker.heartbeat import report_ready
from worker.log_tail import LogTail
from worker.space import SpaceWatch
from worker.statistics import WorkerStatistics

EXIT_HUNG = 75  # EX_TEMPFAIL
PUBLISH_INTERVAL = 2.0  # seconds between published updates: every browser redraws for each
LOG_INTERVAL = 10.0  # seconds between log lines about progress
CURVE_LENGTH = 200  # values of a live curve; older ones are thinned out

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Progress of the current point: it reports, the lease thread publishes and sets `stop`."""

    measurement: int
    stop: threading.Event = field(default_factory=threading.Event)
    reported_at: float = field(default_factory=time.monotonic)
    live: dict[str, Any] = field(default_factory=dict)
    changed: bool = False
    published_at: float = 0.0
    logged_at: float = field(default_factory=time.monotonic)
    times: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=20))

    def report(self, done: float, total: float, metrics: dict[str, float]) -> None:
        """Record work done, in the units of `total`, and append `metrics` to the live curves.

        Raises PointInterrupted when the point is cancelled or the worker is shutting down.
        """
        self.reported_at = time.monotonic()
        rate = self._rate(done)
        series = self.live.get("series", {})
        if metrics:
            for name, value in {"done": done, **metrics}.items():
                series[name] = _thinned(
                    [*series.get(name, []), value if abs(value) < float("inf") else None]
                )
        self.live = {
            "done": done,
            "total": total,
            "rate": rate,
            "seconds_left": (total - done) / rate if rate else None,
            "series": series,
        }
        self.changed = True
        if self.reported_at - self.logged_at > LOG_INTERVAL:
            self.logged_at = self.reported_at
            values = "".join(f", {name} {value:.5g}" for name, value in metrics.items())
            log.info("%g of %g%s", done, total, values)
        if self.stop.is_set():
            raise PointInterrupted

    def _rate(self, done: float) -> float | None:
        """Return the work done per second over the latest reports; None after the first one."""
        if self.times and done < self.times[-1][1]:
            self.times.clear()  # a new stage of the work began
        if not self.times or self.reported_at - self.times[-1][0] > 0.25:
            self.times.append((self.reported_at, done))
        (first_time, first_done), (last_time, last_done) = self.times[0], self.times[-1]
        elapsed = last_time - first_time
        return (last_done - first_done) / elapsed if elapsed > 0 else None


def _thinned(curve: list[float | None]) -> list[float | None]:
    """Drop every second value of the older half of a long curve; recent values stay dense."""
    if len(curve) <= CURVE_LENGTH:
        return curve
    half = len(curve) // 2
    return curve[:half:2] + curve[half:]


def _start_of(pid: int) -> Case[datetime]:
    """Return the start of this process: a restarted worker takes over the row of its name."""
    return case((Worker.pid == pid, Worker.started_at), else_=func.clock_timestamp())


class Lease(threading.Thread):
    """The worker's heartbeat and its lease on claimed points, see the module's docstring."""

    def __init__(
        self,
        worker: dict[str, Any],
        tail: LogTail,
        statistics: WorkerStatistics,
        space: SpaceWatch,
    ) -> None:
        super().__init__(name="lease", daemon=True)
        self.worker = worker
        self.tail = tail
        self.statistics = statistics
        self.space = space
        self.leaving = threading.Event()
        self._token: str | None = None
        self._progress: Progress | None = None
        self._cancelled: set[int] = set()
        self._deregistered = threading.Event()

    def acquire(self, token: str) -> None:
        """Start renewing the lease with this token."""
        self._cancelled = set()
        self._token = token

    def release(self) -> None:
        """Stop renewing the lease."""
        self._token = None

    def start_point(self, measurement: int) -> Progress:
        """Publish the progress of this measurement from now on."""
        self._progress = Progress(measurement)
        if self.leaving.is_set():
            self._progress.stop.set()
        return self._progress

    def end_point(self) -> None:
        """Stop publishing progress."""
        self._progress = None

    def still_wanted(self, measurement: int) -> bool:
        """Return whether the last renewal found the measurement in an active experiment."""
        return measurement not in self._cancelled

    def leave(self) -> None:
        """Stop the current point at its next report, and claim no other."""
        self.leaving.set()
        if progress := self._progress:
            progress.stop.set()

    def deregister(self) -> None:
        """Stop the thread and delete this worker's row, so that it does not count as lost."""
        self._deregistered.set()
        self.join(timeout=5)
        with open_session() as session:
            session.execute(
                delete(Worker).where(
                    Worker.name == self.worker["name"], Worker.pid == self.worker["pid"]
                )
            )
            session.commit()

    def run(self) -> None:
        """Heartbeat and renewal until `deregister`."""
        while not self._deregistered.is_set():
            try:
                self._heartbeat()
                report_ready()
                self._renew()
            except (DBAPIError, PoolTimeoutError) as error:
                log.warning("database unavailable, retrying: %s", str(error).splitlines()[0])
            self._exit_when_hung()
            interval = settings().lease_seconds / 5
            self._deregistered.wait(min(1.0, interval) if self._progress else interval)

    def _heartbeat(self) -> None:
        progress = self._progress
        silent = None if progress is None else time.monotonic() - progress.reported_at
        with open_session() as session:
            row = {
                **self.worker,
                "seen_at": text("clock_timestamp()"),
                "statistics": self.statistics.report(silent),
                "waits_for": self.space.waits_for(),
            }
            session.execute(
                insert(Worker)
                .values(**row)
                .on_conflict_do_update(
                    index_elements=["name"],
                    set_={**row, "started_at": _start_of(self.worker["pid"])},
                )
            )
            session.commit()

    def _renew(self) -> None:
        token, progress = self._token, self._progress
        if token is None:
            return
        with open_session() as session:
            wanted = leases.renew(session, token)
            if progress and progress.measurement in wanted and (lines := self.tail.new_lines()):
                leases.keep_log(session, progress.measurement, lines)
            session.commit()
        self._cancelled = {measurement for measurement, active in wanted.items() if not active}
        if progress and not wanted.get(progress.measurement, False) and self._token == token:
            progress.stop.set()
        elif progress:
            self._publish(token, progress)

    def _publish(self, token: str, progress: Progress) -> None:
        """Publish progress in a transaction of its own: it may fail and is tried again soon."""
        if (
            not progress.changed
            or time.monotonic() - progress.published_at < PUBLISH_INTERVAL - 0.1
        ):
            return
        progress.changed, progress.published_at = False, time.monotonic()
        try:
            with open_session() as session:
                leases.publish_live(session, progress.measurement, token, progress.live)
                session.commit()
        except (DBAPIError, PoolTimeoutError) as error:
            progress.changed = True
            log.info("progress is published later: %s", str(error).splitlines()[0])

    def _exit_when_hung(self) -> None:
        progress = self._progress
        if progress and time.monotonic() - progress.reported_at > settings().hang_seconds:
            log.critical(
                "measurement %d has not reported progress for %.0f s: exiting",
                progress.measurement,
                settings().hang_seconds,
            )
            os._exit(EXIT_HUNG)
