"""A lab of real processes for tests: an API, workers and a dashboard."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ports import free_port

from ucurve.client import Client, RequestRejectedError
from ucurve.lab import launch
from ucurve.lab.processes import ChildProcess

KINDS = Path(__file__).parent / "kinds"
LIGHT = {"PYTHONPATH": str(Path(__file__).parent / "without_torch")}  # without the worker extra


@dataclass
class Lab:
    """A running API with workers: processes that a test may stop, kill and start again."""

    database_url: str
    broker_url: str
    data: Path
    token: str = ""  # what `client` sends
    settings: dict[str, str] = field(default_factory=dict)  # environment of every process
    address: str = ""  # of the dashboard, once it is started
    port: int = field(default_factory=free_port)
    children: dict[str, ChildProcess] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def artefacts(self) -> Path:
        return self.data / "artefacts"

    @property
    def env(self) -> dict[str, str]:
        env = launch.environment(self.database_url, self.broker_url, self.url, self.data)
        return {**env, **self.settings}

    @property
    def client(self) -> Client:
        return Client(self.url, self.token)

    @property
    def workers(self) -> list[ChildProcess]:
        return [child for name, child in self.children.items() if name.startswith("worker")]

    def start_api(self, **env: str) -> ChildProcess:
        child = launch.api({**self.env, **LIGHT, **env}, "127.0.0.1", self.port, self.data / "logs")
        self._start(child)
        launch.wait_for(child, lambda: launch.answers(f"{self.url}/health/ready"))
        return child

    def start_worker(self, name: str = "", **env: str) -> ChildProcess:
        """Start a worker and wait until the API lists this very process."""
        name = name or f"worker-{len(self.workers) + 1}"
        child = launch.worker({**self.env, **env}, name, self.data / "logs")
        self._start(child)
        client = self.client
        launch.wait_for(child, lambda: launch.is_registered(client, child))
        return child

    def start_dashboard(self, **env: str) -> str:
        """Start the dashboard and return its address."""
        port = free_port()
        child = launch.dashboard(
            {**self.env, **LIGHT, **env}, "127.0.0.1", port, self.data / "logs"
        )
        self._start(child)
        launch.wait_for(child, lambda: launch.answers(f"http://127.0.0.1:{port}/_stcore/health"))
        self.address = f"http://127.0.0.1:{port}"
        return self.address

    def tidy(self) -> None:
        """Make the lab as good as new for another module: all processes run, no work is left."""
        for name, child in list(self.children.items()):
            if not child.alive and name == "api":
                self.start_api()
            elif not child.alive and name.startswith("worker"):
                self.start_worker(name)
        for state in ("queued", "running", "paused"):
            for experiment in self.client.experiments(state=state, archived="also").experiments:
                self.cancel_unless_ended(experiment.id)

    def cancel_unless_ended(self, id: int) -> None:
        """A worker may measure the last point while the request is on its way."""
        try:
            self.client.cancel(id)
        except RequestRejectedError as error:
            if error.status != 409:
                raise

    def _start(self, child: ChildProcess) -> None:
        self.children[child.name] = child
        child.start()

    def stop(self) -> None:
        """Ask every process to stop, then wait for all of them."""
        for child in self.children.values():
            child.request_stop()
        for child in self.children.values():
            child.stop()
