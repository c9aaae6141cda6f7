"""Real services for every test, started once per pytest process and module.

def test_something(database_url): ...   # `db.session` of this process uses the module's database
def test_more(lab): lab.client.submit({"kind": "linear_model"})
def test_page(page): page.goto("/")     # Debian's chromium on the lab's dashboard

A module chooses its lab by constants:

SHARED_LAB = True                       # one lab for all such modules: other experiments are in it
NUM_WORKERS = 2                         # how many workers a lab of the module's own has (default 1)
TEST_KINDS = True                       # the kinds in tests/kinds are known to its processes
ENVIRONMENT = {"UCURVE_LEASE_SECONDS": "4"}   # further settings of its processes
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Generator, Iterator
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import dashboard_load
import httpx
import pytest
from browser_helpers import session_of
from marks import NEEDS, Guard, mark
from playwright.sync_api import Browser, Page, sync_playwright
from running_lab import KINDS, LIGHT, Lab
from spread import longest_first, scheduler

from ucurve.client import Client, RequestRejectedError
from ucurve.lab import launch
from ucurve.lab.embedded import Engines
from ucurve.schemas.users import Role
from ucurve.settings import settings

__all__ = ["LIGHT", "Lab", "execute", "problem", "refused"]
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"  # where there are public texts
OFFLINE = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # no hub answers there
_counter = itertools.count(1)
_guard = Guard()


@pytest.fixture(scope="session", autouse=True)
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of UCURVE_MODELS in all tests and their labs; no lab has its data in it."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_MODELS", os.pathsep.join([str(folder), str(SHARED_DATA)]))
        yield folder


@pytest.fixture
def tmp_path(files: Path, request: pytest.FixtureRequest) -> Path:
    """A new folder per test, below the folder from which files may be registered."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    folder = files / f"{name}-{next(_counter)}"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with Engines(tmp_path_factory.mktemp("engines")) as running:
        yield running


@pytest.fixture(scope="session")
def template(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database at the newest schema, made by the migrations."""
    execute(engines, "CREATE DATABASE template_of_tests")
    url = engines.database_url_of("template_of_tests")
    launch.migrate(
        launch.environment(url, engines.broker_url, "", tmp_path_factory.mktemp("migrate"))
    )
    return "template_of_tests"


@pytest.fixture(scope="session")
def shared_lab(
    engines: Engines, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A lab with one worker and the kinds of tests/kinds, for all modules with SHARED_LAB."""
    execute(engines, f"CREATE DATABASE shared_lab TEMPLATE {template}")
    running = Lab(
        engines.database_url_of("shared_lab"),
        engines.broker_url,
        tmp_path_factory.mktemp("shared"),
        settings={**OFFLINE, "UCURVE_KINDS": str(KINDS), "UCURVE_LEASE_SECONDS": "5"},
    )
    try:
        running.start_api()
        running.start_worker()
        yield running
    finally:
        running.stop()


def _shares(request: pytest.FixtureRequest) -> bool:
    return bool(getattr(request.module, "SHARED_LAB", False))


@pytest.fixture(scope="module", autouse=True)
def _environment(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set the module's environment before any process starts, which inherits it."""
    with pytest.MonkeyPatch.context() as patch:
        if getattr(request.module, "TEST_KINDS", False) or _shares(request):
            patch.setenv("UCURVE_KINDS", str(KINDS))
        for name, value in getattr(request.module, "ENVIRONMENT", {}).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def database_url(engines: Engines, template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The database of the module's lab, which `db.session` of this process uses too."""
    from db.session import engine

    name = ""
    if _shares(request):
        url = request.getfixturevalue("shared_lab").database_url
    else:
        name = f"test_{next(_counter)}_" + re.sub(r"\W", "_", request.path.stem).lower()[:40]
        execute(engines, f"CREATE DATABASE {name} TEMPLATE {template}")
        url = engines.database_url_of(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_DATABASE_URL", url)
        engine.cache_clear()
        yield url
        if engine.cache_info().currsize:
            engine().dispose()
        engine.cache_clear()
    if name:
        execute(engines, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def broker_url(engines: Engines, request: pytest.FixtureRequest) -> Iterator[str]:
    """The broker of the module's lab; the environment names it."""
    url = f"{engines.broker_url}?virtual_host={next(_counter)}"
    if _shares(request):
        url = request.getfixturevalue("shared_lab").broker_url
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
    """A running API and NUM_WORKERS workers for the whole module, or the shared lab."""
    if _shares(request):
        shared: Lab = request.getfixturevalue("shared_lab")
        yield shared
        shared.tidy()
        return
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
    """The address of the lab's dashboard."""
    return lab.address or lab.start_dashboard()


@pytest.fixture(scope="session")
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


def pytest_configure(config: pytest.Config) -> None:
    for name, need in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: {need}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark(items)
    longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with _guard.watch(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with _guard.watch(item):
        return (yield)
