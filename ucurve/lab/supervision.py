"""Supervision: restart what exits or hangs, from the first process on.

A process hangs when it gave no sign of life for HANG_SECONDS of the supervisor's own running time:
a machine that was suspended, or a supervisor that got no CPU, does not count against it. A hung
process is killed and restarted; if its successor hangs too, it gets more time each time.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ucurve.lab.probes import Probe, Sign, is_stopped
from ucurve.lab.processes import ChildProcess

HANG_SECONDS = 30.0  # without a sign of life
START_SECONDS = 180.0  # until the first sign of life, on a slow disk or a busy machine
STABLE_SECONDS = 10.0  # after this long at work a process no longer counts as failing
MAX_RESTART_DELAY = 30.0  # seconds between restarts of a process that keeps failing
MAX_START_FAILURES = 3  # of a process that was never ready; then the lab cannot start
LONGEST_TICK = 1.0  # seconds; a longer pause is one of the supervisor, not of the process
FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


Obstacle = Callable[[], str | None]


def no_obstacle() -> None:
    """Nothing outside keeps processes from starting."""


class StartError(RuntimeError):
    """A process cannot start; the message has the end of its log."""


@dataclass
class SupervisedProcess:
    """A child process with its failures and restarts.

    probe: asks for signs of life; None where the child sends them itself (its heartbeat).
    needs: processes that must work before this one starts.
    once: it has an end; after a successful one it is `done`.
    """

    child: ChildProcess
    probe: Probe | None = None
    needs: tuple[SupervisedProcess, ...] = ()
    once: bool = False
    answered: bool = False  # a sign of life since its start
    ready: bool = False  # it works
    ever_ready: bool = False
    done: bool = False
    optional: bool = False  # the lab starts without it
    obstacle: Obstacle = no_obstacle
    failures: int = 0  # exits in a row
    hangs: int = 0  # in a row
    start_failures: int = 0  # exits that nothing else explains, before it was ever ready
    silence: float = 0.0  # seconds since the last sign of life
    uptime: float = 0.0  # seconds since it was ready
    started: float = 0.0
    restart_at: float | None = 0.0  # due at once

    def check(self, elapsed: float) -> str | None:
        """Restart the process when it is due; return what happened since the last check.

        elapsed: seconds since the last check that the supervisor itself was running. Raises
        StartError when the process repeatedly failed before it was ever ready.
        """
        if self.done:
            return None
        if self.restart_at is not None:
            return self._start_when_due()
        sign: Sign = self.probe.take() if self.probe else self.child.heartbeat_sign()
        if not self.child.alive:
            return self._record_exit()
        if sign:
            self.silence, self.answered = 0.0, True
            self.ready = self.ready or sign == "ready"
            self.ever_ready = self.ever_ready or self.ready
        else:
            self.silence += elapsed
        if self.ready:
            self.uptime += elapsed
            if self.uptime > STABLE_SECONDS:
                self.failures = 0
            if self.uptime > 3 * HANG_SECONDS:
                self.hangs = 0
        return self._kill_when_hung()

    def _start_when_due(self) -> str | None:
        assert self.restart_at is not None
        if time.monotonic() < self.restart_at or not all(n.ready or n.done for n in self.needs):
            return None
        restarted = self.started > 0
        self.restart_at = None
        self.started = time.monotonic()
        self.silence = self.uptime = 0.0
        self.ready = self.answered = False
        if self.probe:
            self.probe.take()  # an answer of its predecessor
        self.child.start()
        return f"{self.child.name} restarted" if restarted else None

    def expect_start(self) -> None:
        """Start the process at the next check, as if it had never run."""
        self.restart_at, self.started, self.ready = 0.0, 0.0, False

    def _record_exit(self) -> str | None:
        status = self.child.exit_status
        if self.once and status == 0:
            self.done = True
            return None
        killed = status is not None and -status in FROM_OUTSIDE
        if not (killed and self.ready):  # a kill of a healthy process says nothing about it
            self.failures += 1
        obstacle = self.obstacle()
        if not (self.ever_ready or self.optional or killed or obstacle) and self._is_to_blame():
            self.start_failures += 1
        self.ready = False
        log_end = f"end of {self.child.log}:\n{self.child.tail()}"
        if self.start_failures >= MAX_START_FAILURES:
            raise StartError(
                f"{self.child.name} exited during startup, {self.start_failures} times in a row "
                f"(status {status}); {log_end}"
            )
        delay = min(0.5 * 2.0 ** max(self.failures - 1, 0), MAX_RESTART_DELAY)
        self.restart_at = time.monotonic() + delay
        message = f"{self.child.name} exited with status {status}; restarting in {delay:g} s"
        if obstacle:
            return f"{message}. {obstacle}"
        return f"{message}; {log_end}" if self.failures >= 3 else message

    def _is_to_blame(self) -> bool:
        """Return whether everything it needs worked for as long as it ran."""
        return all(need.done or (need.ready and need.started < self.started) for need in self.needs)

    def _kill_when_hung(self) -> str | None:
        # A stopped process is not merely slow to start.
        begun = self.answered or is_stopped(self.child.pid)
        limit = (HANG_SECONDS if begun else START_SECONDS) * 2.0 ** min(self.hangs, 3)
        if self.silence <= limit:
            return None
        self.hangs += 1
        self.silence = 0.0
        self.child.request_kill()
        return f"{self.child.name} gave no sign of life for {limit:.0f} s; killing it"


@dataclass
class Supervision:
    """All supervised processes; call `tick` in a loop of the main thread.

    obstacle: says what outside keeps processes from starting, such as a full disk; None when
    nothing does. While it lasts, a process that exits is started again without end.
    """

    report: Callable[[str], None]
    obstacle: Obstacle = no_obstacle
    processes: list[SupervisedProcess] = field(default_factory=list)
    _last_tick: float = field(default_factory=time.monotonic)

    def add(
        self,
        child: ChildProcess,
        ask: Callable[[], Sign] | None = None,
        needs: tuple[SupervisedProcess, ...] = (),
        once: bool = False,
    ) -> SupervisedProcess:
        """Supervise a process that is not running yet; a tick starts it.

        ask: returns its sign of life; it is called in a thread of its own and may block.
        """
        probe = Probe(child.name, ask) if ask else None
        process = SupervisedProcess(child, probe, needs, once, obstacle=self.obstacle)
        self.processes.append(process)
        if probe:
            probe.start()
        return process

    def tick(self) -> None:
        """Check every process once."""
        now = time.monotonic()
        elapsed = min(now - self._last_tick, LONGEST_TICK)
        self._last_tick = now
        for process in self.processes:
            if message := process.check(elapsed):
                self.report(message)
            process.child.rotate_log()

    def end(self) -> None:
        """Stop asking; the processes go on."""
        for process in self.processes:
            if process.probe:
                process.probe.end()
