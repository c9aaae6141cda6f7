"""Shared results: reuse between users, re-measurement, past tables. The tests play the worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from conftest import Lab
from sqlalchemy import func, select

from db import leases, users
from db.models import Attempt, Measurement
from db.session import open_session
from ucurve.client import Client, RequestRejectedError
from ucurve.schemas.experiments import Experiment as Shown

TEST_KINDS = True
NUM_WORKERS = 0
OLD = {"torch": "2.12", "hardware": "x86_64"}
NEW = {"torch": "2.13", "hardware": "a GPU"}
Outcome = Callable[[int], dict[str, Any]]


@pytest.fixture(scope="module")
def clients(lab: Lab) -> dict[str, Client]:
    """Two people with a token each."""
    found = {}
    with open_session() as session:
        for name in ("ada", "ben"):
            users.add_user(session, name, "submitter")
            found[name] = Client(lab.url, users.create_token(session, name, "test", None)[1])
        session.commit()
    return found


def count(client: Client, *to: int, **more: Any) -> Shown:
    return client.submit({"kind": "slow_count", "to": to}, **more)


def loss(to: int) -> dict[str, Any]:
    return {"metrics": {"nll_mean": to / 7, "seconds_training": 3.0}, "series": {"s": [to / 3]}}


def measure(
    outcome: Outcome = loss,
    worker: str = "old-1",
    device: str = "cpu",
    versions: dict[str, Any] = OLD,
) -> int:
    """Do as a worker does with all there is; answers how much that was."""
    num = 0
    while True:
        with open_session() as session:
            token, points = leases.claim(session, worker, device, 8.0, None, 1.0)
            for point in points:
                attempt = leases.begin(session, point.id, token, worker, device, versions)
                assert attempt is not None
                leases.finish(session, point.id, token, attempt, outcome(point.inputs["to"]))
            session.commit()
        if not points:
            return num
        num += len(points)


def num_of(row: type[Attempt] | type[Measurement]) -> int:
    with open_session() as session:
        return session.scalar(select(func.count()).select_from(row)) or 0


def refused(call: Callable[..., Any], *given: Any, **more: Any) -> tuple[int, str, str]:
    with pytest.raises(RequestRejectedError) as error:
        call(*given, **more)
    found = error.value.problem.errors
    return (
        error.value.status,
        found[0].pointer if found else "",
        found[0].detail if found else error.value.problem.detail,
    )


def test_a_second_user_reuses_all_results_and_more_draws_measure_only_new_points(
    clients: dict[str, Client],
) -> None:
    ada, ben = clients["ada"], clients["ben"]
    spec = {
        "kind": "linear_model",
        "num_features": 4,
        "width": 6,
        "draws": 5,
        "fixed_gammas": [0.1],
        "relative_gammas": [],
    }
    spec |= {"l2_sp": [1.0], "targets": 2}
    first = ada.submit(spec)
    total = first.progress.total
    answer = {"metrics": {"mse_mean": 1.0, "base": 1.0}}
    with open_session() as session:
        token, points = leases.claim(session, "w", "cpu", 8.0, None, 0.0)
        assert len(points) == total
        for point in points:
            attempt = leases.begin(session, point.id, token, "w", "cpu", OLD)
            assert attempt is not None
            leases.finish(session, point.id, token, attempt, answer)
        session.commit()
    before = num_of(Attempt), num_of(Measurement)
    second = ben.submit(spec)
    assert (second.owner, second.state, second.progress.reused) == ("ben", "done", total)
    assert (num_of(Attempt), num_of(Measurement)) == before
    assert [(row.id, row.attempt) for row in ben.rows(second.id)] == [
        (row.id, row.attempt) for row in ada.rows(first.id)
    ]
    more = ben.extend(first.id, changes={"fixed_gammas": [0.1, 0.2]})
    assert (more.owner, more.progress.reused, more.progress.total - total) == ("ben", total, 5)
    assert num_of(Measurement) == before[1] + 5
    assert "fixed_gammas [0.1,0.2]" in more.notes
    ben.cancel(more.id)


def test_concurrent_submissions_of_the_same_grid_share_the_work(
    clients: dict[str, Client],
) -> None:
    before, made = num_of(Attempt), []
    grid = range(100, 130)
    both = [
        threading.Thread(target=lambda c=client: made.append(count(c, *grid)))
        for client in clients.values()
    ]
    for one in both:
        one.start()
    for one in both:
        one.join(30)
    assert measure() == len(grid) == num_of(Attempt) - before
    assert [clients["ada"].experiment(one.id).progress.done for one in made] == [30, 30]


def test_fresh_remeasures_every_point_and_reports_agreement_and_machines(
    clients: dict[str, Client],
) -> None:
    ada, ben = clients["ada"], clients["ben"]
    first = count(ada, 201, 202, 203)
    measure()
    plan = ben.plan({"kind": "slow_count", "to": [201, 202, 203, 204]}, remeasure=True)
    assert (plan.num_existing, plan.num_again, plan.num_new) == (0, 3, 1)
    again = count(ben, 201, 202, 203, 204, remeasure=True)
    assert (again.fresh, again.progress.reused, again.progress.done) == (True, 0, 0)
    assert ben.agreement(again.id).num_waiting == 4

    def other(to: int) -> dict[str, Any]:
        found = {
            201: loss(201),
            202: {"metrics": {"nll_mean": 202 / 7 * (1 + 1e-6)}, "series": {"s": [202 / 3]}},
        }
        found[203] = {"metrics": {"nll_mean": None}, "nonfinite": {"nll_mean": "pos_inf"}}
        return found.get(to, loss(to)) | {"traceback": None}

    assert measure(other, "new-1", "cuda", NEW) == 4
    shown = ben.agreement(again.id)
    assert (
        shown.num_compared,
        shown.num_identical,
        shown.num_without_first,
        shown.num_waiting,
    ) == (3, 1, 1, 0)
    metric = shown.metrics["nll_mean"]
    assert (metric.num_identical, metric.num_states_differ) == (1, 1)
    assert metric.largest_relative == pytest.approx(1e-6)
    assert set(shown.metrics) == {"nll_mean"}, "how long it took need not agree"
    assert [point.labels["to"] for point in shown.points] == [203, 202]
    assert shown.points[0].metrics["nll_mean"].states == ("finite", "pos_inf")
    (machines,) = shown.machines
    assert (machines.first_workers, machines.again_workers) == (["old-1"], ["new-1"])
    assert machines.differing["device"] == ("cpu", "cuda")
    assert machines.differing["torch"] == ("2.12", "2.13")
    assert {row.labels["to"]: row.metrics["nll_mean"] for row in ada.rows(first.id)} == {
        to: to / 7 for to in (201, 202, 203)
    }
    row = next(row for row in ben.rows(again.id) if row.labels["to"] == 202)
    found = ben.provenance(row.id)
    assert [(attempt.repeat, attempt.worker) for attempt in found.attempts] == [
        (0, "old-1"),
        (1, "new-1"),
    ]
    assert count(ada, 201, 202, 203).progress.reused == 3, "who asks plainly gets the first numbers"


def test_concurrent_fresh_submissions_get_distinct_repeats_without_deadlock(
    clients: dict[str, Client],
) -> None:
    grid = list(range(300, 340))
    count(clients["ada"], *grid)
    measure()
    made: list[Shown] = []
    orders = [grid, grid[::-1], grid, grid[::-1]]
    asking = [
        threading.Thread(target=lambda c=client, o=order: made.append(count(c, *o, remeasure=True)))
        for client, order in zip([*clients.values()] * 2, orders, strict=True)
    ]
    for one in asking:
        one.start()
    for one in asking:
        one.join(60)
    assert measure() == 4 * len(grid)
    assert all(clients["ada"].agreement(one.id).num_identical == len(grid) for one in made)
    with open_session() as session:
        repeats = session.execute(
            select(Measurement.identity, func.array_agg(Measurement.repeat))
            .group_by(Measurement.identity)
            .having(func.count() > 4)
        ).all()
    assert [sorted(found) for _, found in repeats] == [[0, 1, 2, 3, 4]] * len(grid)


def test_the_table_as_of_a_past_time_does_not_change(clients: dict[str, Client], lab: Lab) -> None:
    ada = clients["ada"]
    one = count(ada, 401, 402)
    nothing_yet = datetime.now(UTC)
    measure(
        lambda to: (
            loss(to) if to == 401 else {"traceback": "Traceback\n  here\nValueError: too warm"}
        )
    )
    half = datetime.now(UTC)
    ada.retry(one.id)
    measure(lambda to: {"metrics": {"nll_mean": 99.0}})

    def states(at: datetime | None) -> list[tuple[str, Any, str | None]]:
        return [
            (row.state, row.metrics.get("nll_mean"), row.error) for row in ada.rows(one.id, at=at)
        ]

    assert states(None) == [("done", 401 / 7, None), ("done", 99.0, None)]
    assert states(half) == [("done", 401 / 7, None), ("failed", None, "ValueError: too warm")]
    assert states(nothing_yet) == [("open", None, None)] * 2
    assert [said[0].sentence for said in (ada.verdicts(one.id, half), ada.verdicts(one.id))] == [
        "1 points counted.",
        "2 points counted.",
    ]
    assert ",99.0," not in ada.csv(one.id, half)
    assert ",99.0," in ada.csv(one.id, datetime.now(UTC))
    (attempts,) = (
        ada.provenance(row.id).attempts for row in ada.rows(one.id) if row.labels["to"] == 402
    )
    assert [(attempt.outcome, bool(attempt.traceback)) for attempt in attempts] == [
        ("failed", True),
        ("done", False),
    ]
    assert ada.experiment_provenance(one.id).num_failed_before == 1
    for wrong in ("yesterday", "2999-01-01T00:00:00Z"):
        status, pointer, message = refused(ada.csv, one.id, wrong)
        assert (status, pointer, "2026-11-24T17:30:00Z" in message) == (422, "/at", True)
    params = {"at": "2020-01-01T00:00:00+02:00", "format": "csv"}
    assert (
        httpx.get(
            f"{lab.url}/v1/experiments/{one.id}/measurements?at=2020-01-01T00:00:00+02:00"
        ).status_code
        == 200
    )
    assert (
        httpx.get(f"{lab.url}/v1/experiments/{one.id}/measurements", params=params).status_code
        == 200
    )


def test_results_of_a_deleted_experiment_are_reused(
    clients: dict[str, Client],
) -> None:
    ada, ben = clients["ada"], clients["ben"]
    one = count(ada, 501, 502)
    ada.star(one.id)
    assert refused(ada.delete, one.id)[0] == 409
    measure()
    assert refused(ben.delete, one.id)[0] == 403
    before = num_of(Attempt), num_of(Measurement)
    ada.delete(one.id)
    assert refused(ada.experiment, one.id)[0] == refused(ada.delete, one.id)[0] == 404
    assert (num_of(Attempt), num_of(Measurement)) == before
    assert count(ben, 501, 502).state == "done"


def test_owners_edit_experiments_and_stars_are_personal(
    clients: dict[str, Client],
) -> None:
    ada, ben = clients["ada"], clients["ben"]
    one = count(ada, 501, name="old", tags=["a"])
    changed = ada.edit(
        one.id,
        name=" new ",
        notes="**why**",
        tags=["b", "c"],
        priority=3,
        archived=True,
        webhook="https://x.org/h",
    )
    assert (changed.name, changed.notes, changed.tags, changed.priority) == (
        "new",
        "**why**",
        ["b", "c"],
        3,
    )
    assert (changed.archived, changed.webhook, changed.spec) == (True, "https://x.org/h", one.spec)
    assert ada.edit(one.id, webhook=None).webhook is None
    assert ada.experiment(one.id).name == "new"
    assert refused(ben.edit, one.id, name="mine")[0] == 403
    ben.star(one.id)
    assert [client.experiment(one.id).starred for client in (ada, ben)] == [False, True]
    assert not ben.star(one.id, False).starred


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "  "}, "/name"),
        ({"priority": 11}, "/priority"),
        ({"webhook": "ftp://x"}, "/webhook"),
        ({"webhook": "https:///nowhere"}, "/webhook"),
        ({"tags": [""]}, "/tags/0"),
        ({"spec": {}}, "/spec"),
        ({"name": None}, "/name"),
    ],
)
def test_an_invalid_edit_names_its_field_and_changes_nothing(
    lab: Lab, clients: dict[str, Client], body: Any, pointer: str
) -> None:
    one = count(clients["ada"], 501, name="kept")
    answer = httpx.patch(f"{lab.url}/v1/experiments/{one.id}", json=body)
    assert (answer.status_code, [found["pointer"] for found in answer.json()["errors"]]) == (
        422,
        [pointer],
    )
    assert clients["ada"].experiment(one.id).name == "kept"


def test_an_extension_is_validated_as_a_spec_and_shares_points(
    clients: dict[str, Client],
) -> None:
    ada = clients["ada"]
    id = count(ada, 501, 502).id
    measure()
    assert refused(ada.extend, id, changes={"to": ["x"]})[:2] == (422, "/changes/to/0")
    assert refused(ada.extend, id, changes={"ot": [1]})[:2] == (422, "/changes/ot")
    assert refused(ada.extend, id, changes={"kind": "linear_model"})[:2] == (422, "/changes/kind")
    assert refused(ada.extend, id, changes={"to": [503]})[:2] == (422, "/changes")
    assert refused(ada.extend, id, 2)[:2] == (422, "/draws")
    linear = {
        "kind": "linear_model",
        "width": 8,
        "num_features": 6,
        "draws": 2,
        "targets": 2,
        "l2_sp": [0.0],
    }
    looked = ada.submit(linear)
    again = [
        ada.extend(looked.id, 1),
        ada.extend(looked.id, changes={"draws": 3, "targets": 2, "l2_sp": [0.0]}),
    ]
    assert [one.spec["looks"] for one in again] == [2, 2], (
        "more draws are a further look, however they are asked for"
    )
    for one in (looked, *again):
        ada.cancel(one.id)
    more = ada.extend(id, changes={"to": [501, 502, 504]})
    assert (more.progress.reused, more.progress.total, more.fresh) == (2, 3, False)
    measure()


def test_experiments_that_would_overwrite_their_output_cannot_be_remeasured(
    clients: dict[str, Client],
) -> None:
    spec = {"kind": "pretraining", "suite": "again", "data": "tiny-train"}
    assert refused(clients["ada"].submit, spec, remeasure=True)[:2] == (422, "/fresh")
