"""Failures grouped by cause, and retrying a cause: only what is one's own."""

from __future__ import annotations

import time

import httpx
import pytest
from conftest import Lab, refused
from db_helpers import claim, finish

from api.failures import cause_id, cause_of
from api.lab_status import MAX_AGE
from ucurve.cli import main
from ucurve.client import Client
from ucurve.schemas.status import FailureGroup
from ucurve.schemas.users import Role

TEST_KINDS = True


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("ValueError: cannot count to -12", "ValueError: cannot count to N"),
        ("OSError: 1,234 of 5.5e-3 read", "OSError: N of N read"),
        ("FileNotFoundError: no '/data/it is.txt' here", "FileNotFoundError: no '…' here"),
        ("OSError: [Errno 28] in /data/a/b: full", "OSError: [Errno N] in …: full"),
        ("KeyError: 0f3a9b2c7d at seed3-step12", "KeyError: … at seed3-step12"),
        ("", "unknown error"),
    ],
)
def test_messages_that_differ_in_numbers_and_names_have_one_cause(message: str, cause: str) -> None:
    assert cause_of(message) == cause
    assert cause_id(cause_of(message)) == cause_id(cause)


def test_a_cause_is_bounded_and_two_types_of_exceptions_are_two_causes() -> None:
    assert len(cause_of("ValueError: " + "long " * 10_000)) == 200
    assert cause_of("ValueError: no 1") != cause_of("TypeError: no 1")


def fail_everything() -> None:
    """Do as a worker that fails at all there is."""
    while (taken := claim())[1]:
        token, points = taken
        for point in points:
            outcome = {"traceback": f"Traceback:\nValueError: cannot count to {point.inputs['to']}"}
            assert finish(token, point.id, outcome)


def causes(client: Client) -> dict[str, FailureGroup]:
    time.sleep(MAX_AGE)  # what the API has read before is as old at most
    return {group.cause: group for group in client.status().failures}


def test_a_cause_is_retried_in_ones_own_experiments_only(
    team: Lab,
    people: dict[Role, Client],
    sam: Client,
    sue: Client,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = sam.submit({"kind": "slow_count", "to": [-1, -2]}, name="of sam").id
    second = sue.submit({"kind": "slow_count", "to": [-3]}, name="of sue").id
    fail_everything()
    (group,) = causes(people["viewer"]).values()
    assert (group.cause, group.num) == ("ValueError: cannot count to N", 3)
    assert {ref.id for ref in group.experiments} == {first, second}
    assert group.owners == ["sam", "sue"]
    assert "submitter" in refused(403, lambda: people["viewer"].retry_failures(group.id))
    refused(404, lambda: sam.retry_failures("0" * 12))
    assert main(["--url", team.url, "--token", key_of(sam), "status"]) == 0
    assert group.id in capsys.readouterr().out
    arguments = ["--url", team.url, "--token", key_of(sam), "retry"]
    assert main([*arguments, "--cause", group.id]) == 0
    out = capsys.readouterr().out
    assert "2 evaluations of 1 experiment queued again; 1 left alone" in out
    assert sam.experiment(first).state == "queued"
    assert sue.experiment(second).state == "failed"
    message = refused(403, lambda: sam.retry_failures(group.id))
    assert message == "Only sue and admins can retry these points."
    assert main(arguments) == 2
    assert "--cause" in capsys.readouterr().err
    fail_everything()
    assert people["admin"].retry_failures(group.id).retried == 3
    fail_everything()
    sue.edit(second, archived=True)
    assert causes(sue)[group.cause].num == 2, "archived ones are off the list"
    sam.delete(first)
    assert not causes(sue)


def test_other_failures_of_the_experiment_stay_as_they_are(team: Lab, sam: Client) -> None:
    id = sam.submit({"kind": "slow_count", "to": [-11, -12]}).id
    token, points = claim(slice_seconds=60.0)
    assert len(points) == 2
    for point, error in zip(points, ("OSError: disk full", "ValueError: no"), strict=True):
        assert finish(token, point.id, {"traceback": error})
    retried = sam.retry_failures(causes(sam)["OSError: disk full"].id)
    assert (retried.retried, retried.experiments, retried.not_yours) == (1, [id], 0)
    assert sam.experiment(id).progress.failed == 1
    sam.cancel(id)
    assert not causes(sam), "what was cancelled needs no retry"


def test_metrics_need_a_key_where_the_lab_requires_them(
    team: Lab, people: dict[Role, Client]
) -> None:
    assert httpx.get(f"{team.url}/metrics").status_code == 401
    assert httpx.get(f"{team.url}/v1/status").status_code == 401
    key = {"Authorization": f"Bearer {key_of(people['viewer'])}"}
    answer = httpx.get(f"{team.url}/metrics", headers=key)
    assert answer.status_code == 200
    assert "ucurve_database_up 1.0" in answer.text


def key_of(client: Client) -> str:
    """The key that a client sends."""
    return client._http.headers["authorization"].removeprefix("Bearer ")
