"""The lab under attack: people use it, faults hit it, then it must come to rest."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from ucurve.chaos import database
from ucurve.chaos.faults import NAMES, Faults
from ucurve.chaos.installation import Installation, admin_token
from ucurve.chaos.people import Entry, Person, make_people
from ucurve.chaos.proxy import Link
from ucurve.chaos.recovery import recoveries
from ucurve.chaos.remote import RemoteWorker
from ucurve.chaos.report import Report
from ucurve.chaos.schedule import Planned
from ucurve.chaos.undisturbed import weight_hashes
from ucurve.client import Client, RequestRejectedError
from ucurve.client.http import ClientError

POSTPONE_SECONDS = 4.0  # a fault whose target does not run is tried again so much later
MOST_POSTPONED = 4  # times
PEOPLE_PATIENCE = 120.0  # seconds for the last requests of people
FINISH_SECONDS = 300.0  # to finish all work after the last fault
SETTLE_SECONDS = 30.0  # longer than a lease: what is still held then is held by the dead
PROGRESS_SECONDS = 10.0
TICK_SECONDS = 0.1

Snapshot = dict[str, list[dict[str, Any]]]


@dataclass
class Attack:
    """One lab under attack. All of it runs in the main thread, which must start its processes."""

    lab: Installation
    remote: RemoteWorker
    front: Link  # between people and the API
    planned: Sequence[Planned]
    seed: int
    num_people: int
    report: Report
    log: Callable[[str], None]
    people: list[Person] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    postponed: Counter[tuple[str, str]] = field(default_factory=Counter)
    sampler: database.WorkSampler = field(init=False)
    faults: Faults = field(init=False)

    def __post_init__(self) -> None:
        self.sampler = database.WorkSampler(self.lab.sockets)
        self.faults = Faults(
            self.lab,
            self.remote,
            {"api": self.front, **self.remote.links},
            random.Random(self.seed),
            lambda: self.sampler.backends,
        )

    def run(self, seconds: float) -> tuple[Snapshot, dict[str, str]]:
        """Attack for so long; return all rows and the hashes of all weights that are left."""
        admin = Client(self.lab.url, admin_token(self.lab.data))
        self.people = make_people(
            admin, f"http://{self.front.host}:{self.front.port}", self.seed, self.num_people
        )
        self.remote.start()
        self.sampler.start()
        stop = threading.Event()
        threads = [
            threading.Thread(target=person.use_until, args=(stop,), name=person.name, daemon=True)
            for person in self.people
        ]
        for thread in threads:
            thread.start()
        try:
            self._inject(seconds)
            self.log("faults have ended; people finish their last requests")
            self.faults.end_all()
            stop.set()
            self._until(lambda: not any(t.is_alive() for t in threads), PEOPLE_PATIENCE, "people")
            last = time.monotonic()
            self._resume_half(admin)
            self._until(lambda: self._finished(admin), FINISH_SECONDS, "work")
            self.report.seconds_to_finish = time.monotonic() - last
            self._until(lambda: not self.faults.waiting_for_restart, FINISH_SECONDS, "restarts")
            self._until(lambda: database.at_rest(self.lab.sockets), SETTLE_SECONDS)
        finally:
            stop.set()
            self.sampler.stop()
        rows = self._snapshot()
        self._fill_report(rows)
        self.remote.stop()
        weights = weight_hashes(self.lab.data / "artefacts")
        if (status := self.lab.stop()) != 0:
            self.report.problems.append(f"`ucurve up` ended with status {status} at the end")
        return rows, weights

    def _tick(self) -> None:
        self.lab.check(self.log)
        self.remote.check()
        self.faults.tick()
        time.sleep(TICK_SECONDS)

    def _inject(self, seconds: float) -> None:
        began = reported_at = time.monotonic()
        left = list(self.planned)
        self.report.num_planned = len(left)
        while (now := time.monotonic() - began) < seconds:
            if left and left[0].at <= now:
                self._try(left, now)
            if time.monotonic() > reported_at + PROGRESS_SECONDS:
                reported_at = time.monotonic()
                self._progress(seconds - now)
            self._tick()

    def _try(self, left: list[Planned], now: float) -> None:
        planned = left.pop(0)
        kind = f"{planned.target}: {NAMES[planned.action]}"
        if planned.action == "fill" and not (self.lab.disk and self.lab.disk.how):
            self.report.not_possible[kind] = "needs root to mount a file system of limited size"
        elif self.faults.inject(planned):
            self.log(f"{kind}{' (during recovery)' if planned.during_recovery else ''}")
        elif self.postponed[planned.action, planned.target] < MOST_POSTPONED:
            self.postponed[planned.action, planned.target] += 1
            left.append(replace(planned, at=now + POSTPONE_SECONDS, during_recovery=False))
            left.sort(key=lambda later: later.at)
        else:
            self.report.without_target += 1
            self.log(f"{kind}: no such process has run for a while")

    def _progress(self, seconds: float) -> None:
        self.loads.append(os.getloadavg()[0])
        requests = sum(len(person.diary) for person in self.people)
        self.log(
            f"{len(self.faults.done)} faults, {requests} requests, "
            f"{self.sampler.latest} points wait; {seconds / 60:.1f} minutes of faults left"
        )

    def _until(self, true: Callable[[], bool], seconds: float, activity: str = "") -> None:
        deadline = time.monotonic() + seconds
        reported_at = time.monotonic()
        while not true():
            if time.monotonic() > deadline:
                if activity:
                    self.report.problems.append(f"{activity}: not finished after {seconds:.0f} s")
                return
            if activity and time.monotonic() > reported_at + PROGRESS_SECONDS:
                reported_at = time.monotonic()
                self.log(f"{self.sampler.latest} points wait for the end")
            for _ in range(5):
                self._tick()

    def _resume_half(self, admin: Client) -> None:
        """Let the admin resume every other paused experiment; the others stay paused."""
        deadline = time.monotonic() + PEOPLE_PATIENCE
        done: set[int] = set()
        while time.monotonic() < deadline:
            try:
                page = admin.experiments(state="paused", limit=500).experiments
                for experiment in (e for e in page if e.id % 2 == 0 and e.id not in done):
                    admin.resume(experiment.id)
                    done.add(experiment.id)
                    owner = next(p for p in self.people if p.name == experiment.owner)
                    key = owner.keys.get(experiment.id, experiment.name)
                    owner.diary.append(
                        Entry(time.time(), "resume", key, "acknowledged", experiment.id)
                    )
                return
            except RequestRejectedError as error:
                self.log(f"resume: {error}")
            except ClientError:
                self._tick()
        self.report.problems.append("paused experiments could not be resumed")

    def _finished(self, admin: Client) -> bool:
        """Return whether no work is left; retry points that were given up after three workers."""
        for id in database.given_up(self.lab.sockets):
            with suppress(ClientError):
                admin.retry(id)
                self.report.num_retried += 1
                self.log(f"#{id} had points whose workers died three times: retried, as people do")
        return database.wanted(self.lab.sockets) == 0

    def _snapshot(self) -> Snapshot:
        deadline = time.monotonic() + PEOPLE_PATIENCE
        while True:
            try:
                return database.snapshot(self.lab.sockets)
            except psycopg.Error:
                if time.monotonic() > deadline:
                    raise
                self._tick()

    def _fill_report(self, rows: Snapshot) -> None:
        report, entries = self.report, [e for person in self.people for e in person.diary]
        finished = [
            row["finished"] for row in rows["attempts"] if row["outcome"] in ("done", "failed")
        ]
        report.recoveries = recoveries(self.faults.done, finished, self.sampler.samples)
        report.requests = dict(Counter(entry.fate for entry in entries))
        report.server_errors = [
            f"{entry.status} to {entry.action}: {entry.answer.splitlines()[0]}"
            for entry in entries
            if entry.status is not None and entry.status >= 500
        ]
        report.experiments = dict(Counter(row["state"] for row in rows["experiments"]))
        report.num_results = sum(row["outcome"] == "done" for row in rows["attempts"])
        report.num_attempts_lost = sum(row["outcome"] == "lost" for row in rows["attempts"])
        report.supervisor_ended = self.lab.ended_unprompted
        report.never_restarted = self.faults.never_restarted
        report.load_during = sum(self.loads) / max(1, len(self.loads))
        report.problems += [
            f"{person.name}'s client failed: {person.failure!r}"
            for person in self.people
            if person.failure is not None
        ]
