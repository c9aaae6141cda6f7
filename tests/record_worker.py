"""Record the SQL of this release's API and workers, for the test of later migrations.

    python tests/record_worker.py    # before each release

A recording is `tests/old_workers/REVISION.json`: the statements of a submission and of every
transition of a worker, in the order of their transactions, and the rows that they end in. The test
of the migrations plays them on a database that is migrated between any two of them. Each release
adds the recording of its newest revision; recordings are not changed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import db_helpers as rows
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, event, text

from db import leases, submissions
from db.migrate import migrate
from db.models import Experiment
from db.session import engine, open_session
from ucurve.lab.embedded import Engines
from ucurve.spec import Result
from worker.lease import Lease
from worker.log_tail import LogTail
from worker.outcomes import record_outcome, serialize_result
from worker.space import SpaceWatch
from worker.statistics import WorkerStatistics

FOLDER = Path(__file__).parent / "old_workers"
WORKER = {
    "name": "old", "host": "h", "pid": 1, "device": "cpu", "memory_gb": 8.0,
    "versions": {"python": "3"},
}  # fmt: skip
FINAL = {
    "measurements": "SELECT identity, state, metrics, nonfinite, num_lost, error, attempt_id, "
    "lease_token IS NULL FROM measurements ORDER BY id",
    "attempts": "SELECT measurement_id, worker, outcome, metrics, series, log, finished_at IS NULL "
    "FROM attempts ORDER BY id",
    "experiments": "SELECT name, state, num_points, num_done, num_failed FROM experiments "
    "ORDER BY id",
    "points": "SELECT experiment_id, measurement_id, ended FROM experiment_points ORDER BY 1, 2",
    "notices": "SELECT experiment_id, event FROM notices ORDER BY id",
    "workers": "SELECT name, device FROM workers ORDER BY name",
}
Json = dict[str, Any]


def record(of: Engine) -> Json:
    """Play the scenario on an empty database and return its recording."""
    with of.connect() as connection:
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    steps: list[Json] = []
    for name, transaction in scenario():
        with _statements(of) as statements:
            transaction()
        steps.append({"name": name, "statements": statements})
    return {"revision": revision, "steps": steps, "final": final(of)}


def final(of: Engine) -> Json:
    """Return the rows that the scenario ends in, without times."""
    with of.connect() as connection:
        found = {
            name: [list(row) for row in connection.execute(text(query))]
            for name, query in FINAL.items()
        }
    answer: Json = json.loads(json.dumps(found))
    return answer


def scenario() -> Iterator[tuple[str, Callable[[], object]]]:
    """Each transaction of a submission and of a worker: one point is done, one fails, ..."""
    points = [rows.point(name) for name in ("done", "failed", "stopped", "lost", "cancelled")]
    slices: list[tuple[str, list[leases.ClaimedPoint]]] = []
    lease = Lease(WORKER, LogTail(), WorkerStatistics("cpu"), SpaceWatch())

    def claim() -> None:
        slices.append(rows.claim("old", speed=0.1))

    def begin(index: int) -> None:
        token, taken = slices[-1]
        with open_session() as session:
            begun = leases.begin(session, taken[index].id, token, "old", "cpu", rows.VERSIONS)
            assert begun == index + 1
            session.commit()

    def renew() -> None:
        token, taken = slices[-1]
        with open_session() as session:
            assert all(leases.renew(session, token).values())
            leases.keep_log(session, taken[0].id, "a line")
            session.commit()
            leases.publish_live(session, taken[0].id, token, {"done": 1.0})
            session.commit()

    def release(index: int | None, lost: str | None = None) -> None:
        token, taken = slices[-1]
        with open_session() as session:
            leases.release(session, token, None if index is None else taken[index].id, lost, "log")
            session.commit()

    def finish(index: int, outcome: Json) -> None:
        token, taken = slices[-1]
        assert record_outcome(token, taken[index].id, index + 1, {**outcome, "log": "x"}, None)

    def cancel() -> None:
        with open_session() as session:
            submissions.change_state(session, session.get_one(Experiment, 1), "cancel")
            session.commit()

    result = Result(metrics={"loss": 1.5, "endless": float("inf")}, series={"losses": [1.0, 2.0]})
    yield "submit", lambda: rows.submit("ada", *points)
    yield "heartbeat", lease._heartbeat
    yield "claim", claim
    yield "begin", lambda: begin(0)
    yield "renew", renew
    yield "finish", lambda: finish(0, serialize_result(result))
    yield "begin the second", lambda: begin(1)
    yield "fail", lambda: finish(1, {"traceback": "ValueError: wrong"})
    yield "begin the third", lambda: begin(2)
    yield "stop", lambda: release(2)
    yield "begin the fourth", lambda: begin(3)
    yield "break", lambda: release(3, "RuntimeError: broken")
    yield "release the rest", lambda: release(None)
    yield "cancel", cancel
    yield "heartbeat again", lease._heartbeat


@contextmanager
def _statements(of: Engine) -> Iterator[list[Json]]:
    recorded: list[Json] = []

    def hear(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if "pg_catalog" not in statement:
            for values in parameters if many else [parameters]:
                recorded.append({"sql": statement, "parameters": _encoded(values)})

    event.listen(of, "before_cursor_execute", hear)
    try:
        yield recorded
    finally:
        event.remove(of, "before_cursor_execute", hear)


def _encoded(value: Any) -> Any:
    if isinstance(value, Jsonb):
        return {"jsonb": value.obj}
    if isinstance(value, dict):
        return {name: _encoded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(part) for part in value]
    assert value is None or isinstance(value, str | int | float), f"cannot record {value!r}"
    return value


def decoded(parameters: Json) -> Json:
    """Return parameters as psycopg takes them."""
    return {
        name: Jsonb(value["jsonb"]) if isinstance(value, dict) else value
        for name, value in parameters.items()
    }


def play(step: Json, of: Engine) -> None:
    """Run the statements of one transaction, as the driver of the old release would."""
    connection = of.raw_connection()
    try:
        cursor = connection.cursor()
        for statement in step["statements"]:
            parameters = statement["parameters"]
            cursor.execute(statement["sql"], decoded(parameters) if parameters else None)
        connection.commit()
    finally:
        connection.close()


def main() -> None:
    """Record on a new database at the newest revision."""
    with tempfile.TemporaryDirectory() as folder, Engines(Path(folder)) as engines:
        os.environ["UCURVE_DATABASE_URL"] = engines.database_url
        migrate()
        recording = record(engine())
        engine().dispose()
    file = FOLDER / f"{recording['revision']}.json"
    file.write_text(json.dumps(recording, indent=1) + "\n")
    print(file)  # noqa: T201


if __name__ == "__main__":
    main()
