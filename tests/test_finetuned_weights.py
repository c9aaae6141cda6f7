"""One process at a time trains in a folder of fine-tuned weights; a killed one frees its lock."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from in_process import Context
from test_fine_tuning import points_of, real  # noqa: F401 - a fixture

from ucurve.experiments import kinds
from ucurve.modeling import finetuned_weights
from ucurve.registry.suites import Suite
from ucurve.spec import PointInterrupted

HOLD = """
import sys, time; from pathlib import Path; from ucurve.modeling import finetuned_weights
with finetuned_weights.exclusive_lock(Path(sys.argv[1]), lambda: None):
    print("in", flush=True); time.sleep(600)
"""


def test_two_workers_that_need_the_same_fine_tuning_train_it_once(
    real: tuple[Suite, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    suite, artefacts = real
    points = points_of(suite, steps=60, alphas=[0.5])
    both = [points["full", 1.0], points["full", 0.5]]
    with ThreadPoolExecutor(2) as workers:
        found = list(
            workers.map(lambda point: kinds()["fine_tuning"].run(point, Context(artefacts)), both)
        )
    assert (
        found[0].metrics["seconds_training"] == found[1].metrics["seconds_training"] > 0
    )  # one clock: one training
    assert found[0].metrics["nll_mean"] != found[1].metrics["nll_mean"]


def test_the_lock_of_a_killed_process_is_free_and_who_waits_may_stop(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "in\n"

    def unwanted() -> None:
        raise PointInterrupted

    with pytest.raises(PointInterrupted), finetuned_weights.exclusive_lock(tmp_path, unwanted):
        pytest.fail("two at once")
    waits: list[float] = []

    def kill_then_wait() -> None:
        waits.append(time.monotonic())
        holder.kill()
        holder.wait()

    with finetuned_weights.exclusive_lock(tmp_path, kill_then_wait):
        assert 1 <= len(waits) <= 2
