"""A worker as on another machine: it reaches database and broker over TCP links that can be cut.

Where possible it runs in a network namespace, so that its whole machine can lose the network.
Its own supervisor is this module, which restarts it as systemd on that machine would.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from ucurve.chaos.installation import Installation
from ucurve.chaos.machine import Machine
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
    machine: Machine | None = field(default_factory=Machine.create)
    _restart_at: float | None = None

    def __post_init__(self) -> None:
        lab = self.installation
        self.links = {
            "database": Link("database", lab.database_socket, self._host),
            "broker": Link("broker", lab.broker_socket, self._host),
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
        if self.machine is not None:
            self.child.command = self.machine.command(self.child.command)

    @property
    def _host(self) -> str:
        return self.machine.here if self.machine else "127.0.0.1"

    @property
    def cable(self) -> str:
        """How this worker loses its network."""
        return "a network namespace" if self.machine else "TCP proxies that stop forwarding"

    def cut(self) -> None:
        """Cut this worker off from database and broker."""
        if self.machine is not None:
            self.machine.cut()
        else:
            for link in self.links.values():
                link.cut()

    def restore(self) -> None:
        """Connect it again."""
        if self.machine is not None:
            self.machine.restore()
        else:
            for link in self.links.values():
                link.restore()

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
            self.child.start()

    def stop(self) -> None:
        self.child.stop()

    def close(self) -> None:
        """Kill the worker and close its links."""
        self.child.kill()
        for link in self.links.values():
            link.close()
        if self.machine is not None:
            self.machine.remove()
