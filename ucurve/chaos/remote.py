"""A worker as on another machine: it reaches database and broker over TCP links that can be cut.

Its own supervisor is this module, which restarts it as systemd on that machine would.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from ucurve.chaos.installation import Installation
from ucurve.chaos.proxy import Link
from ucurve.lab import launch
from ucurve.lab.embedded import DATABASE
from ucurve.lab.processes import ChildProcess

RESTART_SECONDS = 1.0


@dataclass
class RemoteWorker:
    """The worker and its two links."""

    installation: Installation
    logs: Path
    child: ChildProcess = field(init=False)
    links: dict[str, Link] = field(init=False)
    restarts: int = 0
    _restart_at: float | None = None

    def __post_init__(self) -> None:
        lab = self.installation
        self.links = {
            "database": Link("database", lab.database_socket),
            "broker": Link("broker", lab.broker_socket),
        }
        database, broker = self.links["database"], self.links["broker"]
        env = launch.environment(
            f"postgresql+psycopg://{DATABASE}@{database.host}:{database.port}/{DATABASE}",
            f"redis://{broker.host}:{broker.port}/0",
            lab.url,
            lab.data,
            lab.access,
        )
        self.child = launch.worker(env, "worker-remote", self.logs)

    def start(self) -> None:
        self.child.start()

    def check(self) -> None:
        """Restart the worker when it ended; call it often, from the main thread."""
        if self.child.alive:
            return
        if self._restart_at is None:
            self._restart_at = time.monotonic() + RESTART_SECONDS
        elif time.monotonic() >= self._restart_at:
            self._restart_at = None
            self.restarts += 1
            self.child.start()

    def stop(self) -> None:
        self.child.stop()

    def close(self) -> None:
        """Kill the worker and close its links."""
        self.child.kill()
        for link in self.links.values():
            link.close()
