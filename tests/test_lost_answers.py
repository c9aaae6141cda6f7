"""A request whose answer was lost is repeated with its key and changes nothing twice."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from conftest import Lab
from lossy_proxy import LossyProxy, lossy_proxy
from sqlalchemy import text

from api.background.sweep import sweep
from db.session import open_session
from ucurve.client import Client
from ucurve.experiments.study import Study

TEST_KINDS = True
NUM_WORKERS = 0
ENVIRONMENT = {"UCURVE_WEBHOOK_SECRET": "of a test"}
COUNT = {"kind": "slow_count", "to": [1, 2]}
STUDIED = {"name": "a", "spec": COUNT}
PATIENT = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)  # an API that starts again takes seconds


@pytest.fixture
def proxy(lab: Lab) -> Iterator[LossyProxy]:
    with lossy_proxy(lab.port) as running:
        yield running


@pytest.fixture
def client(proxy: LossyProxy) -> Client:
    return Client(proxy.url, retries=PATIENT)


def rows(query: str) -> int:
    with open_session() as session:
        return int(session.scalar(text(query)) or 0)


CHANGES: dict[str, tuple[Callable[[Client, int], object], str]] = {
    "submit": (lambda c, _: c.submit(COUNT), "SELECT count(*) FROM experiments"),
    "extend": (
        lambda c, id: c.extend(id, changes={"to": [1, 2, 3]}),
        "SELECT count(*) FROM experiments",
    ),
    "study": (
        lambda c, _: c.submit_study(
            Study.model_validate({"name": "s", "title": "s", "experiments": [STUDIED]})
        ),
        "SELECT count(*) FROM experiments",
    ),
    "user": (lambda c, _: c.set_user(uuid.uuid4().hex), "SELECT count(*) FROM users"),
    "token": (lambda c, _: c.create_token("laptop"), "SELECT count(*) FROM tokens"),
    "webhook": (
        lambda c, _: c.submit({"kind": "slow_count", "to": [0]}, webhook="http://127.0.0.1:9/hook"),
        "SELECT count(*) FROM experiments WHERE webhook IS NOT NULL",
    ),
    "pause": (lambda c, id: c.pause(id), "SELECT count(*) FROM experiments WHERE state = 'paused'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_lost_answer_leads_to_exactly_one_change(
    lab: Lab, proxy: LossyProxy, client: Client, name: str
) -> None:
    change, query = CHANGES[name]
    id = lab.client.submit(COUNT).id
    before = rows(query)
    proxy.to_lose = 2
    assert change(client, id)
    assert proxy.num_lost == 2
    assert len(proxy.requests) == 3
    assert rows(query) == before + 1


def test_a_delete_whose_answer_was_lost_succeeds(
    lab: Lab, proxy: LossyProxy, client: Client
) -> None:
    id = lab.client.submit(COUNT).id
    lab.client.cancel(id)
    proxy.to_lose = 1
    client.delete(id)
    assert proxy.num_lost == 1
    assert rows(f"SELECT count(*) FROM experiments WHERE id = {id}") == 0


def test_a_new_token_is_answered_again_and_stored_nowhere_in_clear(
    lab: Lab, proxy: LossyProxy, client: Client
) -> None:
    proxy.to_lose = 1
    secret = client.create_token("phone").secret
    assert proxy.num_lost == 1
    assert Client(lab.url, secret).me().token is not None
    with open_session() as session:
        stored = session.execute(text("SELECT * FROM idempotent_requests")).all()
    assert stored
    for row in stored:
        assert secret.encode() not in row.answer
        assert secret not in str(row)


def test_a_killed_api_answers_after_its_restart_what_it_had_committed(
    lab: Lab, proxy: LossyProxy, client: Client
) -> None:
    killed = threading.Event()

    def kill() -> None:
        lab.children["api"].kill()
        killed.set()

    before = rows("SELECT count(*) FROM experiments")
    proxy.to_lose, proxy.before_losing = 1, kill
    with ThreadPoolExecutor(1) as submitting:
        submitted = submitting.submit(client.submit, COUNT)
        assert killed.wait(30)
        lab.start_api()  # not in another thread: a child ends with the thread that started it
        id = submitted.result(60).id
    assert proxy.num_lost == 1
    assert rows("SELECT count(*) FROM experiments") == before + 1
    assert rows("SELECT max(id) FROM experiments") == id


def post(lab: Lab, key: str, body: Any = None, path: str = "experiments") -> httpx.Response:
    return httpx.post(
        f"{lab.url}/v1/{path}", json=body or {"spec": COUNT}, headers={"Idempotency-Key": key}
    )


def test_a_repeated_key_gets_the_first_answer_and_says_so(lab: Lab) -> None:
    key = uuid.uuid4().hex
    first, second = post(lab, key), post(lab, key)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.headers["location"] == second.headers["location"]
    assert first.headers["content-type"] == second.headers["content-type"]


def test_a_key_belongs_to_one_request_of_one_user(lab: Lab) -> None:
    key = uuid.uuid4().hex
    assert post(lab, key).status_code == 201
    other = post(lab, key, {"spec": {**COUNT, "to": [4]}})
    assert (other.status_code, "another request" in other.json()["detail"]) == (422, True)
    assert post(lab, key, {"name": "x"}, "tokens").status_code == 422
    lab.client.set_user("ada", role="submitter")
    secret = lab.client.create_token("test", owner="ada").secret
    headers = {"Idempotency-Key": key, "Authorization": f"Bearer {secret}"}
    theirs = httpx.post(f"{lab.url}/v1/experiments", json={"spec": COUNT}, headers=headers)
    assert theirs.status_code == 201
    assert theirs.json()["owner"] == "ada"


def test_a_key_that_can_be_guessed_is_refused_with_the_remedy(lab: Lab) -> None:
    answer = post(lab, "1")
    assert answer.status_code == 422
    assert "UUID" in answer.json()["detail"]


def test_a_refused_request_may_be_corrected_under_its_key(lab: Lab) -> None:
    key = uuid.uuid4().hex
    assert post(lab, key, {"spec": {"kind": "slow_count", "to": ["x"]}}).status_code == 422
    assert post(lab, key).status_code == 201


def test_a_second_request_at_the_same_time_waits_for_the_first(lab: Lab) -> None:
    """The first is held by a lock on the user's row, which it takes at its end."""
    key, answers = uuid.uuid4().hex, []
    owner = lab.client.me().user.name
    before = rows("SELECT count(*) FROM experiments")
    with open_session() as session:
        session.execute(text("SELECT FROM users WHERE name = :name FOR UPDATE"), {"name": owner})
        first = threading.Thread(target=lambda: answers.append(post(lab, key)))
        first.start()
        while not rows("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            pass
        second = post(lab, key)
        assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    first.join(30)
    assert answers[0].status_code == 201
    assert post(lab, key).content == answers[0].content
    assert rows("SELECT count(*) FROM experiments") == before + 1


def test_answers_are_removed_after_a_day(lab: Lab) -> None:
    key = uuid.uuid4().hex
    id = post(lab, key).json()["id"]
    with open_session() as session:
        session.execute(
            text("UPDATE idempotent_requests SET created_at = now() - interval '25 hours'")
        )
        session.commit()
    assert post(lab, key).json()["id"] > id
    with open_session() as session:
        session.execute(
            text("UPDATE idempotent_requests SET created_at = now() - interval '25 hours'")
        )
        session.commit()
    while not sweep():
        pass
    assert rows("SELECT count(*) FROM idempotent_requests") == 0
