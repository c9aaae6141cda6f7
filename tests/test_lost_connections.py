"""A machine that vanishes inside a transaction holds up the others for seconds, not for ever."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from db_helpers import act, claim, experiment, expire_leases, point, submit
from fastapi import FastAPI
from fastapi.testclient import TestClient
from networks import Machine, why_not
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api import errors, registration, table_export
from api.catalogue import DatabaseCatalogue
from db import leases, submissions
from db.explorer import MeasurementFilter
from db.migrate import migrate
from db.session import SERVER_LIMITS, connection_arguments, engine, open_session
from ucurve.lab import embedded
from ucurve.lab.embedded import Engines
from worker.transactions import run_in_transaction

ROOT = Path(__file__).parents[1]
NO_NETWORK = why_not()


@pytest.fixture
def impatient(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that cuts idle transactions after a fraction of a second."""
    monkeypatch.setitem(SERVER_LIMITS, "idle_in_transaction_session_timeout", "300ms")
    engine.cache_clear()
    yield
    engine().dispose()
    engine.cache_clear()


def idle(session: Session) -> None:
    session.execute(text("SELECT 1"))
    time.sleep(1)
    session.execute(text("SELECT 1"))


@pytest.mark.usefixtures("database_url")
def test_every_session_has_the_limits() -> None:
    with open_session() as session:
        for name, value in SERVER_LIMITS.items():
            if not name.startswith("tcp_"):  # read as 0 on a unix socket
                assert session.scalar(text(f"SHOW {name}")) == value


def test_parameters_in_the_url_take_precedence() -> None:
    given = connection_arguments(
        "postgresql+psycopg://lab@db/lab?connect_timeout=60&options=-c%20work_mem%3D64MB"
    )
    assert "connect_timeout" not in given
    assert given["keepalives"] == "1"
    assert given["options"].endswith("-c work_mem=64MB")
    assert "-c idle_in_transaction_session_timeout=5s" in given["options"]


def test_nothing_connects_beside_the_session_module() -> None:
    calls = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node.func)}"
        for room in ("api", "worker", "dashboard", "db", "ucurve")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("create_engine", "psycopg.connect"))
        and not any(word.arg in ("connect_args", "connect_timeout") for word in node.keywords)
    ]
    assert calls == [], "pass db.session.connection_arguments(), or a connect_timeout at least"


def test_both_servers_probe_silent_connections_as_every_session_does() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    words = compose["services"]["postgres"]["command"]
    composed = dict(word.split("=") for word in words if "=" in word)
    for name, value in SERVER_LIMITS.items():
        if name.startswith(("tcp_", "client_")):
            assert embedded.SETTINGS[name] == composed[name] == value


@pytest.mark.usefixtures("database_url")
def test_renewing_a_lease_waits_for_no_experiment() -> None:
    id = submit("ada", point("renewed"))
    token, (held,) = claim()
    expire_leases()
    with open_session() as stuck, open_session() as session:
        stuck.execute(text("SELECT FROM experiments WHERE id = :id FOR UPDATE"), {"id": id})
        session.execute(text("SET LOCAL lock_timeout = '100ms'"))
        assert leases.renew(session, token) == {held.id: True}
        session.commit()
        with pytest.raises(OperationalError, match="lock timeout"):
            leases.publish_live(session, held.id, token, {"done": 1})
    assert claim("other") == ("", []), "the lease is extended"
    assert act(id, "cancel")


@pytest.mark.usefixtures("impatient")
def test_a_transaction_that_was_cut_is_run_again() -> None:
    runs = []

    def action(session: Session) -> str:
        runs.append(1)
        if len(runs) == 1:
            idle(session)
        return "committed"

    assert run_in_transaction(action) == "committed"
    assert len(runs) == 2


@pytest.mark.usefixtures("impatient")
def test_a_request_whose_transaction_was_cut_is_answered_with_a_problem() -> None:
    app = FastAPI()
    errors.install(app)

    @app.get("/slow")
    def slow() -> None:
        with open_session() as session:
            idle(session)

    answer = TestClient(app, raise_server_exceptions=False).get("/slow")
    assert (answer.status_code, answer.json()["detail"]) == (503, errors.DATABASE_DOWN)


@pytest.mark.usefixtures("impatient")
def test_closing_a_session_whose_transaction_was_cut_raises_nothing() -> None:
    with open_session() as session:
        session.execute(text("SELECT 1"))
        time.sleep(1)
    with open_session() as session:
        assert session.scalar(text("SELECT 1")) == 1


@pytest.mark.usefixtures("impatient")
def test_planning_holds_no_transaction() -> None:
    with open_session() as session:
        registration.register_builtin(session)
        session.commit()
        catalogue = DatabaseCatalogue(session)
        suite = catalogue.suite("tiny")
        catalogue.dataset(suite.evaluation or "")
        time.sleep(1)  # so many points
        assert submissions.existing_states(session, ["p"]) == {}


@pytest.mark.usefixtures("impatient")
def test_a_slow_reader_of_a_download_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_export, "CHUNK_ROWS", 2)
    submit("ada", *(point(f"read{number}") for number in range(5)))
    names: list[str] = []
    for _, rows in table_export.chunks(MeasurementFilter(state=("open",))):
        names += [row[1] for row in rows]
        time.sleep(0.5)  # longer than a transaction may be idle
    assert sorted(name for name in names if name.startswith("read")) == [
        f"read{number}" for number in range(5)
    ]


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Machine, Engines]]:
    """Another machine, and a database that listens on the link to it."""
    with Machine() as machine:
        access = tmp_path / "pg_hba.conf"
        access.write_text(f"local all all trust\nhost all all {machine.there}/32 trust\n")
        access.chmod(0o644)
        for folder in (tmp_path, *tmp_path.parents):  # Postgres reads it as another user
            if folder.is_relative_to("/tmp/pytest-of-root"):
                folder.chmod(0o755)
        monkeypatch.setitem(embedded.SETTINGS, "listen_addresses", machine.here)
        monkeypatch.setitem(embedded.SETTINGS, "hba_file", str(access))
        with Engines(tmp_path / "data") as engines:
            monkeypatch.setenv("UCURVE_DATABASE_URL", engines.database_url)
            engine.cache_clear()
            try:
                yield machine, engines
            finally:
                engine().dispose()
                engine.cache_clear()


@pytest.mark.engines
@pytest.mark.skipif(bool(NO_NETWORK), reason=NO_NETWORK or "-")
def test_a_machine_that_vanishes_inside_a_transaction_stops_nobody(
    away: tuple[Machine, Engines],
) -> None:
    machine, _ = away
    migrate()
    id = submit("ada", point("p"), point("q", group_key="other"))
    worker = subprocess.Popen(
        [*machine.prefix, sys.executable, Path(__file__).with_name("away_worker.py")],
        env={
            **os.environ,
            "UCURVE_DATABASE_URL": f"postgresql+psycopg://ucurve@{machine.here}/ucurve",
            "PYTHONPATH": str(ROOT),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def tell(step: str) -> None:
        assert worker.stdin is not None
        worker.stdin.write(f"{step}\n")
        worker.stdin.flush()

    def hear() -> str:
        assert worker.stdout is not None
        return worker.stdout.readline().strip()

    try:
        tell("claim")
        assert hear() == "claimed"
        tell("begin")
        assert hear() == "begun"
        machine.cut()
        began = time.monotonic()
        tell("commit")  # while the link is cut
        assert act(id, "pause"), "everybody else goes on"
        assert act(id, "resume")
        assert time.monotonic() - began < 25
        assert "Error: " in hear(), "the worker's own end gives up too"
        machine.heal()
        with open_session() as session:
            assert session.scalar(text("SELECT count(*) FROM attempts")) == 0, "nothing was stored"
        expire_leases()
        tell("measure")
        assert hear() == "measured", "the worker is back"
        assert experiment(id).num_done == 1
    finally:
        worker.kill()
        worker.wait()


def test_a_broker_that_hangs_holds_a_wake_up_for_seconds_only(engines: Engines) -> None:
    code = "from worker.queue import wake_workers; print(wake_workers(8))"
    os.kill(engines.valkey.pid, signal.SIGSTOP)
    try:
        sent = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "UCURVE_BROKER_URL": engines.broker_url, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=45,
            check=True,
        )
    finally:
        os.kill(engines.valkey.pid, signal.SIGCONT)
    assert sent.stdout.strip() == "False", sent.stderr
