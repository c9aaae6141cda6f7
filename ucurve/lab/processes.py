"""Child processes that log to a file, stop in steps, and never outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOG_LIMIT = 20_000_000  # bytes; a larger log is rotated once when its process starts

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_OVERRIDE = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class User:
    """The user that a child runs as."""

    name: str
    uid: int
    gid: int


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
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, appending its output to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".old.log"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.env),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=before_exec(self.user, self.death_signal),
            )

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
    """Change to an unprivileged user that can still enter root-only folders such as /root.

    Of root's capabilities only CAP_DAC_OVERRIDE is kept, as an ambient one that survives exec;
    where the container has dropped it, the process runs without.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.gid)
    os.setuid(user.uid)
    if _libc is not None:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the interface, this process
        mask = 1 << _CAP_DAC_OVERRIDE
        # Effective, permitted, inheritable; low words, then high words.
        sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
        if _libc.capset(header, sets) == 0:
            _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def kill_group(pid: int) -> None:
    """Kill all remaining processes of the session that `pid` led."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


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
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if mark not in command_line(pid):
                return True
            time.sleep(0.05)
    return True
