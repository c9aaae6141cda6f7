"""Any process may be killed: the experiment completes, and no number is lost or doubled."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Lab

from ucurve.cli import main
from ucurve.experiments import kinds
from ucurve.lab.embedded import Engines
from ucurve.lab.launch import answers
from ucurve.schemas import experiments as schemas
from ucurve.schemas.measurements import decode_metrics
from ucurve.spec import Point
from worker.context import PointContext
from worker.lease import EXIT_HUNG, Progress

TEST_KINDS = True
NUM_WORKERS = 0  # each test starts its own
ENVIRONMENT = {"UCURVE_LEASE_SECONDS": "4"}
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_workers_left(lab: Lab) -> Iterator[None]:
    yield
    for name in [name for name in lab.children if name.startswith("worker")]:
        lab.children.pop(name).stop()


def count(lab: Lab, *to: int, step_seconds: float = 0.02) -> int:
    return lab.client.submit({"kind": "slow_count", "to": to, "step_seconds": step_seconds}).id


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """A file that keeps held counts in their middle, however long a busy machine takes to look."""
    path = tmp_path / "hold"
    path.touch()
    return path


def held_count(lab: Lab, hold: Path, *to: int) -> int:
    return lab.client.submit({"kind": "slow_count", "to": to, "hold": str(hold)}).id


def until(true: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until `true()`."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, "it did not happen"
        time.sleep(0.05)


def progress(lab: Lab, id: int) -> float:
    """How far the experiment's furthest running point has counted."""
    return max((row.live.done for row in lab.client.rows(id) if row.live), default=0.0)


def attempts(lab: Lab, id: int) -> list[list[str]]:
    return [
        [attempt.outcome for attempt in lab.client.provenance(row.id).attempts]
        for row in lab.client.rows(id)
    ]


def finished(lab: Lab, id: int, seconds: float = 90) -> schemas.Experiment:
    return lab.client.wait(id, timeout=seconds)


def test_a_killed_workers_point_resumes_on_another_worker_after_its_lease(
    lab: Lab, hold: Path
) -> None:
    killed = lab.start_worker("worker-killed")
    id = held_count(lab, hold, 150)
    until(lambda: progress(lab, id) > 20)
    killed.kill()
    lab.start_worker("worker-other")
    until(lambda: lab.client.experiment(id).state == "queued")
    until(lambda: progress(lab, id) > 20)
    hold.unlink()
    assert finished(lab, id).state == "done"
    assert attempts(lab, id) == [["lost", "done"]]
    table = lab.client.table(id)
    assert table["resumed"].item() >= 20
    lost, done = lab.client.provenance(table["measurement"].item()).attempts
    assert "counting to 150 from 0" in (lost.log or ""), (
        "the log of a worker that died is there as far as it came"
    )
    assert f"counting to 150 from {table['resumed'].item():g}" in (done.log or "")
    assert table["endless"].item() == float("inf")


LANGUAGE_RUN = {
    "suite": "killed",
    "steps": [500],
    "warmup_steps": 10,
    "batch_rows": 8,
    "hidden_size": 16,
}
EACH_KIND = [
    {"kind": "linear_model", "width": 16, "num_features": 16, "draws": 10, "fixed_gammas": [0.08]},
    {
        "kind": "gaussian_perturbation",
        "checkpoints": {"log_spaced": 4},
        "gammas": [0.2],
        "draws": 2,
        "scale": "init_std",
    },
    {"kind": "pretraining", **LANGUAGE_RUN},
]


@pytest.mark.parametrize("spec", EACH_KIND, ids=lambda spec: spec["kind"])
def test_a_worker_killed_in_the_middle_of_any_kind_changes_no_number(
    lab: Lab, tmp_path: Path, spec: dict[str, Any]
) -> None:
    killed = lab.start_worker("worker-killed")
    id = lab.client.submit(spec).id
    until(lambda: lab.client.experiment(id).progress.done > 2 or progress(lab, id) > 20)
    killed.kill()
    lab.start_worker("worker-other")
    ended = finished(lab, id)
    assert (ended.state, ended.progress.failed) == ("done", 0)
    assert all(outcomes.count("done") == 1 for outcomes in attempts(lab, id))
    rows = lab.client.rows(id)
    for row in rows[:: max(1, len(rows) // 5)]:
        origin = lab.client.provenance(row.id)
        context = PointContext(
            "cpu", tmp_path, state_dir=tmp_path / str(row.id), reporter=Progress(row.id)
        )
        undisturbed = kinds()[origin.kind].run(
            Point(origin.inputs, row.labels, origin.source), context
        )
        for name, value in undisturbed.metrics.items():
            if name != "tokens_per_second":
                assert decode_metrics(row.metrics, row.nonfinite)[name] == pytest.approx(
                    value, rel=1e-6
                ), name


def test_a_stopped_worker_gives_its_point_back_at_once(lab: Lab, hold: Path) -> None:
    stopped = lab.start_worker("worker-stopped")
    id = held_count(lab, hold, 200)
    until(lambda: progress(lab, id) > 5)
    stopped.request_stop()
    until(lambda: not stopped.alive)
    assert attempts(lab, id) == [["stopped"]]
    assert lab.client.experiment(id).waits_for is not None
    hold.unlink()
    lab.start_worker("worker-next")
    assert finished(lab, id).state == "done"
    assert attempts(lab, id) == [["stopped", "done"]]


def test_a_failing_point_fails_alone_and_says_why(lab: Lab) -> None:
    lab.start_worker()
    id = count(lab, -1, 3)
    ended = finished(lab, id)
    assert (ended.state, ended.progress.failed, ended.progress.done) == ("done", 1, 1)
    failed = lab.client.rows(id)[0]
    assert failed.error == "ValueError: cannot count to -1"
    (attempt,) = lab.client.provenance(failed.id).attempts
    assert "slow_count.py" in (attempt.traceback or "")
    assert (attempt.log or "").endswith(
        f"measurement {failed.id} failed: ValueError: cannot count to -1"
    )


def test_a_result_that_the_database_refuses_fails_its_point_instead_of_being_measured_for_ever(
    lab: Lab,
) -> None:
    lab.start_worker()
    id = count(lab, 666)
    assert finished(lab, id).state == "failed"
    assert attempts(lab, id) == [["failed"]]


def test_cancelling_stops_a_running_point_within_a_step_and_retry_goes_on(
    lab: Lab, hold: Path
) -> None:
    lab.start_worker()
    id = held_count(lab, hold, 300)
    until(lambda: progress(lab, id) > 5)
    assert lab.client.cancel(id).state == "cancelled"
    until(lambda: attempts(lab, id) == [["stopped"]])
    hold.unlink()
    assert lab.client.retry(id).state in ("queued", "running")
    assert finished(lab, id).state == "done"
    assert lab.client.table(id)["resumed"].item() > 5


def test_a_hung_point_ends_its_process_and_three_of_them_end_the_point(lab: Lab) -> None:
    id = count(lab, 0)
    for number in range(3):
        hung = lab.start_worker(f"worker-hung-{number}", UCURVE_HANG_SECONDS="1")
        until(lambda: not hung.alive)  # noqa: B023
        assert hung.exit_status == EXIT_HUNG
    lab.start_worker("worker-sane")
    ended = finished(lab, id)
    assert ended.state == "failed"
    assert "died 3 times" in (lab.client.rows(id)[0].error or "")


def test_losing_the_brokers_content_and_then_the_broker_delays_nothing_for_long(
    lab: Lab, engines: Engines, hold: Path
) -> None:
    engines.valkey.kill()
    id = count(lab, 3, 4)  # the wake-up is lost
    engines.valkey.start()
    lab.start_worker()
    assert finished(lab, id).state == "done"
    later = held_count(lab, hold, 100, 101)
    until(lambda: progress(lab, later) > 5)
    engines.valkey.kill()
    hold.unlink()
    assert finished(lab, later).state == "done"
    without = count(lab, 5, 6)
    assert finished(lab, without).state == "done"
    engines.valkey.start()


def test_restarting_postgres_in_the_middle_loses_no_number(
    lab: Lab, engines: Engines, hold: Path
) -> None:
    lab.start_worker()
    id = held_count(lab, hold, 100, 102, 103)
    until(lambda: progress(lab, id) > 5)
    engines.postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host=str(engines.sockets), user="ucurve", dbname="postgres")
    time.sleep(3)
    engines.postgres.start()
    until(lambda: answers(f"{lab.url}/health/ready"))  # it recovers first
    hold.unlink()
    assert finished(lab, id).state == "done"
    assert [outcomes[-1] for outcomes in attempts(lab, id)] == ["done"] * 3
    assert lab.client.table(id)["counted"].tolist() == [100, 102, 103]


def test_without_the_api_the_workers_finish_what_was_asked(lab: Lab, hold: Path) -> None:
    lab.start_worker()
    id = held_count(lab, hold, 50, 51, 52)
    until(lambda: progress(lab, id) > 5)
    lab.children["api"].kill()
    hold.unlink()
    time.sleep(5)
    lab.start_api()
    assert finished(lab, id).state == "done"
    assert attempts(lab, id) == [["done"]] * 3


def test_a_killed_export_leaves_nothing_in_its_place_and_the_next_one_is_whole(
    lab: Lab, tmp_path: Path
) -> None:
    count(lab, 1)
    folder, api = tmp_path / "all", lab.children["api"].process
    assert api is not None
    command = [
        sys.executable,
        "-m",
        "ucurve.cli",
        "--url",
        lab.url,
        "export",
        str(folder),
        "--no-site",
    ]
    api.send_signal(signal.SIGSTOP)  # so that it is surely in the middle
    try:
        running = subprocess.Popen(command)
        while not (tmp_path / ".all.partial").is_dir():
            assert running.poll() is None
            time.sleep(0.05)
        (tmp_path / ".all.partial" / "left.parquet").write_bytes(b"half")
        beside = subprocess.run(command, capture_output=True, text=True, check=False)
        assert beside.returncode == 2
        assert "another export is being written" in beside.stderr
        running.kill()
        running.wait()
    finally:
        api.send_signal(signal.SIGCONT)
    assert not folder.exists()
    assert main(command[3:]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["all"]
    assert not (folder / "left.parquet").exists()
