"""`ucurve doctor`: a healthy lab is called healthy, and each fault is named with its remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import Lab, execute

from ucurve.cli import main
from ucurve.lab import machine_checks, service_checks
from ucurve.lab.doctor import CHECKS, Check, examine
from ucurve.lab.embedded import POSTGRES_VERSION, Engines
from ucurve.lab.findings import Finding, Surroundings, surroundings

SHARED_LAB = True


def found(lab: Surroundings, check: Check, name: str = "") -> list[Finding]:
    """What one check says, of one name."""
    return [
        finding for finding in examine(lab, (check,)) if finding.check == (name or finding.check)
    ]


@pytest.fixture
def stopped(tmp_path: Path) -> Surroundings:
    """The data folder of a lab that does not run."""
    data = tmp_path / "lab"
    (data / "postgres").mkdir(parents=True, mode=0o700)
    (data / "artefacts").mkdir()
    data.chmod(0o700)
    (data / "postgres" / "PG_VERSION").write_text(f"{POSTGRES_VERSION}\n")
    (data / "lock").touch()
    for name in ("webhook-secret", "admin-token"):
        (data / name).write_text("secret")
        (data / name).chmod(0o600)
    return surroundings(data, "http://127.0.0.1:9", "http://127.0.0.1:9")


@pytest.fixture
def running(lab: Lab) -> Surroundings:
    """The shared lab, as its environment names it."""
    return Surroundings(
        None, True, lab.database_url, lab.broker_url, lab.artefacts, lab.url, "http://127.0.0.1:9"
    )


@pytest.fixture
def scratch(engines: Engines, template: str, running: Surroundings) -> Iterator[Surroundings]:
    """The shared lab with a database of its own."""
    execute(engines, f"CREATE DATABASE doctor TEMPLATE {template}")
    yield replace(running, database_url=engines.database_url_of("doctor"))
    execute(engines, "DROP DATABASE doctor WITH (FORCE)")


def test_a_healthy_lab_has_no_problem(
    lab: Lab, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UCURVE_ARTEFACTS", str(lab.artefacts))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("UCURVE_LOW_DISK_GB", "0")
    monkeypatch.setattr(machine_checks, "available_memory", lambda: 8_000_000_000)
    options = ["--url", lab.url, "--dashboard-url", address]
    assert main(["doctor", *options, "--json"]) == 0
    findings = [Finding(**finding) for finding in json.loads(capsys.readouterr().out)]
    assert not [finding for finding in findings if finding.status == "problem"]
    fine = {finding.check for finding in findings if finding.status == "ok"}
    assert fine >= {
        "versions", "device", "memory", "disk", "database", "database settings",
        "database connections", "clock", "schema", "workers", "broker", "API", "dashboard", "hub",
    }  # fmt: skip


@pytest.mark.engines
def test_a_stopped_lab_is_no_problem_and_can_be_examined(
    stopped: Surroundings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("UCURVE_LOW_DISK_GB", "0")
    monkeypatch.setattr(machine_checks, "available_memory", lambda: 8_000_000_000)
    monkeypatch.setattr("ucurve.lab.doctor.CHECKS", CHECKS[:1] + CHECKS[2:])  # torch is slow
    assert stopped.data is not None
    assert main(["doctor", "--data", str(stopped.data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"warning  lab: not running on {stopped.data}; start it: ucurve up" in lines
    assert not [line for line in lines if line.startswith("problem")]
    assert any(line.startswith("ok       permissions: ") for line in lines)
    stopped.data.chmod(0o755)
    assert main(["doctor", "--data", str(stopped.data)]) == 1
    (problem,) = [line for line in capsys.readouterr().out.splitlines() if "problem" in line]
    assert problem.endswith(f"; chmod 700 {stopped.data}")


def test_an_absent_lab_and_a_database_that_does_not_answer_are_problems(
    tmp_path: Path,
) -> None:
    nowhere = surroundings(tmp_path / "none", "", "")
    (absent,) = found(nowhere, machine_checks.data_folder)
    assert (absent.status, absent.remedy[:9]) == ("problem", "start one")
    assert not (tmp_path / "none").exists()
    url = "postgresql+psycopg://ucurve@127.0.0.1:9/ucurve"
    (silent,) = found(replace(nowhere, database_url=url), service_checks.database)
    assert silent.status == "problem"
    assert "cannot connect to the database" in silent.detail
    (broker,) = found(replace(nowhere, broker_url="redis://127.0.0.1:9/0"), service_checks.broker)
    assert (broker.status, broker.detail[:25]) == ("problem", "127.0.0.1 does not answer")


def test_silent_addresses_are_problems_with_the_option_to_name_them(running: Surroundings) -> None:
    api, dashboard = found(running, service_checks.addresses)
    assert (api.check, api.status) == ("API", "ok")
    assert (dashboard.check, dashboard.status) == ("dashboard", "problem")
    assert "--dashboard-url" in dashboard.remedy


def test_wide_permissions_are_problems_until_the_remedy_is_applied(stopped: Surroundings) -> None:
    assert stopped.data is not None
    assert [f.status for f in found(stopped, machine_checks.permissions)] == ["ok"]
    stopped.data.chmod(0o755)
    (stopped.data / "webhook-secret").chmod(0o644)
    findings = found(stopped, machine_checks.permissions)
    assert [finding.status for finding in findings] == ["problem", "problem"]
    for finding in findings:
        command, mode, path = finding.remedy.split()
        assert command == "chmod"
        Path(path).chmod(int(mode, 8))
    assert [f.status for f in found(stopped, machine_checks.permissions)] == ["ok"]


@pytest.mark.parametrize(
    ("stored", "detail", "remedy"),
    [
        ("0001", "revision 0001, and this ucurve needs", "python -m db.migrate"),
        ("9999", "revision 9999 is of a newer ucurve", "install the version"),
    ],
)
def test_a_wrong_schema_revision_is_a_problem(
    scratch: Surroundings, stored: str, detail: str, remedy: str
) -> None:
    (fine,) = found(scratch, service_checks.database, "schema")
    assert fine.status == "ok"
    assert scratch.database_url is not None
    with service_checks.connect(scratch.database_url) as session:
        session.execute("UPDATE alembic_version SET version_num = %s", [stored])
    (wrong,) = found(scratch, service_checks.database, "schema")
    assert wrong.status == "problem"
    assert detail in wrong.detail
    assert remedy in wrong.remedy


@pytest.mark.parametrize(
    ("free", "status"), [(6e9, "ok"), (4e9, "warning"), (0.4e9, "problem"), (0, "problem")]
)
def test_little_disk_space_is_a_warning_and_hardly_any_a_problem(
    stopped: Surroundings, free: float, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=int(free))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert {f.status for f in found(stopped, machine_checks.disk)} == {status}
    monkeypatch.setenv("UCURVE_LOW_DISK_GB", "0")
    assert {f.status for f in found(stopped, machine_checks.disk)} == {"ok"}


@pytest.mark.parametrize(("seconds", "status"), [(0, "ok"), (3, "warning"), (-60, "problem")])
def test_a_clock_that_differs_from_the_databases_is_noticed(
    running: Surroundings, seconds: float, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = service_checks.local_time
    monkeypatch.setattr(service_checks, "local_time", lambda: ours() + timedelta(seconds=seconds))
    (clock,) = found(running, service_checks.database, "clock")
    assert clock.status == status
    assert bool(clock.remedy) == (status != "ok")


def test_settings_of_the_database_that_lose_results_or_time_are_named(
    scratch: Surroundings, engines: Engines
) -> None:
    execute(engines, "ALTER DATABASE doctor SET synchronous_commit = off")
    execute(engines, "ALTER DATABASE doctor SET statement_timeout = '5s'")
    findings = found(scratch, service_checks.database, "database settings")
    assert [finding.status for finding in findings] == ["problem", "warning"]
    assert "synchronous_commit is off" in findings[0].detail
    assert "statement_timeout is 5000 ms" in findings[1].detail


def test_work_without_a_worker_and_missing_files_are_named(scratch: Surroundings) -> None:
    assert scratch.database_url is not None
    with service_checks.connect(scratch.database_url) as session:
        session.execute(
            "INSERT INTO measurements (identity, kind, inputs, source, group_key, seconds, "
            "requires_device, requires_memory_gb) VALUES ('a', 'k', '{}', '{}', 'g', 1, 'any', 0)"
        )
        session.execute("INSERT INTO suites (name) VALUES ('mine')")
        session.execute(
            "INSERT INTO checkpoints (suite, revision, location) "
            """VALUES ('mine', 'r', '{"scheme": "path", "path": "/far/away"}')"""
        )
    (workers,) = found(scratch, service_checks.database, "workers")
    assert (workers.status, workers.detail) == ("problem", "0 alive, 1 evaluation to measure")
    (files,) = found(scratch, service_checks.database, "files")
    assert files.status == "warning"
    assert "/far/away" in files.detail


def test_an_older_postgres_in_the_data_folder_is_upgraded_by_up(stopped: Surroundings) -> None:
    assert stopped.data is not None
    (fine,) = found(stopped, machine_checks.data_folder)
    assert fine.status == "ok"
    (stopped.data / "postgres" / "PG_VERSION").write_text("16\n")
    (old,) = found(stopped, machine_checks.data_folder)
    assert (old.status, old.remedy[:22]) == ("warning", "`ucurve up` upgrades i")
    (stopped.data / "postgres" / "PG_VERSION").write_text("9\n")
    (unknown,) = found(stopped, machine_checks.data_folder)
    assert unknown.status == "problem"


def test_libraries_that_are_too_old_or_absent_are_named(
    stopped: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "PACKAGES", {"celery": "server", "no-such": "worker"})
    monkeypatch.setattr(machine_checks, "required", lambda: {"celery": ("999.0", False)})
    _, old, absent = found(stopped, machine_checks.versions)
    assert (old.status, old.remedy) == ("problem", "pip install --upgrade 'ucurve[server]'")
    assert (absent.status, absent.remedy) == ("warning", "pip install 'ucurve[worker]'")


def test_a_check_that_fails_is_a_problem_and_stops_no_other(stopped: Surroundings) -> None:
    def broken(lab: Surroundings) -> Iterator[Finding]:
        raise RuntimeError("boom")
        yield

    findings = list(examine(stopped, (broken, machine_checks.data_folder)))
    assert [finding.status for finding in findings] == ["problem", "ok"]
    assert "RuntimeError" in findings[0].detail
