"""/metrics: counters move by what was measured, and a scrape is cheap and well formed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import event_loops
import httpx
import pytest
from conftest import Lab
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from api import lab_status
from api.routes import metrics
from db.session import engine

SHARED_LAB = True
DOCS = Path(__file__).parents[1] / "docs" / "how-to" / "operate-a-lab.md"


def families(lab: Lab) -> dict[str, Metric]:
    response = httpx.get(f"{lab.url}/metrics", timeout=30)
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def value(lab: Lab, name: str, **labels: str) -> float:
    """The sum of the samples of this name with these labels."""
    return sum(
        sample.value
        for family in families(lab).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, "it did not happen"
        time.sleep(0.2)


def test_counters_move_by_what_was_measured(lab: Lab) -> None:
    def ended(outcome: str, kind: str = "slow_count") -> float:
        return value(lab, "ucurve_measurements_total", kind=kind, outcome=outcome)

    def tokens() -> float:
        return value(lab, "ucurve_tokens_total")

    lab.client.wait(lab.client.submit({"kind": "slow_count", "to": [-71]}).id)
    until(lambda: ended("failed") > 0)
    before = {name: ended(name) for name in ("done", "failed")}
    retries, tokens_before = value(lab, "ucurve_retries_total"), tokens()
    failing = lab.client.submit({"kind": "slow_count", "to": [72, 73, -74], "step_seconds": 0}).id
    lab.client.wait(failing)
    until(lambda: ended("done") == before["done"] + 2 and ended("failed") == before["failed"] + 1)
    lab.client.retry(failing)
    lab.client.wait(failing)
    until(lambda: value(lab, "ucurve_retries_total") == retries + 1)
    assert ended("failed") == before["failed"] + 2
    assert tokens() == tokens_before, "counting uses no model"
    assert value(lab, "ucurve_measuring_seconds_total", kind="slow_count") > 0
    read = {"kind": "gaussian_perturbation", "checkpoints": {"log_spaced": 2}, "gammas": [0.7]}
    lab.client.wait(lab.client.submit({**read, "draws": 1, "seed": 7071}).id, timeout=120)
    until(lambda: tokens() > tokens_before)


def test_the_queue_workers_and_disks_are_there(lab: Lab) -> None:
    id = lab.client.submit({"kind": "slow_count", "to": [4000, 4001, 4002]}).id
    owner = lab.client.experiment(id).owner
    until(lambda: value(lab, "ucurve_queue_points", owner=owner, state="running") > 0)
    assert value(lab, "ucurve_queue_points", owner=owner, state="queued") >= 2
    assert value(lab, "ucurve_queue_left_seconds", owner=owner) > 1
    assert value(lab, "ucurve_worker_running") == 1
    lab.client.cancel(id)
    until(lambda: value(lab, "ucurve_queue_points", owner=owner) == 0)
    until(lambda: value(lab, "ucurve_measurements_total", outcome="stopped") > 0)
    assert value(lab, "ucurve_worker_up", device="cpu") == 1
    assert 0 <= value(lab, "ucurve_worker_heartbeat_age_seconds") < 60
    assert value(lab, "ucurve_worker_memory_used_bytes") > 50e6
    assert value(lab, "ucurve_disk_free_bytes", folder="artefacts") > 0
    assert value(lab, "ucurve_database_up") == 1


def test_latencies_are_kept_by_route_template_so_that_their_number_is_bounded(lab: Lab) -> None:
    def routes() -> dict[str, float]:
        samples = families(lab)["ucurve_http_request_duration_seconds"].samples
        return {
            f"{s.labels['method']} {s.labels['route']} {s.labels['status']}": s.value
            for s in samples
            if s.name.endswith("_count")
        }

    for number in range(900_000, 900_005):
        httpx.get(f"{lab.url}/v1/experiments/{number}")
        httpx.get(f"{lab.url}/nothing/{number}")
        httpx.request("ODD", f"{lab.url}/v1/experiments/1")
    found = routes()
    assert found["GET /v1/experiments/{id} 4xx"] >= 5
    assert found["GET /metrics 2xx"] >= 1
    assert not [name for name in found if "90000" in name]
    assert len(found) < 100


def test_all_who_ask_within_two_seconds_share_one_reading(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = []

    def read() -> object:
        readings.append(time.monotonic())
        return lab_status_of_this_process()

    lab_status_of_this_process = lab_status.read_status
    monkeypatch.setattr(lab_status, "read_status", read)

    async def ask(num: int) -> list[object]:
        return list(await asyncio.gather(*(lab_status.current_status() for _ in range(num))))

    began = time.monotonic()
    assert len({id(answer) for answer in event_loops.run(ask(100))}) == 1
    event_loops.run(ask(100))
    assert 1 <= len(readings) <= 1 + (time.monotonic() - began) / lab_status.MAX_AGE + 1


def test_a_reading_costs_few_queries(lab: Lab) -> None:
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine(), "before_cursor_execute", note)
    try:
        lab_status.read_status()
    finally:
        event.remove(engine(), "before_cursor_execute", note)
    assert 5 < len(statements) < 25, statements


def test_while_the_database_is_away_a_scrape_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> None:
        raise OperationalError("SELECT 1", {}, Exception("no connection"))

    monkeypatch.setattr(metrics, "current_status", away)
    text = bytes(event_loops.run(metrics.get_metrics()).body).decode()
    found = {family.name: family.samples for family in text_string_to_metric_families(text)}
    assert found["ucurve_database_up"][0].value == 0
    assert "ucurve_http_request_duration_seconds" in found
    assert "ucurve_queue_points" not in found


def test_names_follow_the_conventions_and_the_documentation_lists_them(lab: Lab) -> None:
    """As `promtool check metrics` asks: help, base units, _total for counters only."""
    documented = DOCS.read_text()
    ours = {name: f for name, f in families(lab).items() if not name.startswith("process_")}
    assert len(ours) > 20
    for name, family in ours.items():
        assert re.fullmatch(r"ucurve_[a-z]+(_[a-z]+)*", name), name
        assert family.documentation.endswith("."), name
        assert not re.search(r"_(total|milliseconds|minutes|kilobytes|mb)$", name), name
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
        exposed = f"{name}_total" if family.type == "counter" else name
        assert f"`{exposed}`" in documented, f"{DOCS.name} does not list {exposed}"
