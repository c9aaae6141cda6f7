"""`ucurve up`: a whole lab on this machine, started, watched and stopped by one process.

1. hold the data folder, look whether the ports are free; 2. start Postgres and Valkey; 3. bring the schema to head;
4. start the API, the workers and the dashboard; 5. on the first start submit the demo; 6. watch: whatever exits is
started again, ever more slowly while it keeps failing; 7. on Ctrl-C or SIGTERM stop everything, engines last.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ucurve.client import Client, RequestRejectedError
from ucurve.lab import launch
from ucurve.lab.data_folder import EmbeddedError
from ucurve.lab.embedded import POSTGRES_VERSION, Engines
from ucurve.lab.processes import ChildProcess

HOST = "127.0.0.1"  # a team's lab is published by a proxy that speaks TLS: tokens travel in the requests
DEFAULT_DATA = Path("~/.ucurve")
DEMO = Path(__file__).parents[1] / "builtin" / "demo"
STEADY = 60.0  # seconds after which a child counts as running well again
SLOWEST = 30.0  # seconds between restarts of one that keeps failing


def say(text: str) -> None:
    """One line for whoever watches, at once even into a pipe; a reader who has gone stops nothing."""
    with suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


class Leaving(Exception):  # noqa: N818 - an event, not an error
    """A signal asked us to stop."""


@dataclass
class Watched:
    """A child and how it fared."""

    child: ChildProcess
    failures: int = 0
    started: float = field(default_factory=time.monotonic)
    restart_at: float | None = None

    def look(self) -> str | None:
        """Restart it when it is due; what happened since the last look, in words."""
        now = time.monotonic()
        if self.child.alive:
            return None
        if self.restart_at is None:
            self.failures = 1 if now - self.started > STEADY else self.failures + 1
            wait = min(0.5 * 2.0**self.failures, SLOWEST)
            self.restart_at = now + wait
            news = f"{self.child.name} stopped (exit status {self.child.exit_status}); again in {wait:.0f} s"
            return (
                news
                if self.failures < 3
                else f"{news}; the end of {self.child.log}:\n{self.child.tail()}"
            )
        if now < self.restart_at:
            return None
        self.restart_at = None
        self.started = now
        self.child.start()
        return f"{self.child.name} restarted"


@dataclass
class Up:
    """One run of `ucurve up`."""

    data: Path = DEFAULT_DATA
    port: int = 8000
    dashboard_port: int = 8501
    workers: int | None = None  # None: one per GPU, or two
    demo: bool = True
    open_browser: bool = False
    access: str = "open"  # or tokens
    leaving: bool = False
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)
    watched: list[Watched] = field(default_factory=list)
    children: list[ChildProcess] = field(default_factory=list)  # all but the engines

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def dashboard_url(self) -> str:
        return f"http://{HOST}:{self.dashboard_port}"

    def run(self) -> int:
        """Start, watch, stop. The exit status: 0 after Ctrl-C or SIGTERM. Raises EmbeddedError or RuntimeError."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if (
                signal.getsignal(number) is not signal.SIG_IGN
            ):  # nohup ignores SIGHUP, and so do we then
                signal.signal(number, self._leave)
        engines = Engines(self.data)
        try:
            engines.hold()
            self._check_ports()
            self._start(engines)
            while True:
                self._pause()
                for watched in self.watched:
                    if news := watched.look():
                        self._step(news)
        except Leaving:
            return 0
        finally:
            self._stop(engines)

    def _leave(self, number: int, frame: object) -> None:
        if self.leaving:
            self._step("still stopping; a worker may need some seconds to leave its point")
        self.leaving = True

    def _pause(self) -> None:
        for _ in range(5):
            if self.leaving:
                raise Leaving
            time.sleep(0.1)

    def _step(self, news: str) -> None:
        say(f"[{time.monotonic() - self.began:6.1f} s] {news}")

    def _check_ports(self) -> None:
        for port, what, option in (
            (self.port, "API", "--port"),
            (self.dashboard_port, "dashboard", "--dashboard-port"),
        ):
            if launch.port_taken(HOST, port):
                free = next(
                    other for other in range(port + 1, 65536) if not launch.port_taken(HOST, other)
                )
                raise EmbeddedError(
                    f"port {port} (for the {what}) is taken by another program: try {option} {free}"
                )
        if self.port == self.dashboard_port:
            raise EmbeddedError(
                f"the API and the dashboard cannot both have port {self.port}: change --dashboard-port"
            )

    def _start(self, engines: Engines) -> None:
        engines.start()
        self.watched += [Watched(child) for child in engines.children]
        self._step(
            f"database and broker started (Postgres {POSTGRES_VERSION} and Valkey, data in {engines.data})"
        )
        if self.leaving:
            raise Leaving
        env = launch.environment(
            engines.database_url, engines.broker_url, self.api_url, engines.data, self.access
        )
        launch.migrate(env)
        self._step("database schema is up to date")
        assert engines.logs is not None
        gpus = launch.gpus()
        api = launch.api(env, HOST, self.port, engines.logs)
        dashboard = launch.dashboard(env, HOST, self.dashboard_port, engines.logs)
        workers = [
            launch.worker(
                env,
                f"worker-{number + 1}",
                engines.logs,
                gpus[number] if number < len(gpus) else None,
            )
            for number in range(self.workers if self.workers is not None else len(gpus) or 2)
        ]
        for child in (api, *workers, dashboard):
            if self.leaving:
                raise Leaving
            child.start()
            self.children.append(child)
            self.watched.append(Watched(child))
        self._ready(api, lambda: launch.answers(f"{self.api_url}/health/ready"), self.api_url)
        client = self._admin(engines.data)
        if client:
            for child in workers:
                device = child.env["CUDA_VISIBLE_DEVICES"]
                where = f"GPU {device}" if device else "CPU"
                self._ready(child, partial(launch.is_registered, client, child), where)
        if client and self.demo and client.experiments(limit=1).total == 0:
            self._submit_demo(client)
        self._ready(
            dashboard,
            lambda: launch.answers(f"{self.dashboard_url}/_stcore/health"),
            self.dashboard_url,
        )
        say(
            f"\nThe lab is ready. Ctrl-C stops it; results stay.\n\n  dashboard  {self.dashboard_url}\n"
            f"  API        {self.api_url}/docs\n  data       {engines.data} (logs in {engines.logs})\n"
        )
        if self.open_browser and sys.stdout.isatty():
            webbrowser.open(self.dashboard_url)

    def _admin(self, data: Path) -> Client | None:
        """A client that may look at workers and submit the demo; None where the lab asks for a token and we have none.

        The first admin's token is shown by the run that made it, and by no other.
        """
        if self.access == "open":
            return Client(self.api_url, "")
        file = data / "admin-token"
        secret = file.read_text().strip() if file.exists() else ""
        if secret and file.stat().st_mtime >= self.began_at:
            say(
                f"\nThis lab asks for tokens. The first admin's, shown this once:\n\n  {secret}\n\n"
                f"Sign in with it, make tokens for the others (ucurve tokens create), then delete {file}.\n"
            )
        client = Client(self.api_url, secret)
        try:
            return client if secret and client.me() else None
        except (
            RequestRejectedError
        ):  # revoked, or not of this database: the lab runs without our looking
            return None

    def _submit_demo(self, client: Client) -> None:
        for path in sorted(DEMO.glob("*.json")):
            try:
                self._step(f"demo submitted: {client.submit(**json.loads(path.read_text())).name}")
            except RequestRejectedError as error:  # the lab is of use without it
                self._step(f"demo {path.stem} was refused: {error}")

    def _ready(self, child: ChildProcess, ready: Callable[[], bool], what: str) -> None:
        def checked() -> bool:
            if self.leaving:
                raise Leaving
            return ready()

        launch.wait_for(child, checked, seconds=120.0)
        self._step(f"{child.name} started ({what})")

    def _stop(self, engines: Engines) -> None:
        """Stop all; a second signal meanwhile changes nothing."""
        self.leaving = True
        if self.children:
            self._step("stopping")
        for child in self.children:
            child.request_stop()
        for child in self.children:
            child.stop()
        engines.stop()
        if self.watched:
            self._step(f"stopped; results are kept in {engines.data}")
