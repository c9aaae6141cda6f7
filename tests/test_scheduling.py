"""Fair scheduling: ten thousand points of one user do not delay the others."""

from __future__ import annotations

import time

from conftest import Lab
from sqlalchemy import text

from db.session import open_session
from db.submissions import submit

TEST_KINDS = True
SECONDS = 0.02  # a point takes
NUM_WORKERS = 1


def ask(owner: str, num: int, priority: int = 0, seconds: float = SECONDS) -> int:
    """An experiment of points that count to one; `seconds` is what the plan says of each."""
    points = [
        {
            "identity": f"{owner}-{priority}-{number}", "labels": {"to": number}, "source": {},
            "group_key": f"{number % 7}", "stage": number * 20 // num, "seconds": seconds,
            "inputs": {
                "protocol": "slow_count/1", "to": 1, "step_seconds": SECONDS, "number": number,
                "of": owner,
            },
            "requires_device": "any", "requires_memory_gb": 0.0,
        }
        for number in range(num)
    ]  # fmt: skip
    spec = {"kind": "slow_count", "to": [1], "step_seconds": SECONDS}
    with open_session() as session:
        made = submit(
            session,
            owner,
            {"name": owner, "kind": "slow_count", "spec": spec, "priority": priority},
            points,
        )
        session.commit()
        return made.id


def measured_in_order() -> list[str]:
    """The owners of all measured points, as they were begun."""
    with open_session() as session:
        return list(
            session.scalars(
                text("""
                    SELECT e.owner || e.priority
                    FROM attempts a JOIN experiment_points p USING (measurement_id)
                    JOIN experiments e ON e.id = p.experiment_id
                    WHERE a.outcome <> 'running' ORDER BY a.started_at, a.id""")
            )
        )


def until_measured(lab: Lab, id: int, num: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while lab.client.experiment(id).progress.done < num:
        assert time.monotonic() < deadline, lab.client.experiment(id).progress
        time.sleep(0.05)


def test_ten_points_start_within_one_slice_despite_ten_thousand_of_another_user(lab: Lab) -> None:
    many = ask("ana", 10_000)
    until_measured(lab, many, 30)
    few = ask("ben", 10)
    asked_at = time.time()
    until_measured(lab, few, 10)
    with open_session() as session:
        between = session.scalar(
            text("""
                SELECT count(*) FROM attempts a JOIN experiment_points p USING (measurement_id)
                WHERE p.experiment_id = :many
                AND a.started_at > to_timestamp(:asked) AND a.started_at < (
                    SELECT min(b.started_at)
                    FROM attempts b JOIN experiment_points q USING (measurement_id)
                    WHERE q.experiment_id = :few)"""),
            {"many": many, "few": few, "asked": asked_at},
        )
    assert between is not None
    assert (
        between <= 2 / SECONDS * 3
    )  # what is left of the slice in hand; a slice is 2 s of points, or 6 s where these are slower
    lab.client.cancel(many)


def test_two_workers_alternate_between_users_and_higher_priority_runs_first_and_costs_less(
    lab: Lab,
) -> None:
    lab.start_worker("worker-2")
    plain, high, urgent = (
        ask("cid", 400, seconds=0.5),
        ask("dea", 400, 4, seconds=0.5),
        ask("cid", 10, 1, seconds=0.5),
    )
    until_measured(lab, high, 120)
    until_measured(lab, urgent, 10)
    for id in (plain, high):
        lab.client.cancel(id)
    order = [owner for owner in measured_in_order() if owner in ("cid0", "cid1", "dea4")]
    last = len(order) - order[::-1].index("cid1")
    assert (
        order[:last].count("cid0") <= 16
    )  # within a user the higher priority first: but for slices of 4 points in hand
    assert max(order.index("dea4"), order.index("cid1")) < 40  # and nobody waits for long
    assert order.count("dea4") > 1.5 * (
        order.count("cid0") + order.count("cid1")
    )  # four steps of priority weigh four times


def test_finished_flags_of_all_experiments_match_their_measurements(lab: Lab) -> None:
    fails = lab.client.submit({"kind": "slow_count", "to": [-1, 1]}).id
    assert lab.client.wait(fails, timeout=60).progress.failed == 1
    lab.client.submit({"kind": "slow_count", "to": [-1, 2]})  # opens the failed one again
    assert lab.client.wait(fails, timeout=60).progress.failed == 1
    with open_session() as session:
        wrong = session.scalar(
            text("""
                SELECT count(*)
                FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
                WHERE p.ended <> (m.state IN ('done', 'failed'))""")
        )
    assert wrong == 0
