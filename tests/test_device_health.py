"""Device health: a broken process releases its points and exits, and a new one continues."""

from __future__ import annotations

import time

import torch
from conftest import Lab

from ucurve.modeling.checkpoints import CheckpointError
from ucurve.registry.hub_cache import HubUnreachableError
from worker.device_health import MAX_CONSECUTIVE_FAILURES, DeviceHealth, probe
from worker.loop import EXIT_BROKEN

TEST_KINDS = True
NUM_WORKERS = 0


def run(lab: Lab, *what: str) -> tuple[int, int]:
    """Measure and restart broken workers, as a supervisor does; return the id and their number."""
    id, broken = lab.client.submit({"kind": "breaking_device", "what": what}).id, 0
    worker, deadline = lab.start_worker("worker"), time.monotonic() + 150
    while lab.client.experiment(id).state not in ("done", "failed"):
        assert time.monotonic() < deadline, lab.client.rows(id)
        if not worker.alive:
            assert worker.exit_status == EXIT_BROKEN
            broken, worker = broken + 1, lab.start_worker("worker")
        time.sleep(0.1)
    worker.stop()
    return id, broken


def attempts(lab: Lab, id: int) -> list[list[str]]:
    return [
        [attempt.outcome for attempt in lab.client.provenance(row.id).attempts]
        for row in lab.client.rows(id)
    ]


def test_a_broken_device_loses_no_point_and_its_process_exits(lab: Lab) -> None:
    id, broken = run(lab, "fine", "breaks once", "fine")
    assert (broken, attempts(lab, id)) == (1, [["done"], ["lost", "done"], ["done"]])
    lost = lab.client.provenance(lab.client.rows(id)[1].id).attempts[0]
    assert "device-side assert" in (lost.traceback or "")
    assert not lab.client.workers() or not any(worker.alive for worker in lab.client.workers())


def test_a_point_that_breaks_every_device_fails_after_three_attempts_and_others_are_measured(
    lab: Lab,
) -> None:
    id, broken = run(lab, "breaks always", "fine")
    first, second = lab.client.rows(id)
    assert (broken, first.state, second.state) == (3, "failed", "done")
    assert "died 3 times" in (first.error or "")


def test_a_process_whose_points_suddenly_all_fail_exits_and_a_new_one_continues(
    lab: Lab,
) -> None:
    id, broken = run(lab, *["fine"] * 2, "spoils once", *["fine"] * 8)
    assert broken == 1
    assert (
        attempts(lab, id)
        == [["done"]] * 3
        + [["failed"]] * (MAX_CONSECUTIVE_FAILURES - 1)
        + [["lost", "done"]]
        + [["done"]] * 3
    )


def test_faulty_points_do_not_mark_the_device_as_broken() -> None:
    health = DeviceHealth("cpu")
    for _ in range(3 * MAX_CONSECUTIVE_FAILURES):
        health.record_failure(RuntimeError("from the start: it is the points"))
    health.record_success()
    for number in range(3 * MAX_CONSECUTIVE_FAILURES):
        health.record_failure(ValueError("a wrong spec"))
        health.record_failure([RuntimeError("one"), TypeError("another")][number % 2])
    for _ in range(3 * MAX_CONSECUTIVE_FAILURES):  # refused models: bad input is no bad device
        health.record_failure(CheckpointError("its config asks for 4,000,000 words"))
    for _ in range(3 * MAX_CONSECUTIVE_FAILURES):
        health.record_failure(HubUnreachableError("no hub"))
    assert health.broken is None
    for _ in range(MAX_CONSECUTIVE_FAILURES):
        health.record_failure(torch.OutOfMemoryError("CUDA out of memory"))
    assert "OutOfMemoryError" in (health.broken or "")
    assert probe("cpu") is None
    assert "not compiled" in (probe("cuda") or "not compiled")
