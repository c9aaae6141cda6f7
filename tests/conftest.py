"""Real engines for every test: one embedded Postgres and Valkey, a migrated copy of the database per test module.

def test_something(database_url): ...   # db.session works in this process, on this module's own database
NUM_WORKERS = 2                         # how many the module's `lab` starts (default 1)
TEST_KINDS = True                       # the kinds in tests/kinds are known, here and to the processes of the `lab`
def test_more(lab): lab.client.submit({"kind": "linear_model"})
def test_seen(page): page.goto("/")     # Debian's chromium on the lab's dashboard
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import dashboard_load
import httpx
import pytest
from browser_helpers import session_of
from playwright.sync_api import Browser, Page, sync_playwright

from ucurve.client import Client, RequestRejectedError
from ucurve.lab import launch as processes
from ucurve.lab.embedded import Engines
from ucurve.lab.processes import ChildProcess
from ucurve.schemas.users import Role
from ucurve.settings import settings

LIGHT = {
    "PYTHONPATH": str(Path(__file__).parent / "without_torch")
}  # a process without the worker extra
_counter = itertools.count(1)


@dataclass
class Lab:
    """A running API with real workers, each a process that a test may stop, kill and start again."""

    database_url: str
    broker_url: str
    data: Path
    token: str = ""  # what `client` shows
    port: int = field(default_factory=processes.free_port)
    children: dict[str, ChildProcess] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def artefacts(self) -> Path:
        return self.data / "artefacts"

    @property
    def env(self) -> dict[str, str]:
        return processes.environment(self.database_url, self.broker_url, self.url, self.data)

    @property
    def client(self) -> Client:
        return Client(self.url, self.token)

    @property
    def workers(self) -> list[ChildProcess]:
        return [child for name, child in self.children.items() if name.startswith("worker")]

    def start_api(self, **env: str) -> ChildProcess:
        child = processes.api(
            {**self.env, **LIGHT, **env}, "127.0.0.1", self.port, self.data / "logs"
        )
        self._start(child)
        processes.wait_for(child, lambda: processes.answers(f"{self.url}/health/ready"))
        return child

    def start_worker(self, name: str = "", **env: str) -> ChildProcess:
        """Start a worker and wait until the API has heard of this very process."""
        name = name or f"worker-{len(self.workers) + 1}"
        child = processes.worker({**self.env, **env}, name, self.data / "logs")
        self._start(child)
        client = self.client
        processes.wait_for(child, lambda: processes.is_registered(client, child))
        return child

    def start_dashboard(self, **env: str) -> str:
        """Start the dashboard; answers its address."""
        port = processes.free_port()
        child = processes.dashboard(
            {**self.env, **LIGHT, **env}, "127.0.0.1", port, self.data / "logs"
        )
        self._start(child)
        processes.wait_for(
            child, lambda: processes.answers(f"http://127.0.0.1:{port}/_stcore/health")
        )
        return f"http://127.0.0.1:{port}"

    def _start(self, child: ChildProcess) -> None:
        self.children[child.name] = child
        child.start()

    def stop(self) -> None:
        for child in self.children.values():
            child.request_stop()
        for child in self.children.values():
            child.stop()


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with Engines(tmp_path_factory.mktemp("engines")) as running:
        yield running


@pytest.fixture(scope="session")
def template(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database at the newest schema, made by the migrations."""
    execute(engines, "CREATE DATABASE template_of_tests")
    url = engines.database_url_of("template_of_tests")
    processes.migrate(
        processes.environment(url, engines.broker_url, "", tmp_path_factory.mktemp("migrate"))
    )
    return "template_of_tests"


@pytest.fixture(scope="module", autouse=True)
def _kinds(request: pytest.FixtureRequest) -> Iterator[None]:
    """Before any process starts, which inherits it."""
    with pytest.MonkeyPatch.context() as patch:
        if getattr(request.module, "TEST_KINDS", False):
            patch.setenv("UCURVE_KINDS", str(Path(__file__).parent / "kinds"))
        yield


@pytest.fixture(scope="module")
def database_url(engines: Engines, template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """This module's own database, which `db.session` of this process uses too."""
    from db.session import engine

    name = f"test_{next(_counter)}_" + re.sub(r"\W", "_", Path(str(request.path)).stem).lower()[:40]
    execute(engines, f"CREATE DATABASE {name} TEMPLATE {template}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_DATABASE_URL", engines.database_url_of(name))
        engine.cache_clear()
        yield engines.database_url_of(name)
        if engine.cache_info().currsize:
            engine().dispose()
        engine.cache_clear()
    execute(engines, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def broker_url(engines: Engines) -> Iterator[str]:
    """This module's own, empty broker; the environment names it."""
    url = f"{engines.broker_url}?virtual_host={next(_counter)}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_BROKER_URL", url)
        yield url


@pytest.fixture(scope="module")
def lab(
    database_url: str,
    broker_url: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Lab]:
    """A running API on a free port and NUM_WORKERS real workers, for the whole module."""
    running = Lab(database_url, broker_url, tmp_path_factory.mktemp("lab"))
    try:
        running.start_api()
        for _ in range(getattr(request.module, "NUM_WORKERS", 1)):
            running.start_worker()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def address(lab: Lab) -> str:
    """Of the lab's dashboard."""
    return lab.start_dashboard()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = dashboard_load.browser(playwright)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A fresh session; every request it makes has to stay on this machine."""
    context = session_of(browser, address)
    asked: set[str | None] = set()
    context.on("request", lambda request: asked.add(urlparse(request.url).hostname))
    yield context.new_page()
    context.close()
    assert asked - {None} <= {"127.0.0.1", "localhost"}


@pytest.fixture(scope="module")
def team(
    database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A lab that asks for tokens, seen by its first admin; no worker yet."""
    running = Lab(database_url, broker_url, tmp_path_factory.mktemp("team"))
    try:
        running.start_api(UCURVE_ACCESS="tokens", UCURVE_OWNER="root")
        running.token = (running.data / "admin-token").read_text().strip()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def people(team: Lab) -> dict[Role, Client]:
    """Somebody of each role."""
    names: dict[Role, str] = {"viewer": "vera", "submitter": "sam", "admin": "ada"}
    for role, name in names.items():
        team.client.set_user(name, role=role)
    return {
        role: Client(team.url, team.client.create_token("test", owner=name).secret)
        for role, name in names.items()
    }


@pytest.fixture(scope="module")
def sam(people: dict[Role, Client]) -> Client:
    return people["submitter"]


@pytest.fixture(scope="module")
def sue(team: Lab, people: dict[Role, Client]) -> Client:
    """Another submitter."""
    team.client.set_user("sue", role="submitter")
    return Client(team.url, team.client.create_token("test", owner="sue").secret)


def refused(status: int, ask: Callable[[], object]) -> str:
    with pytest.raises(RequestRejectedError) as refusal:
        ask()
    assert refusal.value.status == status, refusal.value
    return str(refusal.value)


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["detail"])


def execute(engines: Engines, statement: str) -> None:
    """Run one statement outside a transaction, on the cluster's own database."""
    import psycopg

    with psycopg.connect(
        host=str(engines.sockets), user="ucurve", dbname="postgres", autocommit=True
    ) as session:
        session.execute(statement.encode())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the processes' logs with a failed test."""
    report = yield
    running = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(running, Lab):
        for child in running.children.values():
            report.sections.append(
                (f"end of {child.log.name} ({child.exit_status=})", child.tail(40))
            )
    return report


def _rereading(change: Callable[..., None]) -> Callable[..., None]:
    """A process reads its environment once; a test that changes it reads it again."""

    @wraps(change)
    def changed(*args: Any, **kwargs: Any) -> None:
        try:
            change(*args, **kwargs)
        finally:
            settings.cache_clear()

    return changed


for _name in ("setenv", "delenv", "undo"):
    setattr(pytest.MonkeyPatch, _name, _rereading(getattr(pytest.MonkeyPatch, _name)))

NEEDS = {
    "engines": "needs Postgres and the broker",
    "lab": "needs a running API",
    "browser": "needs Chromium",
}
FIXTURES = {"engines": "engines", "lab": "lab", "team": "lab", "browser": "browser"}


def pytest_configure(config: pytest.Config) -> None:
    for name, need in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: {need}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with what it needs, read from its fixtures."""
    for item in items:
        for fixture, mark in FIXTURES.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)
