"""Transitions on the real database: leases, fencing, shared measurements and the cursor."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from db_helpers import (
    VERSIONS,
    act,
    claim,
    experiment,
    expire_leases,
    finish,
    point,
    seen,
    submit,
)
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from db import leases, recovery, submissions
from db.models import Base, Experiment, Measurement, Worker
from db.session import open_session
from worker.predecessor import expire_leases_of_predecessor

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    yield
    with open_session() as session:
        session.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)} CASCADE"))
        session.commit()


def test_a_slice_has_one_group_and_about_two_seconds_of_work() -> None:
    submit("ada", *(point(f"a{i}", seconds=0.8) for i in range(5)), point("b", group_key="b"))
    _, first = claim()
    assert [p.identity for p in first] == ["a0", "a1"]
    _, second = claim(speed=0.1)
    assert [p.identity for p in second] == ["a2", "a3", "a4"]


def test_points_are_ordered_by_stage_then_loaded_group_then_position() -> None:
    submit(
        "ada",
        point("a0"),
        point("b0", group_key="b"),
        point("a1", stage=1),
        point("b1", group_key="b", stage=1),
    )
    order = []
    for _ in range(4):
        token, (taken, *_rest) = claim(loaded="b", slice_seconds=0)
        order.append(taken.identity)
        assert finish(token, taken.id)
    assert order == ["b0", "a0", "b1", "a1"]


def test_a_point_is_claimed_only_by_a_worker_that_can_run_it() -> None:
    submit("ada", point("gpu", requires_device="cuda"), point("large", requires_memory_gb=40))
    assert claim() == ("", [])
    assert [p.identity for p in claim(memory_gb=48)[1]] == ["large"]
    assert [p.identity for p in claim(device="cuda")[1]] == ["gpu"]


def test_two_workers_never_lease_the_same_point() -> None:
    submit("ada", *(point(f"p{i:03d}", seconds=0.1) for i in range(200)))
    taken: list[str] = []

    def work(name: str) -> None:
        while (got := claim(name))[1]:
            taken.extend(p.identity for p in got[1])

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [f"p{i:03d}" for i in range(200)]


def test_a_worker_that_lost_its_lease_cannot_write_and_its_attempt_is_lost() -> None:
    id = submit("ada", point("p"))
    old, (held,) = claim("slow")
    with open_session() as session:
        attempt = leases.begin(session, held.id, old, "slow", "cpu", VERSIONS)
        session.commit()
    assert attempt is not None
    expire_leases()
    assert seen(id)[0].state == "open"
    new, (again,) = claim("fast")
    assert again.id == held.id
    with open_session() as session:
        assert not leases.finish(session, held.id, old, attempt, {"metrics": {"x": 666.0}})
        session.commit()
    assert finish(new, held.id, {"metrics": {"x": 1.0}}, "fast")
    (row,) = seen(id)
    assert (row.state, row.metrics) == ("done", {"x": 1.0})
    with open_session() as session:
        outcomes = session.execute(text("SELECT worker, outcome FROM attempts ORDER BY id")).all()
    assert [tuple(o) for o in outcomes] == [("slow", "lost"), ("fast", "done")]


def test_a_result_whose_attempt_the_database_forgot_is_measured_again() -> None:
    """A server that crashes may forget the last attempts: they are committed without a sync."""
    id = submit("ada", point("forgotten"))
    token, (held,) = claim()
    with open_session() as session:
        attempt = leases.begin(session, held.id, token, "w", "cpu", VERSIONS)
        session.commit()
        assert attempt is not None
        session.execute(text("DELETE FROM attempts"))
        session.commit()
        assert not leases.finish(session, held.id, token, attempt, {"metrics": {"x": 1.0}})
        leases.release(session, token)
        session.commit()
    assert seen(id)[0].state == "open"
    token, (again,) = claim()
    assert finish(token, again.id, {"metrics": {"x": 1.0}})
    assert seen(id)[0].state == "done"


def test_an_expired_lease_of_a_point_that_is_not_wanted_ends_with_a_sweep() -> None:
    id, other = submit("ada", point("a")), submit("ada", point("b", group_key="b"))
    token, (held,) = claim()
    with open_session() as session:
        assert leases.begin(session, held.id, token, "w", "cpu", VERSIONS) is not None
        session.commit()
    still, _ = claim()
    assert act(id, "pause")
    expire_leases()

    def rows() -> list[tuple[Any, ...]]:
        with open_session() as session:
            recovery.open_unwanted(session)
            session.commit()
            query = "SELECT state, lease_token IS NULL, num_lost FROM measurements ORDER BY id"
            return [tuple(row) for row in session.execute(text(query))]

    assert rows() == [("open", True, 1), ("running", False, 0)], "the other one waits for a claim"
    with open_session() as session:
        assert session.scalars(text("SELECT outcome FROM attempts")).all() == ["lost"]
    assert not finish(token, held.id)
    assert act(id, "resume")
    assert act(other, "pause")
    assert rows()[1] == ("open", True, 0)
    assert still is not None
    assert [p.id for p in claim()[1]] == [held.id]


def test_renewing_extends_a_lease_and_reports_unwanted_points() -> None:
    id = submit("ada", point("p"))
    token, (held,) = claim()
    expire_leases()
    with open_session() as session:
        assert leases.renew(session, token) == {held.id: True}
        session.commit()
        leases.publish_live(session, held.id, token, {"done": 3})
        session.commit()
    assert claim("other") == ("", [])
    assert seen(id)[0].live == {"done": 3}
    assert act(id, "pause")
    with open_session() as session:
        assert leases.renew(session, token) == {held.id: False}
        leases.release(session, token)
        session.commit()
    assert claim() == ("", [])
    assert act(id, "resume")
    assert [p.identity for p in claim()[1]] == ["p"]


def test_a_shared_running_point_survives_the_cancellation_of_one_experiment() -> None:
    a = submit("ada", point("shared"))
    token, (held,) = claim()
    b = submit("bob", point("shared", labels={"name": "bob's name"}))
    assert act(a, "cancel")
    with open_session() as session:
        assert leases.renew(session, token) == {held.id: True}
        session.commit()
    assert finish(token, held.id)
    (row,) = seen(b)
    assert (row.state, row.labels, row.reused) == ("done", {"name": "bob's name"}, False)
    assert experiment(b).state == "done"
    assert experiment(a).state == "cancelled"
    c = submit("eve", point("shared"))
    assert experiment(c).state == "done"
    assert experiment(c).num_reused == 1


def test_submitting_while_a_point_finishes_misses_no_result() -> None:
    submit("ada", point("p"))
    token, (held,) = claim()
    with open_session() as finishing:
        attempt = leases.begin(finishing, held.id, token, "w", "cpu", VERSIONS)
        assert attempt is not None
        leases.finish(finishing, held.id, token, attempt, {"metrics": {"x": 1.0}})
        waiting: list[int] = []
        thread = threading.Thread(target=lambda: waiting.append(submit("bob", point("p"))))
        thread.start()
        time.sleep(0.3)
        assert not waiting, "submitting has to wait for the finishing transaction"
        finishing.commit()
    thread.join(10)
    assert experiment(waiting[0]).state == "done"


def test_the_cursor_misses_nothing_when_transactions_commit_in_reverse_order() -> None:
    id = submit("ada", point("p"), point("q", group_key="b"))
    (one, (p,)), (two, (q,)) = claim("w1"), claim("w2")
    cursor = experiment(id).version
    slow, fast = open_session(), threading.Thread(target=finish, args=(two, q.id, None, "w2"))
    attempt = leases.begin(slow, p.id, one, "w1", "cpu", VERSIONS)
    assert attempt is not None
    assert leases.finish(slow, p.id, one, attempt, {"metrics": {"x": 1.0}})
    fast.start()
    time.sleep(0.3)
    early = seen(id, cursor)  # whatever a reader sees here it will not ask for again
    cursor = max((row.version for row in early), default=cursor)
    slow.commit()
    slow.close()
    fast.join(10)
    late = seen(id, cursor)
    assert sorted({row.identity for row in [*early, *late] if row.state == "done"}) == ["p", "q"]


def test_users_share_workers_and_idle_time_earns_no_credit() -> None:
    submit("ada", *(point(f"a{i}") for i in range(100)))
    for _ in range(10):
        claim()
    submit("bob", *(point(f"b{i}") for i in range(100)))
    owners = [claim()[1][0].identity[0] for _ in range(10)]
    assert owners.count("b") in (5, 6), owners
    assert owners[:2].count("b") == 1, "bob starts within one slice"


def test_a_point_that_kills_workers_fails_with_the_reason_and_can_be_retried() -> None:
    id = submit("ada", point("p"))
    for _ in range(leases.MAX_LOST):
        token, (held,) = claim()
        with open_session() as session:
            assert leases.begin(session, held.id, token, "w", "cpu", VERSIONS) is not None
            session.commit()
        expire_leases()
    assert claim() == ("", [])
    with open_session() as session:
        assert recovery.fail_repeatedly_lost(session) == held.id
        assert recovery.fail_repeatedly_lost(session) is None
        session.commit()
    assert "died 3 times" in seen(id)[0].error
    assert experiment(id).state == "failed"
    assert act(id, "retry")
    assert experiment(id).state == "active"
    assert experiment(id).num_failed == 0
    token, (held,) = claim()
    assert finish(token, held.id)
    assert experiment(id).state == "done"


def test_resubmitting_a_failed_point_reopens_it_in_every_experiment() -> None:
    a = submit("ada", point("p"), point("q"))
    token, (p, q) = claim()
    assert finish(token, p.id, {"traceback": "Traceback\nValueError: no"})
    assert finish(token, q.id)
    assert (experiment(a).state, experiment(a).num_failed) == ("done", 1)
    submit("bob", point("p"))
    assert (experiment(a).state, experiment(a).num_failed) == ("active", 0)
    token, (p,) = claim()
    assert finish(token, p.id)
    assert (experiment(a).state, experiment(a).num_done) == ("done", 2)


def test_many_concurrent_submissions_of_the_same_grid_share_its_rows() -> None:
    grid = [point(f"p{i:03d}") for i in range(300)]
    threads = [
        threading.Thread(target=submit, args=(f"user{i}", *(grid if i % 2 else grid[::-1])))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with open_session() as session:
        assert session.query(Measurement).count() == 300
        assert session.query(Experiment).filter_by(num_points=300).count() == 6


def test_submitting_overlapping_points_while_they_are_claimed_never_deadlocks() -> None:
    submit("ada", *(point(f"p{i:03d}", seconds=0.5) for i in range(60)))
    broken: list[Exception] = []

    def repeat(action: Callable[[], object]) -> None:
        try:
            for _ in range(12):
                action()
        except OperationalError as error:
            broken.append(error)

    again = [point(f"p{i:03d}", seconds=0.5) for i in range(50, 110)]
    actions = [lambda: submit("ada", *again), lambda: submit("ada", *again[::-1]), claim, claim]
    threads = [threading.Thread(target=repeat, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert broken == []


def test_a_reopened_point_is_measured_as_it_is_planned_now() -> None:
    submit("ada", point("p", source={"path": "/old"}))
    token, (p,) = claim()
    assert finish(token, p.id, {"traceback": "Traceback\nFileNotFoundError: /old"})
    submit("ada", point("p", source={"path": "/new"}))
    assert claim()[1][0].source == {"path": "/new"}


def test_a_suite_never_mixes_two_recipes() -> None:
    suite = {"name": "s", "description": "", "evaluation": None, "recipe": "one"}
    with open_session() as session:
        submissions.register_suite(session, suite, [])
        submissions.register_suite(session, suite, [])
        with pytest.raises(submissions.SuiteTakenError):
            submissions.register_suite(session, {**suite, "recipe": None}, [])


def test_the_leases_of_a_dead_process_end_when_its_successor_starts() -> None:
    submit("ada", point("a"))
    token, (taken,) = claim()
    worker: dict[str, Any] = {"name": "w1", "host": "here", "pid": os.getpid()}
    with open_session() as session:
        owner = session.scalar(text("SELECT lease_owner FROM measurements"))
        worker["name"] = owner
        versions = {"device": "cpu", "memory_gb": 1.0, "versions": {}}
        session.add(Worker(name=owner, host="elsewhere", pid=1, **versions))
        session.commit()
    expire_leases_of_predecessor(worker)  # of another machine: nobody here knows whether it lives
    assert claim()[1] == []
    with subprocess.Popen(["sleep", "60"]) as running:
        with open_session() as session:
            session.execute(text("UPDATE workers SET host = 'here', pid = :p"), {"p": running.pid})
            session.commit()
        expire_leases_of_predecessor(worker)
        assert claim()[1] == []  # it lives
        running.kill()
    expire_leases_of_predecessor(worker)
    successor, (again,) = claim()
    assert again.id == taken.id
    assert not finish(token, taken.id)  # fenced off, had it lived
    assert finish(successor, again.id)
