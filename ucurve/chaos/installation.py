"""The lab under test: `ucurve up` as a real child, restarted as systemd would restart it.

An end of the supervisor without a fault that explains it is a finding; it is restarted, too.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ucurve.chaos.disk import Disk
from ucurve.chaos.members import members, of_folder
from ucurve.lab import launch
from ucurve.lab.data_folder import socket_folder
from ucurve.lab.processes import ChildProcess

HOST = "127.0.0.1"
RESTART_SECONDS = 1.0  # as RestartSec= of the unit
READY_SECONDS = 180.0
STOP_SECONDS = 90.0  # as TimeoutStopSec= of systemd


@dataclass
class Installation:
    """One data folder with its supervisor, on ports of its own."""

    data: Path
    workers: int
    access: str
    limited_disk: bool = False
    port: int = field(default_factory=launch.free_port)
    dashboard_port: int = field(default_factory=launch.free_port)
    ended_unprompted: list[str] = field(default_factory=list)
    disk: Disk | None = None
    supervisor: ChildProcess = field(init=False)
    _expected_end: bool = False
    _restart_at: float | None = None

    def __post_init__(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self.data = self.data.resolve()
        self.data.chmod(0o755)  # Postgres runs as another user when we are root
        if self.limited_disk:
            self.disk = Disk(self.data)
        options = {
            "--data": self.data,
            "--port": self.port,
            "--dashboard-port": self.dashboard_port,
            "--workers": self.workers,
            "--access": self.access,
        }
        words = [str(word) for option in options.items() for word in option]
        self.supervisor = ChildProcess(
            "supervisor",
            [sys.executable, "-m", "ucurve.cli", "up", "--no-demo", *words],
            self.data.with_name(f"{self.data.name}-supervisor.log"),  # not on the disk that fills
            patience=STOP_SECONDS,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def sockets(self) -> Path:
        return socket_folder(self.data)

    @property
    def database_socket(self) -> Path:
        return self.sockets / ".s.PGSQL.5432"

    @property
    def broker_socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def disk_how(self) -> str:
        return (self.disk.how if self.disk else "") or "nothing (needs root)"

    def start(self) -> None:
        """Start the supervisor and wait until the whole lab is ready."""
        self.supervisor.start()
        launch.wait_for(self.supervisor, self._ready, seconds=READY_SECONDS)

    def _ready(self) -> bool:
        dashboard = f"http://{HOST}:{self.dashboard_port}/_stcore/health"
        return launch.answers(f"{self.url}/health/ready") and launch.answers(dashboard)

    def members(self) -> dict[str, list[psutil.Process]]:
        """Return the lab's processes by role, the supervisor among them."""
        if not self.supervisor.alive:
            return {}
        supervisor = psutil.Process(self.supervisor.pid)
        return {**members(supervisor.pid), "supervisor": [supervisor]}

    def expect_end(self) -> None:
        """Note that a fault is about to end the supervisor."""
        self._expected_end = True

    def check(self, log: Callable[[str], None]) -> None:
        """Restart a supervisor that ended; call it often, from the main thread."""
        if self.supervisor.alive:
            return
        if self._restart_at is None:
            if not self._expected_end:
                status = self.supervisor.exit_status
                self.ended_unprompted.append(
                    f"status {status}; end of its log:\n{self.supervisor.tail(12)}"
                )
                log(f"the supervisor ended unprompted with status {status}")
            self._restart_at = time.monotonic() + RESTART_SECONDS
        elif time.monotonic() >= self._restart_at:
            self._restart_at, self._expected_end = None, False
            self.supervisor.start()

    def stop(self) -> int | None:
        """Stop the lab with SIGTERM, and return the supervisor's exit status."""
        self.expect_end()
        self.supervisor.stop()
        return self.supervisor.exit_status

    def remove(self) -> None:
        """End every process of the data folder, however stopped, and delete it."""
        if self.supervisor.process is not None and self.supervisor.alive:
            with suppress(ProcessLookupError):
                os.kill(self.supervisor.pid, signal.SIGCONT)
            self.supervisor.kill()
        for process in of_folder(self.data):
            with suppress(psutil.Error):
                process.kill()
        if self.disk is not None:
            self.disk.unmount()
        shutil.rmtree(self.data, ignore_errors=True)

    def keep_logs(self, folder: Path) -> None:
        """Copy all logs to a folder that outlives this lab."""
        folder.mkdir(parents=True, exist_ok=True)
        for log in (*self.data.glob("logs/*"), self.supervisor.log):
            with suppress(OSError):
                shutil.copy2(log, folder)


def admin_token(data: Path) -> str:
    """Return the first admin's API key."""
    return (data / "admin-token").read_text(encoding="utf-8").strip()
