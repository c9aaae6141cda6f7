"""What each fault does to a running lab, and how it ends.

faults = Faults(installation, remote, links)
done = faults.inject(planned)   # None while its target does not run
faults.tick()                   # often: continues what was stopped for seconds, restores links
faults.end_all()                # before the end of a run
"""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from ucurve.chaos import database
from ucurve.chaos.installation import Installation
from ucurve.chaos.members import stopped
from ucurve.chaos.proxy import Link
from ucurve.chaos.remote import RemoteWorker
from ucurve.chaos.schedule import Planned

FLUSH = b"FLUSHALL\r\n"
SWEEP_PATIENCE = 6.0  # seconds to wait for a sweep, one begins every 5 s
FROZEN_SECONDS = 120.0  # a process stopped for ever must have been restarted by then
NAMES = {
    "kill": "kill -9",
    "term": "SIGTERM",
    "stop": "SIGSTOP for seconds",
    "freeze": "SIGSTOP for ever",
    "cut": "link cut for seconds",
    "swallow": "answers lost",
    "flush": "FLUSHALL",
    "immediate": "immediate stop",
    "fill": "disk full for seconds",
}


@dataclass
class Fault:
    """A fault that happened."""

    at: float  # by time.time()
    action: str
    target: str
    seconds: float
    during_recovery: bool
    detail: str = ""

    @property
    def kind(self) -> str:
        return f"{self.target}: {NAMES[self.action]}"


@dataclass
class Faults:
    """Injects faults and remembers what must be undone."""

    installation: Installation
    remote: RemoteWorker
    links: Mapping[str, Link]
    rng: random.Random
    own_backends: Callable[[], set[int]]  # connections of the audit, which are left alone
    done: list[Fault] = field(default_factory=list)
    never_restarted: list[str] = field(default_factory=list)
    _undo: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _frozen: list[tuple[float, psutil.Process, Fault]] = field(default_factory=list)

    def inject(self, planned: Planned) -> Fault | None:
        """Do it; return None when its target does not run now."""
        fault = Fault(
            time.time(),
            planned.action,
            planned.target,
            planned.seconds,
            planned.during_recovery,
        )
        act = getattr(self, f"_{planned.action}")
        try:
            if not act(fault):
                return None
        except psutil.Error:
            return None
        self.done.append(fault)
        return fault

    def tick(self) -> None:
        """Undo what has lasted long enough; notice what was never restarted."""
        due = [entry for entry in self._undo if entry[0] <= time.monotonic()]
        self._undo = [entry for entry in self._undo if entry not in due]
        for _, undo in due:
            undo()
        now = time.monotonic()
        # A signal takes a moment to stop a process.
        self._frozen = [e for e in self._frozen if now < e[0] + 5 or stopped(e[1])]
        for entry in [e for e in self._frozen if now > e[0] + FROZEN_SECONDS]:
            self._frozen.remove(entry)
            self.never_restarted.append(f"{entry[2].target} (process {entry[1].pid})")
            with suppress(psutil.Error):
                entry[1].kill()

    @property
    def waiting_for_restart(self) -> bool:
        """Whether something that was stopped for ever is still there."""
        return bool(self._frozen)

    def end_all(self) -> None:
        """Undo everything now, but for what the supervisor must restart."""
        for _, undo in self._undo:
            undo()
        self._undo.clear()

    # Signals

    def _kill(self, fault: Fault) -> bool:
        return self._signal(fault, signal.SIGKILL)

    def _term(self, fault: Fault) -> bool:
        return self._signal(fault, signal.SIGTERM)

    def _immediate(self, fault: Fault) -> bool:
        return self._signal(fault, signal.SIGQUIT)  # what `pg_ctl stop -m immediate` sends

    def _stop(self, fault: Fault) -> bool:
        return self._signal(fault, signal.SIGSTOP)

    def _freeze(self, fault: Fault) -> bool:
        return self._signal(fault, signal.SIGSTOP)

    def _signal(self, fault: Fault, number: signal.Signals) -> bool:
        if fault.target == "sweep":
            return self._signal_during_sweep(fault, number)
        process = self._choose(fault.target, number)
        if process is None:
            return False
        self._send(fault, process, number)
        return True

    def _send(self, fault: Fault, process: psutil.Process, number: signal.Signals) -> None:
        if fault.target == "supervisor" and number in (signal.SIGKILL, signal.SIGTERM):
            self.installation.expect_end()
        fault.at = time.time()
        process.send_signal(number)
        fault.detail += f"process {process.pid}"
        if fault.action == "stop":
            fault.detail += f", {fault.seconds:.1f} s"
            self._later(fault.seconds, lambda: _continue(process))
        elif fault.action == "freeze":
            self._frozen.append((time.monotonic(), process, fault))

    def _choose(self, target: str, number: signal.Signals) -> psutil.Process | None:
        """Return a process to signal; only SIGKILL has a meaning for one that is stopped."""
        candidates = self.installation.members().get(target, [])
        if target == "remote" and self.remote.child.alive:
            candidates = [psutil.Process(self.remote.child.pid)]
        excluded = self.own_backends() if target == "backend" else set()
        if number != signal.SIGKILL:
            excluded |= {process.pid for process in candidates if stopped(process)}
        candidates = [process for process in candidates if process.pid not in excluded]
        return self.rng.choice(sorted(candidates, key=lambda p: p.pid)) if candidates else None

    def _signal_during_sweep(self, fault: Fault, number: signal.Signals) -> bool:
        """Hit the API while it sweeps: in a thread, because a sweep must be waited for."""
        process = self._choose("api", number)
        if process is None:
            return False

        def wait_and_send() -> None:
            swept = database.wait_for_sweep(self.installation.sockets, SWEEP_PATIENCE)
            fault.detail = "" if swept else "no sweep seen, hit anyway; "
            with suppress(psutil.Error):
                self._send(fault, process, number)

        threading.Thread(target=wait_and_send, name="sweep", daemon=True).start()
        return True

    # Links, broker, disk

    def _cut(self, fault: Fault) -> bool:
        link = self.remote if fault.target == "remote" else self.links[fault.target]
        link.cut()
        fault.detail = f"{fault.seconds:.1f} s"
        self._later(fault.seconds, link.restore)
        return True

    def _swallow(self, fault: Fault) -> bool:
        link, answers = self.links[fault.target], self.rng.randint(1, 3)
        link.swallow(answers, fault.seconds)

        def count() -> None:
            fault.detail = f"{link.swallowed} of {answers} answers in {fault.seconds:.1f} s"

        self._later(fault.seconds, count)
        return True

    def _flush(self, fault: Fault) -> bool:
        with socket.socket(socket.AF_UNIX) as broker:
            broker.settimeout(2)
            try:
                broker.connect(str(self.installation.broker_socket))
                broker.sendall(FLUSH)
                return broker.recv(16).startswith(b"+OK")
            except OSError:
                return False

    def _fill(self, fault: Fault) -> bool:
        disk = self.installation.disk
        if disk is None or not disk.how:
            return False
        disk.fill()
        fault.detail = f"{fault.seconds:.1f} s"
        self._later(fault.seconds, disk.free)
        return True

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        self._undo.append((time.monotonic() + seconds, undo))


def _continue(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.send_signal(signal.SIGCONT)
