"""`ucurve up`: a whole lab on this machine, started, supervised and stopped by one process.

1. lock the data folder, check the ports; 2. start Postgres and Valkey; 3. migrate the schema;
4. start the API, the workers and the dashboard; 5. on the first start submit the demo; 6. restart
whatever exits, with increasing delays while it keeps failing; 7. on Ctrl-C or SIGTERM stop
everything, engines last.
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

HOST = "127.0.0.1"  # behind a TLS proxy where a team shares the lab: requests carry API keys
DEFAULT_DATA = Path("~/.ucurve")
DEMO = Path(__file__).parents[1] / "builtin" / "demo"
STABLE_SECONDS = 60.0  # after this long a restarted process no longer counts as failing
MAX_RESTART_DELAY = 30.0  # seconds between restarts of a process that keeps failing
READY_TIMEOUT = 120.0  # seconds


def print_line(text: str) -> None:
    """Print immediately, even into a pipe; a closed pipe is ignored."""
    with suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


class ShutdownRequested(Exception):  # noqa: N818 - an event, not an error
    """A signal requested the shutdown."""


@dataclass
class SupervisedProcess:
    """A child process with its failures and restarts."""

    child: ChildProcess
    failures: int = 0
    started: float = field(default_factory=time.monotonic)
    restart_at: float | None = None

    def check(self) -> str | None:
        """Restart the process when it is due; return what happened since the last check."""
        time_now = time.monotonic()
        if self.child.alive:
            return None
        if self.restart_at is None:
            stable = time_now - self.started > STABLE_SECONDS
            self.failures = 1 if stable else self.failures + 1
            delay = min(0.5 * 2.0**self.failures, MAX_RESTART_DELAY)
            self.restart_at = time_now + delay
            message = (
                f"{self.child.name} exited with status {self.child.exit_status}; "
                f"restarting in {delay:.0f} s"
            )
            if self.failures >= 3:
                message += f"; end of {self.child.log}:\n{self.child.tail()}"
            return message
        if time_now < self.restart_at:
            return None
        self.restart_at = None
        self.started = time_now
        self.child.start()
        return f"{self.child.name} restarted"


@dataclass
class LabSupervisor:
    """One run of `ucurve up`."""

    data: Path = DEFAULT_DATA
    port: int = 8000
    dashboard_port: int = 8501
    workers: int | None = None  # None: one per GPU, or two
    demo: bool = True
    open_browser: bool = False
    access: str = "open"  # or tokens
    stopping: bool = False
    started: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.time)
    supervised: list[SupervisedProcess] = field(default_factory=list)
    children: list[ChildProcess] = field(default_factory=list)  # all but the engines

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def dashboard_url(self) -> str:
        return f"http://{HOST}:{self.dashboard_port}"

    def run(self) -> int:
        """Start, supervise, stop. Return 0 after Ctrl-C or SIGTERM.

        Raises EmbeddedError or RuntimeError when the lab cannot start.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._request_stop)
        engines = Engines(self.data, report=self._log)
        try:
            engines.lock()
            self._check_ports()
            self._start(engines)
            while True:
                self._pause()
                for process in self.supervised:
                    if message := process.check():
                        self._log(message)
        except ShutdownRequested:
            return 0
        finally:
            self._stop(engines)

    def _request_stop(self, number: int, frame: object) -> None:
        if self.stopping:
            self._log("still stopping: a worker may take a few seconds to release its point")
        self.stopping = True

    def _pause(self) -> None:
        for _ in range(5):
            self._check_stop()
            time.sleep(0.1)

    def _check_stop(self) -> None:
        if self.stopping:
            raise ShutdownRequested

    def _log(self, message: str) -> None:
        print_line(f"[{time.monotonic() - self.started:6.1f} s] {message}")

    def _check_ports(self) -> None:
        ports = (
            (self.port, "API", "--port"),
            (self.dashboard_port, "dashboard", "--dashboard-port"),
        )
        for port, service, option in ports:
            if launch.port_taken(HOST, port):
                free = next(n for n in range(port + 1, 65536) if not launch.port_taken(HOST, n))
                raise EmbeddedError(
                    f"port {port} (for the {service}) is in use: try {option} {free}"
                )
        if self.port == self.dashboard_port:
            raise EmbeddedError(
                f"the API and the dashboard cannot share port {self.port}: change --dashboard-port"
            )

    def _start(self, engines: Engines) -> None:
        engines.start()
        self.supervised += [SupervisedProcess(child) for child in engines.children]
        self._log(
            f"database and broker started (Postgres {POSTGRES_VERSION} and Valkey, "
            f"data in {engines.data})"
        )
        self._check_stop()
        env = launch.environment(
            engines.database_url, engines.broker_url, self.api_url, engines.data, self.access
        )
        launch.migrate(env)
        self._log("database schema is up to date")
        assert engines.logs is not None
        api = launch.api(env, HOST, self.port, engines.logs)
        dashboard = launch.dashboard(env, HOST, self.dashboard_port, engines.logs)
        workers = self._workers(env, engines.logs)
        for child in (api, *workers, dashboard):
            self._check_stop()
            child.start()
            self.children.append(child)
            self.supervised.append(SupervisedProcess(child))
        self._wait_for(api, partial(launch.answers, f"{self.api_url}/health/ready"), self.api_url)
        self._prepare(self._admin_client(engines.data), workers)
        health = f"{self.dashboard_url}/_stcore/health"
        self._wait_for(dashboard, partial(launch.answers, health), self.dashboard_url)
        self._announce(engines)

    def _workers(self, env: dict[str, str], logs: Path) -> list[ChildProcess]:
        gpus = launch.gpus()
        num_workers = self.workers if self.workers is not None else len(gpus) or 2
        devices = [gpus[index] if index < len(gpus) else None for index in range(num_workers)]
        return [
            launch.worker(env, f"worker-{number}", logs, device)
            for number, device in enumerate(devices, start=1)
        ]

    def _prepare(self, client: Client | None, workers: list[ChildProcess]) -> None:
        """Wait until the workers are registered; submit the demo to an empty lab."""
        if client is None:
            return
        for child in workers:
            device = child.env["CUDA_VISIBLE_DEVICES"]
            ready = partial(launch.is_registered, client, child)
            self._wait_for(child, ready, f"GPU {device}" if device else "CPU")
        if self.demo and client.experiments(limit=1).total == 0:
            self._submit_demo(client)

    def _announce(self, engines: Engines) -> None:
        print_line(
            "\nThe lab is ready. Ctrl-C stops it; results are kept.\n\n"
            f"  dashboard  {self.dashboard_url}\n"
            f"  API        {self.api_url}/docs\n"
            f"  data       {engines.data} (logs in {engines.logs})\n"
        )
        if self.open_browser and sys.stdout.isatty():
            webbrowser.open(self.dashboard_url)

    def _admin_client(self, data: Path) -> Client | None:
        """Return a client that can list workers and submit the demo, None without an API key.

        The first admin's key is printed by the run that created it, and only then.
        """
        if self.access == "open":
            return Client(self.api_url, "")
        file = data / "admin-token"
        secret = file.read_text().strip() if file.exists() else ""
        if secret and file.stat().st_mtime >= self.started_at:
            print_line(
                f"\nThis lab requires API keys. The first admin's key, shown only once:\n\n"
                f"  {secret}\n\n"
                f"Sign in with it, create keys for others (ucurve tokens create), "
                f"then delete {file}.\n"
            )
        client = Client(self.api_url, secret)
        try:
            return client if secret and client.me() else None
        except RequestRejectedError:  # revoked, or of another database: the lab runs without it
            return None

    def _submit_demo(self, client: Client) -> None:
        for path in sorted(DEMO.glob("*.json")):
            try:
                experiment = client.submit(**json.loads(path.read_text()))
            except RequestRejectedError as error:  # the lab is usable without the demo
                self._log(f"demo {path.stem} was rejected: {error}")
            else:
                self._log(f"demo submitted: {experiment.name}")

    def _wait_for(self, child: ChildProcess, ready: Callable[[], bool], place: str) -> None:
        """Wait until a process is ready, and log where it runs."""

        def ready_or_stop() -> bool:
            self._check_stop()
            return ready()

        launch.wait_for(child, ready_or_stop, seconds=READY_TIMEOUT)
        self._log(f"{child.name} started ({place})")

    def _stop(self, engines: Engines) -> None:
        """Stop everything; further signals do not interrupt it."""
        self.stopping = True
        if self.children:
            self._log("stopping")
        for child in self.children:
            child.request_stop()
        for child in self.children:
            child.stop()
        engines.stop()
        if self.supervised:
            self._log(f"stopped; results are kept in {engines.data}")
