"""Import over queued and failed measurements, and after an interrupted import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab, execute
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from test_import_export import LINEAR, NOISE, contents, imported
from test_import_export import exported as exported
from test_import_export import ids as ids

from db import leases
from ucurve.client import ApiUnavailableError, Client
from ucurve.import_export import reader as importing
from ucurve.lab.embedded import Engines


@pytest.fixture
def third(
    engines: Engines, template: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A lab without workers."""
    execute(engines, f"CREATE DATABASE third_team TEMPLATE {template}")
    running = Lab(
        engines.database_url_of("third_team"), broker_url, tmp_path_factory.mktemp("third")
    )
    try:
        running.start_api()
        yield running
    finally:
        running.stop()
        execute(engines, "DROP DATABASE third_team WITH (FORCE)")


def fail_all(lab: Lab) -> int:
    """Do as a worker does whose every point fails."""
    engine, num = create_engine(lab.database_url), 0
    with Session(engine) as session:
        while points := (slice := leases.claim(session, "broken", "cpu", 8.0, None, 0.0))[1]:
            for point in points:
                attempt = leases.begin(session, point.id, slice[0], "broken", "cpu", {})
                assert attempt is not None
                num += leases.finish(
                    session,
                    point.id,
                    slice[0],
                    attempt,
                    {"traceback": "Traceback\nValueError: too warm"},
                )
        session.commit()
    engine.dispose()
    return num


def test_queued_and_failed_measurements_are_completed_by_an_import(
    third: Lab, exported: Path
) -> None:
    failed = third.client.submit(LINEAR, name="failed here")
    assert fail_all(third) == failed.progress.total
    assert third.client.experiment(failed.id).state == "failed"
    waiting = third.client.submit(NOISE, name="open here")
    assert waiting.state == "queued"
    assert imported(third, exported) == 0
    for one in (failed, waiting):
        now, rows = third.client.experiment(one.id), third.client.rows(one.id)
        assert (now.state, now.progress.done, now.progress.failed) == (
            "done",
            now.progress.total,
            0,
        )
        assert all(row.state == "done" and row.metrics and row.error is None for row in rows)
    outcomes = [
        one.outcome for one in third.client.provenance(third.client.rows(failed.id)[0].id).attempts
    ]
    assert outcomes == ["failed", "done"], "the failure stays visible"


def test_an_interrupted_import_is_consistent_and_completed_by_the_next(
    third: Lab,
    exported: Path,
    ids: list[int],
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importing, "BATCH", 4)
    batches: list[int] = []

    def told(what: str, done: int, total: int) -> None:
        if what == "measurements":
            batches.append(done)
            third.children["api"].kill()

    with pytest.raises(ApiUnavailableError):
        importing.import_folder(Client(third.url, retries=()), exported, told)
    assert batches == [4]
    third.start_api()
    there: dict[str, list[dict[str, Any]]] = contents(third.client)
    assert (len(there["measurements"]), there["experiments"], there["points"]) == (4, [], [])
    assert {row["attempt"] for row in there["measurements"]} == {
        row["id"] for row in there["attempts"]
    }
    assert imported(third, exported) == 0
    assert "2 new, 0 existing" in capsys.readouterr().out
    for name, rows in contents(third.client).items():
        assert len(rows) == len(contents(lab.client)[name]), name
    assert all(one.state == "done" for one in third.client.experiments().experiments)
