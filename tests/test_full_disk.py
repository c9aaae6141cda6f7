"""A full disk stops nothing for good: it is named, the lab waits, and then continues."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import psycopg
import pytest
import torch
from browser_helpers import session_of
from conftest import Lab, refused
from db_helpers import point, seen
from fake_hub import FakeHub, serving
from fastapi import FastAPI
from fastapi.testclient import TestClient
from in_process import Context
from kinds.slow_count import SlowCount
from playwright.sync_api import Browser, expect
from running_lab import KINDS
from small_disk import SmallDisk, why_not
from sqlalchemy import text
from sqlalchemy.orm import Session

from api import errors
from api.storage import database_space
from db import submissions
from db.eta import reason_to_wait
from db.session import open_session
from ucurve.disk_space import is_disk_full, measure
from ucurve.experiments import kinds
from ucurve.lab import launch
from ucurve.lab.embedded import Engines
from ucurve.registry import hub
from ucurve.registry.artifacts import replacement
from ucurve.registry.hub_cache import NoSpaceError
from ucurve.registry.suites import Location
from ucurve.spec import Point
from worker import transactions
from worker.loop import WorkerLoop
from worker.space import SpaceWatch

NO_DISK = why_not()
needs_disk = pytest.mark.skipif(bool(NO_DISK), reason=NO_DISK or "-")
NO_SPACE = Path("/dev/full")  # every write to it meets a full disk
REFUSED = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
PRETRAINING = {
    "kind": "pretraining",
    "suite": "filled",
    "steps": [30],
    "warmup_steps": 10,
    "batch_rows": 8,
    "hidden_size": 16,
}


@pytest.fixture(autouse=True)
def _no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The labs lie below the folder that the tests register models from."""
    monkeypatch.setenv("UCURVE_MODELS", "")


def test_the_words_of_libraries_for_a_full_disk_are_understood() -> None:
    with pytest.raises(OSError, match="space") as met:
        NO_SPACE.write_bytes(b"x")
    assert is_disk_full(met.value)
    wrapped = RuntimeError("the weights could not be written")
    wrapped.__cause__ = met.value
    assert is_disk_full(wrapped)
    assert is_disk_full(Exception("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(FileNotFoundError(errno.ENOENT, "no such file"))


def test_a_disk_is_low_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure("artefacts", tmp_path).message is None
    monkeypatch.setenv("UCURVE_LOW_DISK_GB", "1e9")
    low = measure("artefacts", tmp_path)
    assert low.state == "low"
    assert "almost full" in str(low.message)
    monkeypatch.setenv("UCURVE_MIN_DISK_GB", "1e9")
    assert measure("artefacts", tmp_path).state == "full"


def test_a_worker_pauses_longer_after_each_failure_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UCURVE_ARTEFACTS", str(tmp_path))
    watch = SpaceWatch()
    assert watch.no_claim() is None
    watch.record_failure()
    assert "The disk of the artefacts is full" in str(watch.waits_for())
    waiting = [watch._wait]
    for _ in range(8):
        watch.record_failure()
        waiting.append(watch._wait)
    assert waiting == sorted(waiting)
    assert waiting[-1] == waiting[-2], "there is a longest pause"
    watch.record_success()
    assert watch._wait < waiting[0]


@pytest.mark.usefixtures("database_url")
def test_a_result_waits_until_the_database_has_space(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def action(session: Session) -> str:
        tries.append(transactions.database_full.is_set())
        if len(tries) < 3:
            session.execute(text(REFUSED))
        return "stored"

    # However long that takes: longer than it would wait for a database that is away.
    assert transactions.run_in_transaction(action, retry_for=0.001) == "stored"
    assert tries == [False, True, True]
    assert not transactions.database_full.is_set()


@pytest.mark.usefixtures("database_url")
def test_requests_that_meet_a_full_disk_are_answered_507() -> None:
    app = FastAPI()
    errors.install(app)

    @app.get("/database")
    def database() -> None:
        with open_session() as session:
            session.execute(text(REFUSED))

    @app.get("/artefacts")
    def artefacts() -> None:
        NO_SPACE.write_bytes(b"x")

    client = TestClient(app, raise_server_exceptions=False)
    for name in ("database", "artefacts"):
        answer = client.get(f"/{name}")
        assert (answer.status_code, answer.json()["title"]) == (507, "Disk full")
        assert f"The disk of the {name} is full. Free some space" in answer.json()["detail"]
    assert not database_space.is_full(), "it is asked, and it can write again"


@needs_disk
def test_a_failed_write_leaves_no_half_file(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 1) as disk:
        with (
            pytest.raises(OSError, match="space") as met,
            replacement(disk.folder / "state") as new,
        ):
            torch.save({"weights": torch.zeros(1_000_000)}, new)
        assert met.value.errno == errno.ENOSPC
        assert list(disk.folder.iterdir()) == []


@needs_disk
def test_a_download_that_fills_the_disk_is_removed_and_succeeds_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"config.json": b"{}", "model.safetensors": b"x" * 3_000_000}
    server = FakeHub({"models/a/model": {"main": content}})
    with serving(server) as address, SmallDisk(tmp_path / "disk", 2) as disk:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        commit = hub.revisions("a/model", disk.folder)["main"]
        location = Location(scheme="hub", path="a/model", commit=commit)
        with pytest.raises(NoSpaceError, match="free"):
            hub.download(location, disk.folder)
        # Another process takes the space while the download runs.
        monkeypatch.setattr(hub, "evict", lambda *_: None)
        with pytest.raises(NoSpaceError, match="cannot write") as met:
            hub.download(location, disk.folder)
        assert is_disk_full(met.value)
        assert list(disk.folder.rglob("*.partial")) == []
        assert (hub.download(location, tmp_path) / "model.safetensors").stat().st_size == 3_000_000


@needs_disk
@pytest.mark.usefixtures("database_url")
def test_a_point_that_meets_a_full_disk_is_released_and_measured_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UCURVE_MIN_DISK_GB", "0")
    inputs = {"protocol": "slow_count/1", "to": 3, "step_seconds": 0}
    with open_session() as session:
        fields = {"name": "full", "kind": "slow_count", "spec": {}}
        id = submissions.submit(session, "ada", fields, [point("full", inputs=inputs)]).id
        session.commit()
    with SmallDisk(tmp_path / "disk", 2) as disk:
        monkeypatch.setenv("UCURVE_ARTEFACTS", str(disk.folder))
        monkeypatch.setattr("worker.loop.kinds", lambda: {"slow_count": SlowCount})
        loop = WorkerLoop()
        disk.fill()
        loop.run()
        assert [row.state for row in seen(id)] == ["open"], "neither failed nor lost"
        assert "full" in str(loop.space.waits_for())
        loop.run()
        with open_session() as session:
            outcomes = session.scalars(text("SELECT outcome FROM attempts")).all()
        assert outcomes == ["stopped"], "it does not claim while it waits"
        disk.clear()
        loop.space = SpaceWatch()  # the pause is over
        loop.run()
    [row] = seen(id)
    assert (row.state, row.metrics["counted"]) == ("done", 3)


def test_an_experiment_says_what_all_its_workers_wait_for() -> None:
    class Worker:
        device, memory_gb, busy = "cpu", 8.0, False

        def __init__(self, waits_for: str | None) -> None:
            self.waits_for = waits_for

    full, fine = Worker("The disk of the artefacts is full."), Worker(None)
    needs = {("any", 0.0)}
    assert "The disk of the artefacts is full." in str(reason_to_wait([full], needs))  # type: ignore[list-item]
    assert reason_to_wait([full, fine], needs) is None  # type: ignore[list-item]


@pytest.fixture
def small_lab(tmp_path: Path) -> Iterator[tuple[SmallDisk, Lab, Engines]]:
    """A lab whose data, artefacts and logs are on one small disk; its Postgres is supervised."""
    with SmallDisk(tmp_path / "disk", 200) as disk, Engines(disk.folder / "data") as engines:
        settings = {
            "UCURVE_DATABASE_FOLDER": str(engines.data / "postgres"),
            "UCURVE_LOW_DISK_GB": "0.01",
            "UCURVE_MIN_DISK_GB": "0.004",
            "UCURVE_KINDS": str(KINDS),
        }
        lab = Lab(engines.database_url, engines.broker_url, disk.folder / "lab", settings=settings)
        launch.migrate(lab.env)
        ended = Event()

        def supervise() -> None:
            while not ended.wait(0.5):
                if not engines.postgres.alive:
                    engines.postgres.start()

        supervisor = Thread(target=supervise)
        supervisor.start()
        try:
            lab.start_api()
            lab.start_worker()
            yield disk, lab, engines
        finally:
            lab.stop()
            ended.set()
            supervisor.join()


def until(true: Any, seconds: float = 90) -> None:
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, "it did not happen"
        time.sleep(0.2)


@needs_disk
@pytest.mark.engines
@pytest.mark.slow
def test_a_lab_on_a_full_disk_says_so_loses_nothing_and_continues(
    small_lab: tuple[SmallDisk, Lab, Engines], browser: Browser, tmp_path: Path
) -> None:
    disk, lab, engines = small_lab
    address = lab.start_dashboard()
    client = lab.client
    counting = client.submit({"kind": "slow_count", "to": [300, 301], "step_seconds": 0.02}).id
    trained = client.submit(PRETRAINING).id
    until(lambda: any(row.live for row in client.rows(counting)))
    disk.fill()

    until(lambda: client.workers()[0].waits_for)
    assert "The disk of the artefacts is full" in str(client.workers()[0].waits_for)
    ready = httpx.get(f"{lab.url}/health/ready")
    assert ready.status_code == 503
    assert "The disk of the database is full" in ready.json()["detail"]
    large = {"kind": "slow_count", "to": list(range(5000, 5900))}
    assert "The disk of the database is full" in refused(507, lambda: client.submit(large))
    assert all(row.state != "failed" for row in client.rows(counting))
    page = session_of(browser, address).new_page()
    page.goto("/")
    expect(page.get_by_text("The disk of the database is full").first).to_be_visible()
    page.context.close()
    with (
        suppress(psycopg.OperationalError),  # without space for its log the database restarts
        psycopg.connect(host=str(engines.sockets), user="ucurve", autocommit=True) as session,
    ):
        session.execute("SELECT pg_switch_wal()")
        session.execute("SELECT txid_current()")

    disk.clear()
    until(lambda: launch.answers(f"{lab.url}/health/ready"))
    for id in (counting, trained):
        ended = client.wait(id, timeout=120)
        assert (ended.state, ended.progress.failed) == ("done", 0)
    assert client.workers()[0].waits_for is None
    assert sorted(client.table(counting)["counted"]) == [300, 301]
    outcomes = [
        a.outcome for row in client.rows(counting) for a in client.provenance(row.id).attempts
    ]
    assert outcomes.count("done") == 2
    assert "failed" not in outcomes
    [row] = client.rows(trained)
    origin = client.provenance(row.id)
    undisturbed = kinds()["pretraining"].run(
        Point(origin.inputs, row.labels, origin.source), Context(tmp_path / "undisturbed")
    )
    assert undisturbed.suite is not None
    [suite] = [suite for suite in client.suites() if suite.name == "filled"]
    weights = [
        {c.step: c.weights_sha256 for c in s.checkpoints} for s in (suite, undisturbed.suite)
    ]
    assert weights[0] == weights[1]
    assert row.metrics["nll_mean"] == undisturbed.metrics["nll_mean"]
