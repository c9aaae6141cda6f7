"""Error responses are RFC 9457 problem details, and the OpenAPI document declares them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Lab
from fastapi import FastAPI
from fastapi.testclient import TestClient

from ucurve.client import Client
from ucurve.client.http import RequestRejectedError
from ucurve.schemas.problems import MEDIA_TYPE, Problem

LINEAR = {"kind": "linear_model", "num_features": 6, "width": 8, "draws": 2, "targets": 2}


@pytest.fixture(scope="module")
def team(
    database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A lab that requires tokens, seen by its first admin; without a worker."""
    running = Lab(database_url, broker_url, tmp_path_factory.mktemp("team"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_KINDS", str(Path(__file__).parent / "kinds"))
        try:
            running.start_api(UCURVE_ACCESS="tokens", UCURVE_OWNER="root")
            running.token = (running.data / "admin-token").read_text().strip()
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def tokens(team: Lab) -> dict[str, str]:
    """Tokens of an admin and a viewer."""
    team.client.set_user("vera", role="viewer")
    secret = team.client.create_token("test", owner="vera").secret
    return {"root": str(team.token), "vera": secret, "": ""}


def check(answer: httpx.Response, status: int, path: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"urn:ucurve:problem:{status}"
    assert (problem["status"], problem["instance"]) == (status, path)
    assert problem["title"]
    return problem


@pytest.mark.parametrize(
    ("status", "user", "method", "path", "body", "detail"),
    [
        (401, "", "GET", "/v1/me", None, "requires an access token"),
        (403, "vera", "POST", "/v1/experiments", {"spec": LINEAR}, "requires the role submitter"),
        (404, "vera", "GET", "/v1/experiments/999999", None, "no experiment 999999"),
        (404, "vera", "GET", "/v1/nothing", None, "Not Found"),
        (409, "root", "PUT", "/v1/users/root", {"role": "viewer"}, "only admin"),
        (422, "root", "POST", "/v1/experiments", {"spec": {"kind": "linear"}}, "not valid"),
    ],
)
def test_errors_are_problem_details(
    team: Lab,
    tokens: dict[str, str],
    status: int,
    user: str,
    method: str,
    path: str,
    body: Any,
    detail: str,
) -> None:
    headers = {"Authorization": f"Bearer {tokens[user]}"} if user else {}
    answer = httpx.request(method, team.url + path, json=body, headers=headers)
    problem = check(answer, status, path)
    assert detail in problem["detail"]
    for error, legacy in zip(problem["errors"], problem["problems"], strict=True):
        assert (error["pointer"], error["detail"]) == (legacy["pointer"], legacy["message"])
    assert bool(problem["errors"]) == (status == 422)


def test_a_body_that_is_too_large_is_a_413_before_it_is_read(
    team: Lab, tokens: dict[str, str]
) -> None:
    def endless() -> Iterator[bytes]:
        yield from [b" " * 2**20] * 300

    headers = {"Authorization": f"Bearer {tokens['root']}", "Content-Type": "application/json"}
    with httpx.Client(base_url=team.url, headers=headers, timeout=60) as http:
        announced = http.build_request("POST", "/v1/plan", content=b"{}")
        announced.headers["Content-Length"] = str(2**40)
        check(_without_body(team, announced), 413, "/v1/plan")
        check(http.post("/v1/plan", content=endless()), 413, "/v1/plan")


def _without_body(team: Lab, request: httpx.Request) -> httpx.Response:
    """Send only the head of a request, as a client does that waits before it uploads."""
    url = httpx.URL(team.url)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        head = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        connection.sendall(f"{head}\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
            part = connection.recv(65536)
            if not part:
                break
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return httpx.Response(int(lines[0].split()[1]), headers=headers, content=body)


def test_an_unexpected_error_is_a_500_that_reveals_nothing() -> None:
    from api import errors

    app = FastAPI()
    errors.install(app)

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("a secret path")

    answer = TestClient(app, raise_server_exceptions=False).get("/broken")
    problem = check(answer, 500, "/broken")
    assert "secret" not in answer.text
    assert "log" in problem["detail"]


def test_the_client_reads_problems_of_this_and_the_previous_release(team: Lab) -> None:
    with pytest.raises(RequestRejectedError, match="There is no experiment 999999") as refusal:
        Client(team.url, team.token).experiment(999999)
    assert refusal.value.problem.title == "Not found"
    old = {
        "title": "The input is not valid.",
        "status": 422,
        "problems": [{"pointer": "/spec/draws", "message": "Must be a whole number."}],
    }
    read = RequestRejectedError(422, Problem.model_validate(old))
    assert str(read) == "draws: Must be a whole number."
    assert read.problem.problems[0].message == "Must be a whole number."


def test_the_openapi_document_declares_the_problems_of_each_route(team: Lab) -> None:
    document = httpx.get(f"{team.url}/v1/openapi.json").json()
    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert len(operations) > 30
    for (_, path), operation in operations.items():
        declared = {int(s) for s in operation["responses"] if s[0] in "45"}
        for status in declared:
            content = operation["responses"][str(status)]["content"]
            assert content == {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        assert {408, 431, 500} <= declared, path
        assert (401 in declared) == (not path.startswith("/health")), path
        assert (404 in declared) >= ("{id}" in path), path
        assert (413 in declared) == ("requestBody" in operation), path
    submitted = operations["post", "/v1/experiments"]["responses"]
    assert set(submitted) == {
        *("201", "401", "403", "408", "409", "413", "422", "429", "431", "500", "503", "507")
    }
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert {"FieldError", "FieldProblem", "Problem"} <= document["components"]["schemas"].keys()


def test_every_route_and_every_field_of_an_answer_is_described(team: Lab) -> None:
    document = httpx.get(f"{team.url}/v1/openapi.json").json()
    schemas = document["components"]["schemas"]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for operation in operations:
        assert operation.get("summary"), operation["operationId"]
        assert operation.get("description"), operation["summary"]
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{operation['summary']}: {parameter['name']}"
    pending = [names_in(operation["responses"]) for operation in operations]
    answers: set[str] = set()
    while pending:
        for name in pending.pop() - answers:
            answers.add(name)
            pending.append(names_in(schemas[name]))
    assert len(answers) > 40
    specs = {n for n in answers if "const" in schemas[n].get("properties", {}).get("kind", {})}
    specs |= {"LogSpaced"}
    missing = [
        f"{name}.{field}"
        for name in sorted(answers - specs)
        for field, schema in schemas[name].get("properties", {}).items()
        if not schema.get("description")
    ]
    assert not missing, "\n".join(missing)


def names_in(node: Any) -> set[str]:
    """Return the schemas that a part of the document refers to."""
    if isinstance(node, list):
        return {name for item in node for name in names_in(item)}
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"].rsplit("/", 1)[-1]} if isinstance(node.get("$ref"), str) else set()
    return own | {name for item in node.values() for name in names_in(item)}


def test_a_405_names_the_methods_of_the_path_whatever_its_parameters(
    team: Lab, tokens: dict[str, str]
) -> None:
    key = {"Idempotency-Key": "one-for-all-of-them"}
    headers = {"Authorization": f"Bearer {tokens['root']}"}
    for method, path, allowed in (
        ("PUT", "/v1/experiments", "GET, POST"),
        ("PUT", "/v1/experiments/7", "DELETE, GET, PATCH"),
        ("GET", "/v1/experiments/7/star", "DELETE, PUT"),
        ("POST", "/v1/experiments/7/star", "DELETE, PUT"),  # star is no action of an experiment
        ("POST", "/v1/experiments/7/verdicts", "GET"),
        ("GET", "/v1/experiments/7/pause", "POST"),
        ("PATCH", "/v1/users/ada", "PUT"),
        ("GET", "/v1/plan", "POST"),
        ("PUT", "/v1/experiments/7/extend", "POST"),  # a key counts for what the path has only
        ("PUT", "/v1/tokens/7", "DELETE"),
        ("TRACE", "/v1/experiments/7/star", "DELETE, PUT"),
    ):
        answer = httpx.request(method, team.url + path, headers=headers | key)
        check(answer, 405, path)
        assert answer.headers["allow"] == allowed, path
