"""Child processes that log to a file, stop in steps, and never outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ucurve.lab.log_files import rotate
from ucurve.lab.probes import Sign

HEARTBEAT_FD = "UCURVE_HEARTBEAT_FD"
READY = b"r"  # a heartbeat of a process that does its work; any other byte: it runs

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_READ_SEARCH = 2
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class User:
    """The user that a child runs as."""

    name: str
    uid: int
    gid: int
    searches: bool = False  # needs to enter folders that are closed to it


@dataclass
class ChildProcess:
    """A child process in its own session: Ctrl-C reaches only the parent, which stops it in order.

    Start it from the main thread: on Linux the kernel sends `death_signal` to the child when the
    *thread* that started it ends, even by kill -9.
    """

    name: str
    command: Sequence[str]
    log: Path
    folder: Path = Path("/")  # working directory
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    stop_signal: signal.Signals = signal.SIGTERM
    harder_signal: signal.Signals = signal.SIGKILL
    death_signal: signal.Signals = signal.SIGKILL  # sent when its parent dies first
    patience: float = 20.0  # seconds to wait after each signal
    user: User | None = None
    sends_heartbeats: bool = False  # it writes bytes to the file descriptor in HEARTBEAT_FD
    takes_orders: bool = False  # its standard input is a pipe
    before_start: Callable[[], None] | None = None
    stand_in: Callable[[ChildProcess], bool] | None = None  # sets `process` to a running one
    process: subprocess.Popen[bytes] | None = None
    heartbeats: int | None = None  # the reading end

    def start(self) -> None:
        """Start the process, appending its output to the log; or take over one from `stand_in`."""
        if self.stand_in and self.stand_in(self):
            return
        if self.before_start:
            self.before_start()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        env, write_end = dict(self.env), None
        if self.sends_heartbeats:
            self.replace_heartbeats(None)
            self.heartbeats, write_end = os.pipe()
            os.set_blocking(self.heartbeats, False)
            env[HEARTBEAT_FD] = str(write_end)
        try:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command,
                    env=env,
                    cwd=self.folder,
                    stdin=subprocess.PIPE if self.takes_orders else subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=() if write_end is None else (write_end,),
                    preexec_fn=before_exec(self.user, self.death_signal),
                )
        finally:
            if write_end is not None:
                os.close(write_end)

    def replace_heartbeats(self, reading_end: int | None) -> None:
        """Read heartbeats from another pipe from now on."""
        if self.heartbeats is not None:
            os.close(self.heartbeats)
        self.heartbeats = reading_end

    def heartbeat_sign(self) -> Sign:
        """Return the best sign of life among the heartbeats since the last call."""
        if self.heartbeats is None:
            return ""
        try:
            beats = os.read(self.heartbeats, 65536)
        except BlockingIOError:
            return ""
        return "ready" if READY in beats else "alive" if beats else ""

    def rotate_log(self) -> None:
        """Rotate the log if it has become too large, while the process writes to it."""
        rotate(self.log)

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def exit_status(self) -> int | None:
        return self.process.poll() if self.process else None

    def request_stop(self) -> None:
        """Send the stop signal without waiting."""
        if self.process is not None and self.alive:
            self.process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """Send ever harder signals until the process is gone, then kill the rest of its session."""
        if self.process is None:
            return
        for number in (self.stop_signal, self.harder_signal, signal.SIGKILL):
            if not self.alive:
                break
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)  # a stopped process handles nothing else
            try:
                self.process.wait(self.patience)
            except subprocess.TimeoutExpired:
                continue
        kill_group(self.process.pid)

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does when memory runs out."""
        if self.process is not None and self.alive:
            self.process.kill()
            self.process.wait()

    def request_kill(self) -> None:
        """Send SIGKILL without waiting: a process in an uninterruptible read takes its time."""
        if self.process is not None and self.alive:
            with suppress(ProcessLookupError):
                self.process.kill()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 20_000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


def before_exec(user: User | None, death_signal: signal.Signals) -> Callable[[], None]:
    """Return what a child runs between fork and exec: change user, request the death signal."""
    parent = os.getpid()

    def prepare() -> None:
        if user is not None:
            _become(user)
        if _libc is not None:  # last, because changing the user clears it
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:  # the parent died before the call
                os._exit(1)

    return prepare


def _become(user: User) -> None:
    """Change to an unprivileged user, without any capability where it reaches all it needs.

    Otherwise (below /root) it keeps CAP_DAC_READ_SEARCH, an ambient one that survives exec: it may
    enter folders and read, and writes only what it owns. Where the container has dropped that, the
    process runs without.
    """
    if _libc is not None and user.searches:
        _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.gid)
    os.setuid(user.uid)
    if _libc is not None and user.searches:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the interface, this process
        mask = 1 << _CAP_DAC_READ_SEARCH
        # Effective, permitted, inheritable; low words, then high words.
        sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
        if _libc.capset(header, sets) == 0:
            _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH, 0, 0)


def kill_group(pid: int) -> None:
    """Kill all remaining processes of the session that `pid` led."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def kill_processes_in(folder: Path) -> None:
    """Kill every process that works in a folder, and wait until they are gone.

    Backends of a killed Postgres that are stopped or busy outlive it, and while they use its shared
    memory no other server starts.
    """
    deadline = time.monotonic() + 10.0
    while pids := _pids_in(folder):
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _pids_in(folder: Path) -> list[int]:
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if (process / "cwd").readlink() == folder:
                pids.append(int(process.name))
    return pids


def command_line(pid: int) -> str:
    """Return the command line of a process, "" if it does not run."""
    try:
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")
            .strip()
        )
    except OSError:
        if sys.platform == "linux":
            return ""
    listing = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.strip()


def stop_leftover(
    pid: int, mark: str, signals: Sequence[signal.Signals], patience: float = 20.0
) -> bool:
    """Stop process `pid` of an earlier run; return False if its command lacks `mark`."""
    if mark not in command_line(pid):
        return False
    for number in signals:
        try:
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)  # a stopped process handles nothing else
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if mark not in command_line(pid):
                return True
            time.sleep(0.05)
    return True
