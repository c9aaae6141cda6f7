"""Limits per minute of users and addresses; the client repeats what was refused."""

from __future__ import annotations

import threading

import httpx
import pytest
from conftest import Lab
from fastapi.testclient import TestClient

from api.auth import rate_limits
from api.auth.rate_limits import RateLimiter, is_costly, network_of
from ucurve.client import Client, RequestRejectedError

ENVIRONMENT = {"UCURVE_REQUESTS_PER_MINUTE": "30"}
LINEAR = {"kind": "linear_model", "num_features": 4, "width": 8, "draws": 2, "targets": 2}


def test_as_many_requests_as_a_minute_allows_may_come_at_once_and_then_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(rate_limits.time, "monotonic", lambda: now)
    limiter = RateLimiter(per_minute=6)
    assert [limiter.seconds_to_wait("a") for _ in range(7)] == [0.0] * 6 + [10.0]
    assert limiter.seconds_to_wait("b") == 0, "each key has its own limit"
    now += 10
    assert [limiter.seconds_to_wait("a") for _ in range(2)] == [0.0, 10.0]


def test_the_number_of_remembered_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_KEYS", 3)
    limiter = RateLimiter(per_minute=1)
    for key in "abcd":
        limiter.seconds_to_wait(key)
    assert limiter.seconds_to_wait("a") == 0, "the least recent one was forgotten"
    assert limiter.seconds_to_wait("d") > 0


def test_an_address_of_ipv6_stands_for_its_network() -> None:
    assert network_of(("2001:db8::1", 1)) == network_of(("2001:db8::2", 2))
    assert network_of(("10.0.0.1", 1)) != network_of(("10.0.0.2", 1))


def test_what_pages_poll_is_never_limited() -> None:
    polled = ["/v1/experiments", "/v1/experiments/7", "/v1/experiments/7/measurements", "/v1/me"]
    assert not any(is_costly({"method": "GET", "path": path}) for path in polled)
    assert is_costly({"method": "POST", "path": "/v1/experiments/7/extend"})


def test_the_client_repeats_what_is_above_the_limit_of_its_user(team: Lab, sam: Client) -> None:
    answers = [_plan(team, sam) for _ in range(40)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["Retry-After"]) >= 1
    assert "more than 30 plans" in refused.json()["detail"]
    hasty = Client(team.url, _token(sam), patience=0.0)
    with pytest.raises(RequestRejectedError) as refusal:
        _plan_for_ever(hasty)
    assert refusal.value.status == 429
    assert sam.plan(LINEAR).num_points > 0, "it waits"
    assert team.client.plan(LINEAR).num_points > 0, "others are not concerned"


def test_unknown_tokens_are_slowed_and_valid_ones_are_not(
    team: Lab, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.main import app

    monkeypatch.setattr(rate_limits, "WRONG_TOKEN_SECONDS", 0.0)
    monkeypatch.setattr(rate_limits, "WRONG_TOKENS_PER_MINUTE", 5)
    app.middleware_stack = None  # built again, with these limits
    http = TestClient(app, "http://127.0.0.1", client=("10.1.2.3", 50000))

    def status(token: str) -> int:
        return http.get("/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code

    assert [status("ucurve_wrong") for _ in range(7)] == [401] * 5 + [429] * 2
    assert status(team.token) == 200
    app.middleware_stack = None


def test_a_user_may_have_two_large_plans_at_once() -> None:
    from api.errors import ApiError
    from api.planning import Slots

    slots, entered, leave = Slots(), threading.Semaphore(0), threading.Event()

    def plan() -> None:
        with slots.of("ada", 60.0):
            entered.release()
            leave.wait(30)

    threads = [threading.Thread(target=plan) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.acquire(timeout=30)
    while slots._entered["ada"] < 2:
        pass
    with pytest.raises(ApiError, match="2 large plans in progress") as refusal, slots.of("ada", 0):
        pass
    assert (refusal.value.status, refusal.value.headers) == (429, {"Retry-After": "2"})
    with pytest.raises(ApiError, match="The lab has too many"), slots.of("bob", 0):
        pass
    leave.set()
    for thread in threads:
        thread.join()
    with slots.of("ada", 0):
        assert slots._entered == {"ada": 1}
    assert not slots._entered


def _plan_for_ever(client: Client) -> None:
    while True:
        client.plan(LINEAR)


def _plan(team: Lab, user: Client) -> httpx.Response:
    headers = {"Authorization": f"Bearer {_token(user)}"}
    return httpx.post(f"{team.url}/v1/plan", json={"spec": LINEAR}, headers=headers)


def _token(user: Client) -> str:
    return user._http.headers["Authorization"].removeprefix("Bearer ")
