"""The worker loop: claim a slice of points, run each, record its outcome, until none is left.

A wake-up starts the loop and a timer starts it too, so that neither a lost message nor a broker or
API outage leaves work undone. One loop runs at a time in a process, because a process has one
device.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from db import leases
from ucurve.disk_space import is_disk_full
from ucurve.experiments import kinds
from ucurve.logs import log_context
from ucurve.settings import settings
from ucurve.spec import Point, PointInterrupted
from worker.context import PointContext
from worker.device import describe_worker
from worker.device_health import DeviceHealth
from worker.lease import Lease
from worker.log_tail import LogTail
from worker.outcomes import (
    SuiteRows,
    failure_outcome,
    record_outcome,
    serialize_result,
    serialize_suite,
)
from worker.space import SpaceWatch
from worker.statistics import WorkerStatistics
from worker.transactions import run_in_transaction
from worker.weights import KnownWeights

POLL_SECONDS = 3.0
MAX_SLICE_SECONDS = 6.0  # after this the points of a slice that have not begun are released
EXIT_BROKEN = 70  # EX_SOFTWARE

log = logging.getLogger(__name__)


class WorkerLoop:
    """The loop of one process and its state from one point to the next."""

    def __init__(self) -> None:
        self.worker = describe_worker()
        self.tail = LogTail()
        self.statistics = WorkerStatistics(self.worker["device"])
        self.space = SpaceWatch()
        self.lease = Lease(self.worker, self.tail, self.statistics, self.space)
        self.context = PointContext(self.worker["device"], settings().artefacts)
        self.loaded: str | None = None
        self.speed = 1.0  # measured / planned seconds of the latest points
        self.weights = KnownWeights()
        self.health = DeviceHealth(self.worker["device"])
        self._busy = threading.Lock()
        self._again = threading.Event()

    def run(self) -> None:
        """Claim and measure slices until no point is left; return at once if already running."""
        self._again.set()
        while self._again.is_set() and self._busy.acquire(blocking=False):
            try:
                self._again.clear()
                while not self._must_stop() and self._measure_slice():
                    pass
            except (DBAPIError, PoolTimeoutError) as error:
                log.warning(
                    "database unavailable, retrying in %g s: %s",
                    POLL_SECONDS,
                    str(error).splitlines()[0],
                )
            finally:
                self._busy.release()
        if self.health.broken:
            log.critical("exiting for a restart: %s", self.health.broken)
            self.end()
            os._exit(EXIT_BROKEN)

    def poll(self) -> None:
        """Run the loop every POLL_SECONDS until shutdown."""
        while not self.lease.leaving.wait(POLL_SECONDS):
            self.run()

    def end(self) -> None:
        """Wait until the loop has released its points, then deregister the worker.

        Celery itself waits for its own task only, not for a loop that the timer started.
        """
        if self._busy.acquire(timeout=60):
            try:
                self.lease.deregister()
            except (DBAPIError, PoolTimeoutError) as error:
                log.warning(
                    "database unavailable, exiting without deregistering: %s",
                    str(error).splitlines()[0],
                )

    def _must_stop(self) -> bool:
        return bool(self.health.broken) or self.lease.leaving.is_set()

    def _measure_slice(self) -> bool:
        """Claim and measure one slice; return False when there was nothing to claim."""
        worker = self.worker
        if self.space.no_claim():
            return False
        token, points = run_in_transaction(
            lambda session: leases.claim(
                session,
                worker["name"],
                worker["device"],
                worker["memory_gb"],
                self.loaded,
                self.speed,
            ),
            retry_for=0,
        )
        if not points:
            return False
        self.lease.acquire(token)
        started = time.monotonic()
        try:
            for claimed in points:
                late = time.monotonic() - started > MAX_SLICE_SECONDS
                if self._must_stop() or late or self.space.no_claim():
                    break  # leave the rest to other workers, or to a disk with space
                if self.lease.still_wanted(claimed.id):
                    context = {"experiment": claimed.experiment, "measurement": claimed.id}
                    with log_context(worker=worker["name"], **context):
                        self._measure(token, claimed)
        finally:
            self.lease.release()
            run_in_transaction(lambda session: leases.release(session, token))  # unfinished points
        return True

    def _measure(self, token: str, claimed: leases.ClaimedPoint) -> None:
        """Begin an attempt, run the point and record its outcome, or release it when stopped."""
        attempt, retried = run_in_transaction(
            lambda session: self._begin(session, token, claimed), retry_for=0
        )
        if attempt is None:
            return
        started = time.monotonic()
        self.tail.begin()
        outcome, suite = self._run_point(claimed)
        lines = self.tail.text()
        if outcome is None or self.health.broken:
            self.statistics.count(claimed.kind, "stopped", time.monotonic() - started, retried)
            error = outcome["traceback"] if outcome else None
            run_in_transaction(
                lambda session: leases.release(session, token, claimed.id, error, lines)
            )
            return
        outcome["log"] = lines
        seconds = time.monotonic() - started
        self.speed += 0.3 * (seconds / max(claimed.seconds, 1e-6) - self.speed)
        self.loaded = claimed.group_key
        state = record_outcome(token, claimed.id, attempt, outcome, suite)
        if state is None:
            log.warning("lease of measurement %d was lost; its result is discarded", claimed.id)
            return
        self.statistics.count(claimed.kind, state, seconds, retried)
        if state == "done":
            self.weights.complete(claimed.source, self.context.artefacts)
            shutil.rmtree(self.context.state_dir, ignore_errors=True)  # nothing left to resume

    def _begin(
        self, session: Session, token: str, claimed: leases.ClaimedPoint
    ) -> tuple[int | None, bool]:
        """Begin an attempt; return its id, None where the lease was lost, and if it is a retry."""
        worker = self.worker
        attempt = leases.begin(
            session, claimed.id, token, worker["name"], worker["device"], worker["versions"]
        )
        return attempt, attempt is not None and leases.is_retry(session, claimed.id, attempt)

    def _run_point(
        self, claimed: leases.ClaimedPoint
    ) -> tuple[dict[str, Any] | None, SuiteRows | None]:
        """Return the result or the traceback of the failure, and the suite; None when stopped."""
        point = Point(
            claimed.inputs, {}, claimed.source, claimed.group_key, repetition=claimed.repeat
        )
        folder = f"{claimed.identity}-{claimed.repeat}" if claimed.repeat else claimed.identity
        self.context.state_dir = self.context.artefacts / "state" / folder
        self.context.reporter = self.lease.start_point(claimed.id)
        try:
            if claimed.kind not in kinds():
                raise LookupError(
                    f"kind {claimed.kind!r} is not installed on this worker; "
                    f"installed: {', '.join(kinds())}"
                )
            result = kinds()[claimed.kind].run(point, self.context)
            self.health.record_success()
            self.space.record_success()
            return serialize_result(result), serialize_suite(result)
        except PointInterrupted:
            return None, None
        except Exception as error:  # any exception of an experiment fails its point
            if is_disk_full(error):
                log.warning("measurement %d is released, a disk is full: %s", claimed.id, error)
                self.space.record_failure()
                return None, None
            log.exception("measurement %d failed", claimed.id)
            self.health.record_failure(error)
            return failure_outcome(), None
        finally:
            self.lease.end_point()
