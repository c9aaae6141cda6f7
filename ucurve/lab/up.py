"""`ucurve up`: a whole lab on this machine, started, supervised and stopped by one process.

1. lock the data folder, check the ports; 2. start Postgres and Valkey; 3. migrate the schema;
4. start the API, the workers and the dashboard; 5. on the first start submit the demo; 6. on Ctrl-C
or SIGTERM stop everything, engines last. From step 2 on, restart what exits or hangs.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ucurve.client import Client, ClientError, RequestRejectedError
from ucurve.disk_space import is_disk_full, measure, naming_full_disk
from ucurve.lab import launch
from ucurve.lab.data_folder import EmbeddedError
from ucurve.lab.embedded import POSTGRES_VERSION, Engines
from ucurve.lab.probes import Sign, http_sign
from ucurve.lab.processes import ChildProcess
from ucurve.lab.spare import SpareWorker
from ucurve.lab.supervision import SupervisedProcess, Supervision
from ucurve.schemas.users import SUPERVISOR
from ucurve.settings import refuse_private_models, settings

HOST = "127.0.0.1"  # behind a TLS proxy where a team shares the lab: requests carry API keys
DEFAULT_DATA = Path("~/.ucurve")
DEMO = Path(__file__).parents[1] / "builtin" / "demo"
TICK_SECONDS = 0.1
SPACE_SECONDS = 5.0  # between looks at a full disk
DEMO_TIMEOUT = 120.0  # seconds


def print_line(text: str) -> None:
    """Print immediately, even into a pipe; a closed pipe is ignored."""
    with suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


class ShutdownRequested(Exception):  # noqa: N818 - an event, not an error
    """A signal requested the shutdown."""


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
    spare: bool = True  # keep a spare worker
    models: Sequence[Path] = ()  # folders from which models and texts are registered
    stopping: bool = False
    started: float = field(default_factory=time.monotonic)
    supervision: Supervision = field(init=False)
    services: list[SupervisedProcess] = field(default_factory=list)  # all but the engines

    def __post_init__(self) -> None:
        self.supervision = Supervision(self._log, self._full_disk)

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
            self._check_models(engines.data)
            engines.lock()
            self._check_ports()
            self._start(engines)
            while True:
                self._tick()
        except ShutdownRequested:
            return 0
        finally:
            self._stop(engines)

    def _request_stop(self, number: int, frame: object) -> None:
        if self.stopping:
            self._log("still stopping: a worker may take a few seconds to release its point")
        self.stopping = True

    def _tick(self) -> None:
        if self.stopping:
            raise ShutdownRequested
        self.supervision.tick()
        time.sleep(TICK_SECONDS)

    def _log(self, message: str) -> None:
        print_line(f"[{time.monotonic() - self.started:6.1f} s] {message}")

    def _check_models(self, data: Path) -> None:
        """Refuse folders that are missing or hold a secret, before anything is started."""
        for folder in self.models:
            if not folder.is_dir():
                raise EmbeddedError(f"{folder} (--models) is not a folder")
        paths = {"artefacts": data / "artefacts", "admin_token_file": data / "admin-token"}
        models = {"models": (*settings().models, *self.models)}
        refuse_private_models(settings().model_copy(update={**paths, **models}))

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

    def _full_disk(self) -> str | None:
        disk = measure("lab", self.data.expanduser())
        return disk.message if disk.state == "full" else None

    def _prepare_engines(self, engines: Engines) -> None:
        """Create what the engines need; on a full disk wait for space, as a running lab does."""
        announced = False
        while True:
            try:
                # The log that would have the words "no space" lies on the same disk.
                with naming_full_disk(engines.data):
                    engines.prepare()
                return
            except OSError as error:
                if not is_disk_full(error):
                    raise
                if not announced:
                    self._log(self._full_disk() or str(error))
                    announced = True
            retry_at = time.monotonic() + SPACE_SECONDS
            while time.monotonic() < retry_at:
                self._tick()

    def _start(self, engines: Engines) -> None:
        self._prepare_engines(engines)
        postgres = self.supervision.add(engines.postgres, engines.database_sign)
        valkey = self.supervision.add(engines.valkey, engines.broker_sign)
        self._wait_for(postgres, valkey)
        self._log(
            f"database and broker started (Postgres {POSTGRES_VERSION} and Valkey, "
            f"data in {engines.data})"
        )
        env = launch.environment(
            engines.database_url,
            engines.broker_url,
            self.api_url,
            engines.data,
            self.access,
            self.models,
        )
        assert engines.logs is not None
        schema = self._supervise(launch.migration(env, engines.logs), needs=(postgres,), once=True)
        self._wait_for(schema)
        self._log("database schema is up to date")
        api = self._supervise(
            launch.api(env, HOST, self.port, engines.logs),
            partial(http_sign, f"{self.api_url}/health/live"),
            needs=(postgres,),
        )
        workers = [self._supervise(child) for child in self._workers(env, engines.logs)]
        dashboard = self._supervise(
            launch.dashboard(env, HOST, self.dashboard_port, engines.logs),
            partial(http_sign, f"{self.dashboard_url}/_stcore/health"),
        )
        if self.spare:
            spare = SpareWorker(launch.worker_environment(env), engines.logs)
            self.services.append(spare.supervise(self.supervision, workers))
        self._wait_for(api)
        self._log(f"api started ({self.api_url})")
        for worker in workers:
            self._wait_for(worker)
            device = worker.child.env["CUDA_VISIBLE_DEVICES"]
            self._log(f"{worker.child.name} started ({f'GPU {device}' if device else 'CPU'})")
        self._prepare(engines.data)
        self._wait_for(dashboard)
        self._log(f"dashboard started ({self.dashboard_url})")
        self._announce(engines)

    def _supervise(
        self,
        child: ChildProcess,
        ask: Callable[[], Sign] | None = None,
        needs: tuple[SupervisedProcess, ...] = (),
        once: bool = False,
    ) -> SupervisedProcess:
        process = self.supervision.add(child, ask, needs, once)
        self.services.append(process)
        return process

    def _wait_for(self, *processes: SupervisedProcess) -> None:
        """Supervise until these have been ready once."""
        while not all(process.ever_ready or process.done for process in processes):
            self._tick()

    def _workers(self, env: dict[str, str], logs: Path) -> list[ChildProcess]:
        gpus = launch.gpus()
        num_workers = self.workers if self.workers is not None else len(gpus) or 2
        devices = [gpus[index] if index < len(gpus) else None for index in range(num_workers)]
        return [
            launch.worker(env, f"worker-{number}", logs, device)
            for number, device in enumerate(devices, start=1)
        ]

    def _prepare(self, data: Path) -> None:
        """Submit the demo to an empty lab; the API may be killed or hang meanwhile."""

        deadline = time.monotonic() + DEMO_TIMEOUT

        def submit() -> None:
            while not self.stopping:
                try:
                    client = self._admin_client(data)
                    if self.demo and client and client.experiments(limit=1).total == 0:
                        self._submit_demo(client)
                    return
                except ClientError as error:  # the API is being restarted
                    if time.monotonic() > deadline:
                        self._log(f"no demo was submitted: {error}")
                        return
                    time.sleep(1.0)

        # Daemon: a request that hangs must not delay the end.
        thread = threading.Thread(target=submit, name="demo", daemon=True)
        thread.start()
        while thread.is_alive():
            self._tick()

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

        The first admin's key is in a private file until it is used. It is printed on a terminal
        only: whatever else takes the output may be kept, and read by others.
        """
        if self.access == "open":
            return Client(self.api_url, "")
        file = data / "admin-token"
        secret = file.read_text().strip() if file.exists() else ""
        if secret and sys.stdout.isatty():
            print_line(
                f"\nThis lab requires API keys. The first admin's key:\n\n  {secret}\n\n"
                "Sign in with it and create keys for others (ucurve tokens create). Its copy in "
                f"{file} is deleted when it is first used.\n"
            )
        elif secret:
            print_line(
                f"\nThis lab requires API keys. The first admin's key is in {file}, readable by "
                "you only; the file is deleted when the key is first used.\n"
            )
        client = Client(self.api_url, secret, agent=SUPERVISOR)
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

    def _stop(self, engines: Engines) -> None:
        """Stop everything; further signals do not interrupt it."""
        self.stopping = True
        self.supervision.end()
        if self.services:
            self._log("stopping")
        for process in self.services:
            process.child.request_stop()
        for process in self.services:
            process.child.stop()
        engines.stop()
        if self.supervision.processes:
            self._log(f"stopped; results are kept in {engines.data}")
