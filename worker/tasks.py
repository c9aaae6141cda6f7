"""The measuring loop: claim a slice, run each point, finish or fail it, until there is nothing left.

`drain` is the Celery task that a wake-up starts; a timer calls the same loop, so that neither a lost message nor a dead
broker or API leaves work undone. One loop runs at a time in a process, because a process has one device.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from db import leases
from db.session import open_session
from db.submissions import SuiteTakenError, register_suite
from ucurve.experiments import kinds
from ucurve.schemas.measurements import encode_metrics, finite_or_none
from ucurve.settings import settings
from ucurve.spec import Point, PointInterrupted, Result
from worker.device import describe_worker
from worker.device_health import Soundness
from worker.lease import Lease, Progress
from worker.log_tail import LogTail
from worker.queue import app

T = TypeVar("T")
SuiteRows = tuple[dict[str, Any], list[dict[str, Any]]]
POLL_SECONDS = 3.0
LONGEST_SLICE = 6.0  # seconds after which the unbegun points of a slice are given back
DATABASE_PATIENCE = 600.0  # seconds for which a finished number waits for the database to come back
EXIT_BROKEN = 70  # EX_SOFTWARE
KEPT = 4  # loaded checkpoints and the like that a process keeps

REFUSED = (
    DataError,
    IntegrityError,
    ProgrammingError,
    SuiteTakenError,
)  # said of the result, not of the database

log = logging.getLogger(__name__)


@dataclass
class Context:
    """What an experiment sees of this process (ucurve.spec.Context)."""

    device: str
    artefacts: Path
    kept: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    state_dir: Path = Path()
    reporting: Progress | None = None

    def progress(self, done: float, total: float, **metrics: float) -> None:
        assert self.reporting is not None, "progress() is for a running point"
        self.reporting.report(done, total, metrics)

    def cached(self, key: str, make: Callable[[], T]) -> T:
        if key not in self.kept:
            while (
                len(self.kept) >= KEPT
            ):  # before making: the old and the new together may not fit the device
                self.kept.popitem(last=False)
            started = time.monotonic()
            self.kept[key] = make()
            if (took := time.monotonic() - started) > 0.05:
                log.info("made %s in %.1f s", key, took)
        self.kept.move_to_end(key)
        return cast(T, self.kept[key])


class Drain:
    """The loop of one process and what it carries from one point to the next."""

    def __init__(self) -> None:
        self.worker = describe_worker()
        self.tail = LogTail()
        self.lease = Lease(self.worker, self.tail)
        self.context = Context(self.worker["device"], settings().artefacts)
        self.loaded: str | None = None
        self.speed = 1.0  # measured / planned seconds, of the latest points
        self.soundness = Soundness(self.worker["device"])
        self._busy = threading.Lock()
        self._again = threading.Event()

    def run(self) -> None:
        """1. claim a slice; 2. measure its points; 3. again, until nothing is left. Returns at once if it runs already."""
        self._again.set()
        while self._again.is_set() and self._busy.acquire(blocking=False):
            try:
                self._again.clear()
                while (
                    not self.soundness.broken
                    and not self.lease.leaving.is_set()
                    and self._measure_slice()
                ):
                    pass
            except (DBAPIError, PoolTimeoutError) as error:
                log.warning(
                    "the database does not answer, the timer tries again: %s",
                    str(error).splitlines()[0],
                )
            finally:
                self._busy.release()
        if self.soundness.broken:
            log.critical("leaving, so that a whole process is started: %s", self.soundness.broken)
            self.end()
            os._exit(EXIT_BROKEN)

    def poll(self) -> None:
        """The timer: look for work every few seconds until the process leaves."""
        while not self.lease.leaving.wait(POLL_SECONDS):
            self.run()

    def end(self) -> None:
        """Wait until the loop has given its work back (Celery waits for its own task only), then say goodbye."""
        if self._busy.acquire(timeout=60):
            try:
                self.lease.say_goodbye()
            except (DBAPIError, PoolTimeoutError) as error:
                log.warning(
                    "the database does not answer, leaving without a goodbye: %s",
                    str(error).splitlines()[0],
                )

    def _measure_slice(self) -> bool:
        me = self.worker
        token, points = committed(
            lambda session: leases.claim(
                session, me["name"], me["device"], me["memory_gb"], self.loaded, self.speed
            ),
            patience=0,
        )
        if not points:
            return False
        self.lease.hold(token)
        started = time.monotonic()
        try:
            for claimed in points:
                if (
                    self.soundness.broken
                    or self.lease.leaving.is_set()
                    or time.monotonic() - started > LONGEST_SLICE
                ):
                    break  # the points were slower than planned: other workers may have the rest
                if self.lease.still_wanted(claimed.id):
                    self._measure(token, claimed)
        finally:
            self.lease.drop()
            committed(lambda session: leases.release(session, token))  # whatever was not finished
        return True

    def _measure(self, token: str, claimed: leases.ClaimedPoint) -> None:
        me = self.worker
        attempt = committed(
            lambda session: leases.begin(
                session, claimed.id, token, me["name"], me["device"], me["versions"]
            ),
            patience=0,
        )
        if attempt is None:
            return
        started = time.monotonic()
        self.tail.begin()
        outcome, suite = self._outcome(claimed)
        logged = self.tail.text()
        if outcome is None or self.soundness.broken:
            lost = outcome["traceback"] if outcome else None
            committed(lambda session: leases.release(session, token, claimed.id, lost, logged))
            return
        outcome["log"] = logged
        self.speed += 0.3 * ((time.monotonic() - started) / max(claimed.seconds, 1e-6) - self.speed)
        self.loaded = claimed.group_key
        if not finished(token, claimed.id, attempt, outcome, suite):
            log.warning(
                "measurement %d is somebody else's by now; its number is dropped", claimed.id
            )
        elif "traceback" not in outcome:
            shutil.rmtree(
                self.context.state_dir, ignore_errors=True
            )  # what it would have resumed from

    def _outcome(self, claimed: leases.ClaimedPoint) -> tuple[dict[str, Any] | None, SuiteRows | None]:
        """Run the point: its numbers, or the traceback of its failure, or None when it was stopped."""
        point = Point(claimed.inputs, {}, claimed.source, claimed.group_key, repetition=claimed.repeat)
        own = f"{claimed.identity}-{claimed.repeat}" if claimed.repeat else claimed.identity
        self.context.state_dir = self.context.artefacts / "state" / own
        self.context.reporting = self.lease.work_on(claimed.id)
        try:
            if claimed.kind not in kinds():
                raise LookupError(
                    f"this worker does not know the kind {claimed.kind!r}; it knows {', '.join(kinds())}"
                )
            result = kinds()[claimed.kind].run(point, self.context)
            self.soundness.measured()
            return as_rows(result), suite_rows(result)
        except PointInterrupted:
            return None, None
        except (
            Exception
        ) as error:  # the one broad except: whatever an experiment raises becomes its point's state
            log.exception("measurement %d failed", claimed.id)
            self.soundness.failed(error)
            return failure(), None
        finally:
            self.lease.work_on(None)


def failure() -> dict[str, Any]:
    """The exception being handled, as an outcome; text in Postgres has no NUL."""
    return {"traceback": traceback.format_exc().replace("\0", "\\0")}


def finished(
    token: str, measurement: int, attempt: int, outcome: dict[str, Any], suite: SuiteRows | None
) -> bool:
    """Write the outcome, and the suite that the point made; False when the lease is somebody else's.

    A result that the database refuses fails the point: measuring it again would end the same way.
    """

    def write(session: Session) -> bool:
        held = leases.finish(session, measurement, token, attempt, outcome)
        if held and suite:
            register_suite(session, *suite)
        return held

    try:
        return committed(write)
    except REFUSED:
        refused = {**failure(), "log": outcome["log"]}
        return committed(
            lambda session: leases.finish(session, measurement, token, attempt, refused)
        )


def committed(action: Callable[[Session], T], patience: float = DATABASE_PATIENCE) -> T:
    """Do one transaction; while the database does not answer, try again for `patience` seconds.

    Twice is harmless: every transition compares the lease's token.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            with open_session() as session:
                answer = action(session)
                session.commit()
                return answer
        except (DBAPIError, PoolTimeoutError) as error:
            if time.monotonic() > deadline or isinstance(error, REFUSED):
                raise
            log.warning(
                "the database does not answer, trying again: %s", str(error).splitlines()[0]
            )
            time.sleep(1.0)


def as_rows(result: Result) -> dict[str, Any]:
    """Metrics with inf and NaN as states, series with them as null: JSON has neither."""
    metrics, nonfinite = encode_metrics(result.metrics)
    series = {
        name: [finite_or_none(float(value)) for value in values]
        for name, values in result.series.items()
    }
    return {"metrics": metrics, "nonfinite": nonfinite, "series": series}


def suite_rows(result: Result) -> SuiteRows | None:
    if result.suite is None:
        return None
    suite = result.suite.model_dump(
        mode="json", include={"name", "description", "evaluation", "recipe"}
    )
    return suite, [checkpoint.model_dump(mode="json") for checkpoint in result.suite.checkpoints]


_drain: Drain | None = None


def the_drain() -> Drain:
    """This process's loop; its lease thread and its timer start with it."""
    global _drain
    if _drain is None:
        _drain = Drain()
        _drain.tail.listen()
        _drain.lease.start()
        threading.excepthook = _leave_the_process
        threading.Thread(target=_drain.poll, name="poll", daemon=True).start()
    return _drain


def _leave_the_process(args: threading.ExceptHookArgs) -> None:
    """A worker that has lost its timer or its lease thread must not look alive: its supervisor starts a whole one."""
    log.critical("thread %s died", args.thread and args.thread.name, exc_info=args.exc_value)
    os._exit(EXIT_BROKEN)


@app.task(name="worker.tasks.drain")  # type: ignore[untyped-decorator]
def drain() -> None:
    """A wake-up arrived."""
    the_drain().run()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _start(**_: Any) -> None:
    the_drain()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _leave(**_: Any) -> None:
    """SIGTERM: the current point stops at its next report and is given back; what it saved is there for the next worker."""
    if _drain is not None:
        _drain.lease.leave()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    if _drain is not None:
        _drain.end()
