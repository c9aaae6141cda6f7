"""What a page shows of an experiment when nobody has looked at it for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from conftest import Lab

from dashboard.live.poller import ExperimentPoller

SHARED_LAB = True
ABSENCE = 2.0  # seconds without a poll


def test_figures_do_not_wait_for_as_long_as_nobody_looked(lab: Lab) -> None:
    id = lab.client.submit({"kind": "slow_count", "to": [8, 9], "step_seconds": 0.011}).id
    lab.client.wait(id, timeout=120)
    work: list[tuple[Future[Any], Callable[[], Any]]] = []

    def later(task: Callable[[], Any]) -> Future[Any]:
        work.append((Future(), task))
        return work[-1][0]

    poller = ExperimentPoller(id, later)
    poller.get(lab.client)
    for result, task in work:  # figures and verdicts are ready, and the page is closed
        result.set_result(task())
    time.sleep(ABSENCE)
    poller.get(lab.client)
    now = time.monotonic()
    assert len(work) >= 2
    assert (poller._figures_due < now, poller._verdicts_due < now) == (True, True)
