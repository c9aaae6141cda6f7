"""`ucurve chaos`: its schedule, links and audit; the run itself is in test_chaos_run.py."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import event_loops
import pytest

from ucurve.chaos.audit import DOUBLED, LOST, STUCK, WRONG, audit
from ucurve.chaos.faults import NAMES, Fault
from ucurve.chaos.people import Entry, allowed_states
from ucurve.chaos.proxy import Link
from ucurve.chaos.recovery import quantile, recoveries, table
from ucurve.chaos.schedule import KINDS, schedule
from ucurve.chaos.workload import EXTENSION_SEEDS, draw_spec, extension, key_of
from ucurve.experiments import parse


def test_the_seed_alone_determines_the_schedule_and_ten_minutes_have_every_kind() -> None:
    planned = schedule(7, 10)
    assert planned == schedule(7, 10)
    assert planned != schedule(8, 10)
    assert {(fault.action, fault.target) for fault in planned} == set(KINDS)
    assert all(schedule(seed, 10)[-1].at < 601 for seed in range(5))
    assert sum(len(schedule(seed, 10)) for seed in range(1, 6)) >= 330, "30 may miss their target"
    assert any(fault.during_recovery for fault in planned)
    assert {action for action, _ in KINDS} == set(NAMES)


def test_the_work_is_of_all_built_in_types_and_every_request_is_recognised() -> None:
    import random

    rng, kinds = random.Random(0), set()
    for number in range(60):
        name = f"ada-{number}"
        spec = parse(draw_spec(rng, name)).model_dump(mode="json")
        kinds.add(spec["kind"])
        assert key_of(name, spec) == name
        seed = EXTENSION_SEEDS + number
        extended = parse({**spec, **extension(spec, seed)}).model_dump(mode="json")
        assert key_of(name, extended) == f"extension {seed}"
    assert kinds == {"gaussian_perturbation", "fine_tuning", "pretraining", "linear_model"}


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that answers what it hears, and counts it."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(100):
                heard.append(data)
                connection.sendall(data)

    heard.clear()
    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


heard: list[bytes] = []


def test_a_cut_link_delivers_nothing_until_it_is_mended(echo: int) -> None:
    link = Link("test", ("127.0.0.1", echo))
    with socket.create_connection((link.host, link.port), timeout=30) as connection:
        connection.sendall(b"one")
        assert connection.recv(10) == b"one"
        link.cut()
        connection.sendall(b"two")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(10)
        assert heard == [b"one"]
        link.restore()
        connection.settimeout(30)
        assert connection.recv(10) == b"two"
    link.close()


def test_a_swallowed_answer_belongs_to_a_request_that_arrived(echo: int) -> None:
    link = Link("test", ("127.0.0.1", echo))
    link.swallow(1, 60)
    with socket.create_connection((link.host, link.port), timeout=30) as connection:
        connection.sendall(b"lost")
        with pytest.raises(ConnectionResetError):
            connection.recv(10)
    assert (heard, link.swallowed) == ([b"lost"], 1)
    with socket.create_connection((link.host, link.port), timeout=30) as connection:
        connection.sendall(b"kept")
        assert connection.recv(10) == b"kept"
    link.close()


def test_a_closed_link_leaves_no_thread_and_no_loop(echo: int) -> None:
    def open_and_close() -> None:
        before = threading.active_count()
        link = Link("test", ("127.0.0.1", echo))
        link.close()
        assert threading.active_count() == before
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()

    event_loops.in_thread(open_and_close)


def fault(at: float, **changes: Any) -> Fault:
    return Fault(at, "kill", "worker", 0.0, **{"during_recovery": False, **changes})


def test_recovery_is_the_time_to_the_next_result_without_the_time_that_had_no_work() -> None:
    samples = [(0.0, 5), (10.0, 0), (14.0, 3), (20.0, 0), (30.0, 0)]
    found = recoveries([fault(1.0), fault(9.0), fault(21.0)], [3.5, 16.0, 29.0], samples)
    assert [r.seconds for r in found] == [2.5, pytest.approx(16 - 9 - 4), None]
    assert [r.had_work for r in found] == [True, True, False]
    lines = {line.kind: line for line in table(found)}
    assert lines["all"].count == 3
    assert lines["all"].no_work == 1
    assert lines["worker: kill -9"].worst == pytest.approx(3.0)
    assert lines["of these, within 1 s of another"].count == 0


def test_a_fault_after_the_last_result_has_no_recovery_but_had_work() -> None:
    (found,) = recoveries([fault(5.0)], [1.0], [(0.0, 4), (6.0, 4)])
    assert (found.seconds, found.had_work) == (None, True)


def test_the_95th_percentile_of_few_numbers_is_the_largest() -> None:
    assert quantile([1.0, 2.0, 3.0], 0.95) == 3.0
    assert quantile([float(n) for n in range(1, 101)], 0.95) == 95.0
    assert quantile([], 0.5) is None


def entry(action: str, fate: Any, at: float = 0.0, **more: Any) -> Entry:
    return Entry(at, action, more.pop("key", "ada-1"), fate, **{"id": 1, **more})


def test_an_unanswered_request_may_take_effect_later() -> None:
    submitted = entry("submit", "acknowledged")
    assert allowed_states([submitted]) == {1: {"active"}}
    assert allowed_states([submitted, entry("pause", "acknowledged", 5)]) == {1: {"paused"}}
    lost = entry("pause", "unknown", 5)
    assert allowed_states([submitted, lost]) == {1: {"active", "paused"}}
    cancelled = entry("cancel", "acknowledged", 9)
    assert allowed_states([submitted, lost, cancelled]) == {1: {"cancelled", "paused"}}
    late = entry("cancel", "acknowledged", 500)
    assert allowed_states([submitted, lost, late]) == {1: {"cancelled"}}


def experiment(id: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": id,
        "name": f"ada-{id}",
        "owner": "ada",
        "state": "done",
        "spec": {"kind": "linear_model", "seed": 3},
        **dict.fromkeys(("num_points", "num_done", "points", "points_done"), 1),
        **dict.fromkeys(("num_failed", "points_failed", "points_miscounted"), 0),
        **changes,
    }


def point(**changes: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "identity": "a",
        "state": "done",
        "error": None,
        "metrics": {"loss": 0.5, "tokens_per_second": 1.0},
        "attempt_metrics": {"loss": 0.5, "tokens_per_second": 1.0},
        "attempt_outcome": "done",
        "nonfinite": {},
        "series": "x",
        "num_results": 1,
        "num_running": 0,
        "num_lost": 0,
        "lease_owner": None,
        "wanted_by": ["done"],
        **changes,
    }


def headings(
    experiments: list[dict[str, Any]],
    points: list[dict[str, Any]],
    diary: list[Entry],
    weights: dict[str, str] | None = None,
) -> set[str]:
    broken = {"experiments": experiments, "measurements": points, "checkpoints": []}
    quiet = {
        "measurements": [point(metrics={"loss": 0.5, "tokens_per_second": 9.0})],
        "checkpoints": [],
    }
    found = audit([diary], broken, quiet, (weights or {}, {"w": "1"}))
    return {finding.heading for finding in found}


GOOD = [entry("submit", "acknowledged")]


def test_the_audit_finds_nothing_in_a_sound_lab() -> None:
    assert headings([experiment()], [point()], GOOD) == set()
    paused = experiment(state="paused", num_done=0, points_done=0)
    asked = [*GOOD, entry("pause", "acknowledged", 1)]
    open_point = point(state="open", num_results=0, wanted_by=["paused"])
    assert headings([paused], [open_point], asked) == set()
    assert headings([experiment()], [point()], asked) == set(), "measured for another experiment"
    given_up = point(state="failed", num_results=0, num_lost=3, wanted_by=["paused"])
    assert headings([paused], [given_up], asked) == set()
    assert headings([], [], [entry("submit", "unknown", id=None)]) == set()
    assert headings([experiment()], [point()], GOOD, {"w": "1"}) == set()


@pytest.mark.parametrize(
    ("experiments", "points", "diary", "heading"),
    [
        ([], [], GOOD, LOST),
        ([experiment(), experiment(2, name="ada-1")], [point()], GOOD, DOUBLED),
        ([experiment()], [point()], [entry("submit", "rejected", id=None, status=422)], WRONG),
        ([experiment()], [point()], [], WRONG),
        ([experiment(state="active")], [point()], GOOD, STUCK),
        ([experiment(points_done=0, num_done=0)], [point()], GOOD, STUCK),
        ([experiment(state="paused")], [point()], GOOD, WRONG),
        ([experiment()], [point()], [*GOOD, entry("cancel", "acknowledged", 1)], WRONG),
        ([experiment(num_done=0)], [point()], GOOD, WRONG),
        ([experiment()], [point(num_results=2)], GOOD, DOUBLED),
        ([experiment()], [point(num_results=0)], GOOD, LOST),
        ([experiment()], [point(attempt_metrics={"loss": 0.6})], GOOD, WRONG),
        ([experiment()], [point(identity="b")], GOOD, WRONG),
        ([experiment()], [point(series="y")], GOOD, WRONG),
        ([experiment()], [point(state="failed", num_results=0)], GOOD, WRONG),
        ([experiment()], [point(state="failed", num_results=0, num_lost=3)], GOOD, WRONG),
        ([experiment()], [point(state="running", num_results=0)], GOOD, STUCK),
        ([experiment()], [point(lease_owner="worker-1")], GOOD, STUCK),
        ([experiment()], [point(num_running=1)], GOOD, STUCK),
        ([experiment()], [point(state="open", num_results=0, wanted_by=None)], GOOD, STUCK),
    ],
)
def test_the_audit_finds_each_harm(
    experiments: list[dict[str, Any]],
    points: list[dict[str, Any]],
    diary: list[Entry],
    heading: str,
) -> None:
    assert heading in headings(experiments, points, diary)


def test_the_audit_finds_a_changed_last_bit_and_changed_weights() -> None:
    changed = {"loss": 0.5000000000000001, "tokens_per_second": 1.0}
    assert headings([experiment()], [point(metrics=changed, attempt_metrics=changed)], GOOD) == {
        WRONG
    }
    assert headings([experiment()], [point()], GOOD, {"w": "2"}) == {WRONG}
    assert headings([experiment()], [point()], GOOD, {"another": "1"}) == {WRONG}


def test_an_unanswered_request_that_is_cut_off_waits_no_longer_than_the_client() -> None:
    """A link that was cut while it closes does not hang either."""
    link = Link("test", ("127.0.0.1", 9))
    link.cut()
    began = time.monotonic()
    link.close()
    assert time.monotonic() - began < 60
