"""Requests are refused before they are read: too large, too slow, not storable, not permitted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import event_loops
import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from ports import free_port
from starlette.exceptions import HTTPException

from api import body_limit, http_protocol
from api.body_limit import DEFAULT_BYTES, MAX_BYTES
from ucurve.client import ApiUnavailableError, Client
from ucurve.schemas.problems import MEDIA_TYPE, Problem

LINEAR = {"kind": "linear_model", "num_features": 4, "width": 8, "draws": 2, "targets": 2}
ENVIRONMENT = {"UCURVE_ACCESS": "open"}


@pytest.fixture(scope="module")
def http(database_url: str, broker_url: str) -> TestClient:
    """The API in this process, without its background threads."""
    from api.main import app

    return TestClient(app, "http://127.0.0.1", client=("127.0.0.1", 50000))


@pytest.fixture(scope="module")
def url(database_url: str, broker_url: str) -> Iterator[str]:
    """The API in this process, served over TCP."""
    from api.main import app

    port = free_port()
    config = uvicorn.Config(
        app, port=port, http=http_protocol.HttpProtocol, lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def pointers(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["pointer"] for error in answer.json()["errors"]]


# ---- size


def test_every_route_with_a_body_has_a_limit_that_fits_it(http: TestClient) -> None:
    document = http.get("/v1/openapi.json").json()
    paths = {
        path
        for path, methods in document["paths"].items()
        if any("requestBody" in operation for operation in methods.values())
    }
    assert MAX_BYTES.keys() <= paths
    assert MAX_BYTES["/v1/sessions"] <= DEFAULT_BYTES, "it is read without a token"
    large = {path for path in paths if MAX_BYTES.get(path, DEFAULT_BYTES) > 4 * 2**20}
    assert large == {
        "/v1/references",
        "/v1/uploads",
        *(p for p in paths if p.startswith("/v1/import/")),
    }


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/plan", "/v1/experiments", "/v1/tokens"])
def test_a_body_above_the_limit_of_its_route_is_a_413(http: TestClient, path: str) -> None:
    size = MAX_BYTES.get(path, DEFAULT_BYTES) + 1
    announced = http.post(path, content=b" " * size)
    chunked = http.post(path, content=iter([b" " * 10_000] * (size // 10_000 + 1)))
    for answer in (announced, chunked):
        assert answer.status_code == 413, answer.text
        assert "larger than" in answer.json()["detail"]


def test_tags_and_names_are_bounded(http: TestClient) -> None:
    body = {"name": "n" * 201, "tags": ["t" * 81], "spec": LINEAR}
    assert pointers(http.post("/v1/experiments", json=body)) == ["/name", "/tags/0"]


# ---- text


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/v1/experiments?text=a%00b", "/text"),
        ("/v1/explorer/table?where=gamma%3D%00", "/where"),
        ("/v1/suites/a%00b", "/name"),
        ("/v1/nothing%00", ""),
    ],
)
def test_nul_in_path_or_query_is_refused_before_anything_is_sent(
    http: TestClient, path: str, pointer: str
) -> None:
    assert pointers(http.get(path)) == [pointer]


def test_text_that_cannot_be_stored_is_refused_with_its_place(http: TestClient) -> None:
    def submitted(json: str) -> list[str]:
        headers = {"Content-Type": "application/json"}
        return pointers(http.post("/v1/experiments", content=json, headers=headers))

    assert submitted(r'{"name": "\ud800", "tags": ["a", "\u0000"]}') == ["/tags/1", "/name"]
    assert submitted(r'{"spec": {"a\u0000": 1}}') == ["/spec"]
    deep = '{"spec": {"kind": ' + "[" * 40 + "]" * 40 + "}}"
    (place,) = submitted(deep)
    assert place.startswith("/spec/kind/0/0")


def test_whole_pairs_of_surrogates_and_a_moderate_depth_are_accepted(http: TestClient) -> None:
    body = '{"name": "\\ud83d\\ude00", "spec": {"kind": "linear_model", "draws": 2}}'
    answer = http.post("/v1/plan", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text


# ---- time


def test_a_body_that_stops_arriving_is_a_408(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "IDLE_SECONDS", 0.3)
    head = "POST /v1/plan HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    answer = exchange(url, f"{head}Content-Length: 100\r\n\r\n{{".encode())
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"took too long" in answer


def test_a_body_that_trickles_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "START_SECONDS", 0.3)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def read() -> None:
        body = body_limit.Body(receive, 10_000)
        while True:
            await body.receive()

    with pytest.raises(HTTPException, match="took too long"):
        event_loops.run(read())


def test_a_head_that_stops_arriving_or_never_ends_closes_the_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)
    assert exchange(url, b"GET /health/live HTTP/1.1\r\nHost: 127").startswith(b"HTTP/1.1 408")
    endless = b"GET /health/live HTTP/1.1\r\nX: " + b"x" * 200_000
    assert b"HTTP/1.1 431" in exchange(url, endless)
    long = b"GET /health/live?x=" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    head, _, body = exchange(url, long).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431")
    assert MEDIA_TYPE.encode() in head
    problem = Problem.model_validate_json(body)
    assert (problem.status, problem.title) == (431, "Address or headers too large")
    assert "Shorten the query" in problem.detail
    first = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answers = exchange(url, first, long)
    assert answers.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 431" in answers
    assert httpx.get(f"{url}/health/live").status_code == 200


def exchange(url: str, *messages: bytes) -> bytes:
    """Send messages, each after the answer before; return all until the server closes."""
    address = httpx.URL(url)
    received = b""
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        *first, last = messages
        for message in first:
            connection.sendall(message)
            received += connection.recv(65536)
        connection.sendall(last)
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                received += part
    return received


# ---- streams


def test_an_answer_that_breaks_while_it_is_sent_is_a_failed_transfer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from db import explorer

    def broken(*_: object) -> Iterator[Any]:
        yield []
        raise RuntimeError("the database went away")

    monkeypatch.setattr(explorer, "all_points", broken)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{url}/v1/explorer/table")
    with pytest.raises(ApiUnavailableError, match="was cut off"):
        Client(url, retries=(0.01,)).export_points()


def test_an_answer_that_cannot_begin_is_an_error(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api import table_export

    def broken(*_: object) -> Any:
        raise RuntimeError("no columns")

    monkeypatch.setattr(table_export, "columns", broken)
    client = TestClient(http.app, "http://127.0.0.1", False, client=("127.0.0.1", 50000))
    assert client.get("/v1/explorer/table").status_code == 500
