"""Everything that is asked of Postgres directly, in plain SQL: the truth behind the API."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from ucurve.lab.embedded import DATABASE

SAMPLE_SECONDS = 0.5
SWEEP_LOCK = 0x73776570  # of api.background.sweep

WANTED = """
    SELECT count(*) FROM measurements m WHERE state IN ('open', 'running') AND EXISTS (
        SELECT FROM experiment_points p JOIN experiments e ON e.id = p.experiment_id
        WHERE p.measurement_id = m.id AND e.state = 'active')"""
SNAPSHOT = {
    "experiments": """
        SELECT id, name, owner, state, spec, fresh, num_points, num_done, num_failed,
            (SELECT count(*) FROM experiment_points p WHERE p.experiment_id = e.id) AS points,
            (SELECT count(*) FROM experiment_points p JOIN measurements m
                ON m.id = p.measurement_id WHERE p.experiment_id = e.id AND m.state = 'done')
                AS points_done,
            (SELECT count(*) FROM experiment_points p JOIN measurements m
                ON m.id = p.measurement_id WHERE p.experiment_id = e.id AND m.state = 'failed')
                AS points_failed,
            (SELECT count(*) FROM experiment_points p JOIN measurements m
                ON m.id = p.measurement_id
                WHERE p.experiment_id = e.id AND p.ended <> (m.state IN ('done', 'failed')))
                AS points_miscounted
        FROM experiments e ORDER BY id""",
    "measurements": """
        SELECT m.id, identity, repeat, kind, m.state, m.metrics, m.nonfinite, m.error, m.num_lost,
            lease_owner,
            attempt_id, labels, a.metrics AS attempt_metrics, a.outcome AS attempt_outcome,
            md5(a.series::text) AS series, (
                SELECT count(*) FROM attempts d
                WHERE d.measurement_id = m.id AND d.outcome = 'done') AS num_results, (
                SELECT count(*) FROM attempts r
                WHERE r.measurement_id = m.id AND r.outcome = 'running') AS num_running, (
                SELECT array_agg(DISTINCT e.state) FROM experiment_points p
                JOIN experiments e ON e.id = p.experiment_id
                WHERE p.measurement_id = m.id) AS wanted_by
        FROM measurements m LEFT JOIN attempts a ON a.id = m.attempt_id ORDER BY m.id""",
    "checkpoints": "SELECT suite, revision, weights_sha256, unresolved FROM checkpoints",
    "attempts": """
        SELECT outcome, worker, extract(epoch FROM finished_at)::float8 AS finished
        FROM attempts ORDER BY finished_at""",
}


def connect(sockets: Path) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection that gives up within seconds."""
    return psycopg.connect(
        host=str(sockets),
        user=DATABASE,
        dbname=DATABASE,
        autocommit=True,
        connect_timeout=2,
        application_name="ucurve-chaos",
        options="-c statement_timeout=60000",
    )


def snapshot(sockets: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows that the audit reads, in one consistent view."""
    with connect(sockets) as session, session.cursor(row_factory=dict_row) as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return {name: cursor.execute(query).fetchall() for name, query in SNAPSHOT.items()}


def wanted(sockets: Path) -> int | None:
    """Return the number of unfinished points of active experiments, None without a database."""
    try:
        with connect(sockets) as session:
            row = session.execute(WANTED).fetchone()
    except psycopg.Error:
        return None
    assert row is not None
    return int(row[0])


def at_rest(sockets: Path) -> bool:
    """Return whether no point is leased and no attempt runs."""
    query = """
        SELECT NOT EXISTS (SELECT FROM measurements WHERE state = 'running')
            AND NOT EXISTS (SELECT FROM attempts WHERE outcome = 'running')"""
    try:
        with connect(sockets) as session:
            row = session.execute(query).fetchone()
    except psycopg.Error:
        return False
    assert row is not None
    return bool(row[0])


def given_up(sockets: Path) -> list[int]:
    """Return the experiments with points that failed because their workers died too often."""
    query = """
        SELECT DISTINCT p.experiment_id FROM experiment_points p
        JOIN measurements m ON m.id = p.measurement_id JOIN experiments e ON e.id = p.experiment_id
        WHERE m.state = 'failed' AND m.num_lost > 0 AND e.state IN ('active', 'done', 'failed')"""
    try:
        with connect(sockets) as session:
            return [int(row[0]) for row in session.execute(query)]
    except psycopg.Error:
        return []


def wait_for_sweep(sockets: Path, seconds: float) -> bool:
    """Return True as soon as a sweep holds its lock, False after `seconds`."""
    deadline = time.monotonic() + seconds
    query = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
    try:
        with connect(sockets) as session:
            while time.monotonic() < deadline:
                if session.execute(query, [SWEEP_LOCK]).fetchone():
                    return True
                time.sleep(0.002)
    except psycopg.Error:
        time.sleep(max(0.0, deadline - time.monotonic()))
    return False


@dataclass
class WorkSampler:
    """A thread that notes twice a second how many points wait or run, while the database answers.

    Its samples say whether there was any work that a fault could have delayed.
    """

    sockets: Path
    samples: list[tuple[float, int]] = field(default_factory=list)  # time.time(), wanted points
    backends: set[int] = field(default_factory=set)  # of its own connection
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    @property
    def latest(self) -> int | None:
        return self.samples[-1][1] if self.samples else None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(self.sockets) as session:
                    self.backends = {session.info.backend_pid}
                    while not self._stop.wait(SAMPLE_SECONDS):
                        row = session.execute(WANTED).fetchone()
                        assert row is not None
                        self.samples.append((time.time(), int(row[0])))
            except (psycopg.Error, OSError):
                self._stop.wait(SAMPLE_SECONDS)
