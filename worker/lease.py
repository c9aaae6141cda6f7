"""The lease of the points in a worker's hands: renewed by a thread, which also says when to stop.

The thread lives as long as the process. While points are held it renews their lease every few seconds, writes what the
current point reports, and learns whether anybody still wants it; it also says that the worker is alive. A point that
reports nothing for UCURVE_HANG_SECONDS is taken for hung: the process exits, its supervisor starts another one, and the lease
runs out by itself.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from db import leases
from db.models import Worker
from db.session import open_session
from ucurve.settings import settings
from ucurve.spec import PointInterrupted
from worker.log_tail import LogTail

EXIT_HUNG = 75  # EX_TEMPFAIL
TOLD_SECONDS = 2.0  # between two changes of what everybody sees a point report: each is drawn anew in every browser
SAID_SECONDS = 10.0  # between two lines of log about how far a point is
CURVE_LENGTH = 200  # values of a live curve; older ones are thinned out

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """What the current point reports, and what the thread answers it."""

    measurement: int
    stop: threading.Event = field(default_factory=threading.Event)
    heard: float = field(default_factory=time.monotonic)
    started: float = field(default_factory=time.monotonic)
    first_done: float | None = None
    live: dict[str, Any] = field(default_factory=dict)
    changed: bool = False
    told: float = 0.0
    said: float = field(default_factory=time.monotonic)
    times: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=20))

    def report(self, done: float, total: float, metrics: dict[str, float]) -> None:
        """Note work done; raises PointInterrupted when nobody wants the number any more or the worker is leaving."""
        now = self.heard = time.monotonic()
        if self.times and done < self.times[-1][1]:
            self.times.clear()  # another stage of the work began
        if not self.times or now - self.times[-1][0] > 0.25:
            self.times.append((now, done))
        (then, before), (last, latest) = self.times[0], self.times[-1]
        rate = (latest - before) / (last - then) if last > then else None
        series = self.live.get("series", {})
        if metrics:
            for name, value in {"done": done, **metrics}.items():
                series[name] = _thinned(
                    [*series.get(name, []), value if abs(value) < float("inf") else None]
                )
        left = (total - done) / rate if rate else None
        self.live = {
            "done": done,
            "total": total,
            "rate": rate,
            "seconds_left": left,
            "series": series,
        }
        self.changed = True
        if now - self.said > SAID_SECONDS:
            self.said = now
            log.info(
                "%g of %g%s",
                done,
                total,
                "".join(f", {name} {value:.5g}" for name, value in metrics.items()),
            )
        if self.stop.is_set():
            raise PointInterrupted


def _thinned(curve: list[float | None]) -> list[float | None]:
    """Every second value of the older half once the curve is too long: recent values stay dense."""
    if len(curve) <= CURVE_LENGTH:
        return curve
    half = len(curve) // 2
    return curve[:half:2] + curve[half:]


class Lease(threading.Thread):
    """Renews what is held; `hold`, `work_on` and `drop` say what that is."""

    def __init__(self, worker: dict[str, Any], tail: LogTail) -> None:
        super().__init__(name="lease", daemon=True)
        self.worker = worker
        self.tail = tail
        self.leaving = threading.Event()
        self._token: str | None = None
        self._progress: Progress | None = None
        self._unwanted: set[int] = set()
        self._gone = threading.Event()

    def hold(self, token: str) -> None:
        self._unwanted = set()
        self._token = token

    def drop(self) -> None:
        self._token = None

    def work_on(self, measurement: int | None) -> Progress | None:
        self._progress = None if measurement is None else Progress(measurement)
        if self._progress and self.leaving.is_set():
            self._progress.stop.set()
        return self._progress

    def still_wanted(self, measurement: int) -> bool:
        return measurement not in self._unwanted

    def leave(self) -> None:
        """Stop the current point as soon as it reports, and take no other."""
        self.leaving.set()
        if progress := self._progress:
            progress.stop.set()

    def say_goodbye(self) -> None:
        """Leave the list of workers; whoever looks knows at once that this one is not there to wait for."""
        self._gone.set()
        self.join(timeout=5)
        with open_session() as session:
            session.execute(
                delete(Worker).where(
                    Worker.name == self.worker["name"], Worker.pid == self.worker["pid"]
                )
            )
            session.commit()

    def run(self) -> None:
        while not self._gone.is_set():
            try:
                self._say_alive()
                self._renew()
            except (DBAPIError, PoolTimeoutError) as error:
                log.warning(
                    "the database does not answer, trying again: %s", str(error).splitlines()[0]
                )
            self._exit_when_hung()
            renew = settings().lease_seconds / 5
            self._gone.wait(min(1.0, renew) if self._progress else renew)

    def _say_alive(self) -> None:
        with open_session() as session:
            row = {**self.worker, "seen_at": text("clock_timestamp()")}
            session.execute(
                insert(Worker)
                .values(**row)
                .on_conflict_do_update(index_elements=["name"], set_=row)
            )
            session.commit()

    def _renew(self) -> None:
        token, progress = self._token, self._progress
        if token is None:
            return
        live = {}
        if progress and progress.changed and time.monotonic() - progress.told >= TOLD_SECONDS - 0.1:
            live = {progress.measurement: progress.live}
            progress.changed, progress.told = False, time.monotonic()
        with open_session() as session:
            wanted = leases.renew(session, token, live)
            if progress and progress.measurement in wanted and (logged := self.tail.news()):
                leases.keep_log(session, progress.measurement, logged)
            session.commit()
        self._unwanted = {measurement for measurement, still in wanted.items() if not still}
        if progress and not wanted.get(progress.measurement, False) and self._token == token:
            progress.stop.set()

    def _exit_when_hung(self) -> None:
        progress = self._progress
        if progress and time.monotonic() - progress.heard > settings().hang_seconds:
            log.critical(
                "measurement %d has not reported for %.0f s: leaving the process",
                progress.measurement,
                settings().hang_seconds,
            )
            os._exit(EXIT_HUNG)
