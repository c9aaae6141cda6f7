"""The REST API without a worker or torch; the tests play the worker where one is needed."""

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import Lab

from db import leases
from db.session import open_session
from ucurve.experiments import kinds

TEST_KINDS = True
NUM_WORKERS = 0
KINDS = ("gaussian_perturbation", "linear_model", "pretraining")


@pytest.fixture
def http(lab: Lab) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{lab.url}/v1", timeout=30) as client:
        yield client


def submit(http: httpx.Client, *to: int, **more: Any) -> dict[str, Any]:
    answer = http.post("/experiments", json={"spec": {"kind": "slow_count", "to": to}, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def measure(outcome: dict[str, Any] | None = None) -> int:
    """Do as a worker does with all there is; answers how much that was."""
    num = 0
    while True:
        with open_session() as session:
            token, points = leases.claim(session, "test", "cpu", 8.0, None, 1.0)
            for point in points:
                attempt = leases.begin(session, point.id, token, "test", "cpu", {})
                assert attempt is not None
                leases.finish(
                    session,
                    point.id,
                    token,
                    attempt,
                    outcome or {"metrics": {"counted": point.inputs["to"]}},
                )
            session.commit()
        num += len(points)
        if not points:
            return num


def problems(answer: httpx.Response, status: int = 422) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}


def test_every_invalid_field_is_named_by_its_pointer(http: httpx.Client) -> None:
    found = problems(
        http.post(
            "/experiments",
            json={"priority": 99, "spec": {"kind": "slow_count", "to": [1, "x"], "color": 1}},
        )
    )
    assert set(found) == {"/priority", "/spec/to/1", "/spec/color"}
    assert found["/priority"] == "Must be a whole number from -10 to 10, not 99."


def test_an_unknown_kind_is_rejected_with_the_list_of_kinds(http: httpx.Client) -> None:
    found = problems(http.post("/plan", json={"spec": {"kind": "seance"}}))
    assert all(kind in found["/spec/kind"] for kind in KINDS)
    assert "/spec/kind" in problems(http.post("/plan", json={"spec": {}}))
    assert "/spec" in problems(http.post("/plan", json={}))


def test_an_unknown_suite_is_rejected_with_a_hint_and_nothing_is_stored(
    http: httpx.Client,
) -> None:
    before = http.get("/experiments").json()["total"]
    found = problems(
        http.post(
            "/experiments", json={"spec": {"kind": "gaussian_perturbation", "suite": "tinny"}}
        )
    )
    assert "tiny" in found["/spec/suite"]
    assert http.get("/experiments").json()["total"] == before


def test_a_plan_counts_cached_points_and_stores_nothing(http: httpx.Client) -> None:
    submit(http, 101, 102)
    measure()
    submit(http, 103)
    preview = http.post(
        "/plan", json={"spec": {"kind": "slow_count", "to": [101, 102, 103, 104]}}
    ).json()
    assert [preview[name] for name in ("num_points", "num_existing", "num_running", "num_new")] == [
        4,
        2,
        1,
        1,
    ]
    assert "No worker is running" in preview["waits_for"]
    assert preview["estimated_seconds"] is None
    measure()
    assert (
        http.post("/plan", json={"spec": {"kind": "slow_count", "to": [104]}}).json()["num_new"]
        == 1
    )


def test_the_examples_of_the_schema_are_accepted_as_written(http: httpx.Client) -> None:
    schema = http.get("/openapi.json").json()
    body = schema["paths"]["/v1/plan"]["post"]["requestBody"]["content"]["application/json"]
    assert set(KINDS) <= set(body["examples"])
    for name, example in body["examples"].items():
        assert http.post("/plan", json=example["value"]).status_code == 200, name
    issue_example = {
        "kind": "gaussian_perturbation",
        "suite": "tiny",
        "gammas": [0.05, 0.1, 0.2, 0.3],
        "draws": 5,
    }
    assert http.post("/plan", json={"spec": issue_example}).status_code == 200


def test_the_schema_describes_every_kind_and_every_route_has_a_summary(http: httpx.Client) -> None:
    schema = http.get("/openapi.json").json()
    assert set(KINDS) <= set(
        schema["components"]["schemas"]["Submission"]["properties"]["spec"]["discriminator"][
            "mapping"
        ]
    )
    for path, methods in schema["paths"].items():
        assert all(method.get("summary") for method in methods.values()), path


def test_a_submission_is_returned_unchanged_and_found_by_search(http: httpx.Client) -> None:
    sent = submit(
        http, 201, name="a 100% odd_name", tags=["red", "blue"], notes="why *not*", priority=3
    )
    read = http.get(f"/experiments/{sent['id']}").json()
    assert (read["name"], read["tags"], read["notes"], read["priority"]) == (
        "a 100% odd_name",
        ["red", "blue"],
        "why *not*",
        3,
    )
    assert read["state"] == "queued"
    assert "No worker is running" in read["waits_for"]
    assert httpx.get(read["url"]).json()["id"] == sent["id"]
    for text, found in {"100% odd_": 1, "BLUE": 1, "*not*": 1, "1000": 0}.items():
        assert (
            http.get("/experiments", params={"text": text, "kind": "slow_count"}).json()["total"]
            == found
        ), text
    assert sent["id"] in [
        e["id"] for e in http.get("/experiments", params={"state": "queued"}).json()["experiments"]
    ]
    assert http.get("/experiments", params={"state": "running"}).json()["total"] == 0
    measure()


def test_the_cursor_returns_every_row_once_and_then_only_changes(
    http: httpx.Client,
) -> None:
    id = submit(http, *range(1000, 2000))["id"]
    rows, cursor, pages = [], 0, 0
    while True:
        page = http.get(f"/experiments/{id}/measurements", params={"after": cursor}).json()
        rows += page["rows"]
        cursor, pages = page["cursor"], pages + 1
        if not page["more"]:
            break
    assert sorted(row["position"] for row in rows) == list(range(1000))
    assert pages > 1
    assert (
        http.get(f"/experiments/{id}/measurements", params={"after": cursor}).json()["rows"] == []
    )
    assert measure() == 1000
    changed = http.get(f"/experiments/{id}/measurements", params={"after": cursor}).json()
    assert changed["rows"]
    assert all(row["state"] == "done" for row in changed["rows"])


def test_nonfinite_numbers_are_sent_as_states(http: httpx.Client, lab: Lab) -> None:
    id = submit(http, 301)["id"]
    measure(
        {
            "metrics": {"a": None, "b": None, "c": 1.5},
            "nonfinite": {"a": "pos_inf", "b": "nan"},
            "series": {"s": [1.0, None]},
        }
    )
    (row,) = http.get(f"/experiments/{id}/measurements").json()["rows"]
    assert row["metrics"] == {"a": None, "b": None, "c": 1.5}
    table = lab.client.table(id)
    assert table["a"].item() == math.inf
    assert math.isnan(table["b"].item())
    header, line = http.get(
        f"/experiments/{id}/measurements", params={"format": "csv"}
    ).text.splitlines()
    assert header == "measurement,identity,state,to,a,b,c,error"
    assert line.endswith("done,301,inf,nan,1.5,")


def test_an_action_that_the_state_does_not_allow_is_rejected_with_the_reason(
    http: httpx.Client,
) -> None:
    id = submit(http, 401)["id"]
    assert http.post(f"/experiments/{id}/pause").json()["state"] == "paused"
    assert "paused" in http.post(f"/experiments/{id}/pause").json()["detail"]
    assert http.post(f"/experiments/{id}/resume").json()["state"] == "queued"
    assert http.post(f"/experiments/{id}/cancel").json()["state"] == "cancelled"
    refused = http.post(f"/experiments/{id}/resume")
    assert (refused.status_code, "retry" in refused.json()["detail"]) == (409, True)
    assert http.post(f"/experiments/{id}/retry").json()["state"] == "queued"
    measure()
    assert http.get(f"/experiments/{id}").json()["state"] == "done"
    assert http.post(f"/experiments/{id}/cancel").status_code == 409
    assert http.post("/experiments/999999/cancel").status_code == 404
    assert http.get("/experiments/999999/events").status_code == 404


def test_events_include_every_row_and_end_with_the_experiment(http: httpx.Client) -> None:
    id = submit(http, 501, 502)["id"]
    events: list[tuple[str, dict[str, Any]]] = []
    with http.stream("GET", f"/experiments/{id}/events") as stream:
        name = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                events.append((name, json.loads(line[6:])))
                if len(events) == 2:
                    measure()
    assert [name for name, _ in events[:2]] == ["rows", "experiment"]
    assert events[-1][1]["state"] == "done"
    done = {
        row["id"]
        for name, data in events
        if name == "rows"
        for row in data["rows"]
        if row["state"] == "done"
    }
    assert len(done) == 2


def test_verdicts_are_computed_from_the_rows(http: httpx.Client) -> None:
    id = submit(http, 601)["id"]
    assert http.get(f"/experiments/{id}/verdicts").json()[0]["answer"] == "undetermined"
    measure()
    assert http.get(f"/experiments/{id}/verdicts").json()[0]["sentence"] == "1 points counted."


def test_too_many_points_are_rejected_before_anything_is_stored(http: httpx.Client) -> None:
    answer = http.post("/plan", json={"spec": {"kind": "slow_count", "to": list(range(2000))}})
    assert "/spec/to" in problems(answer)


def test_a_kind_dropped_in_as_one_file_is_in_the_schema(http: httpx.Client) -> None:
    mapping = http.get("/openapi.json").json()["components"]["schemas"]["Submission"]["properties"][
        "spec"
    ]["discriminator"]["mapping"]
    assert "slow_count" in mapping
    assert "slow_count" not in kinds()


def test_the_process_is_live_and_ready(lab: Lab) -> None:
    assert httpx.get(f"{lab.url}/health/live").json() == {"status": "ok"}
    assert httpx.get(f"{lab.url}/health/ready").json()["status"] == "ok"


def test_pages_of_other_sites_and_unknown_hosts_are_rejected(
    http: httpx.Client,
) -> None:
    id = submit(http, 701)["id"]
    assert http.get("/experiments", headers={"Host": "evil.example"}).status_code == 400
    refused = http.post(f"/experiments/{id}/cancel", headers={"Origin": "http://evil.example"})
    assert (refused.status_code, "another site" in refused.json()["detail"]) == (403, True)
    assert http.get(f"/experiments/{id}").json()["state"] == "queued"
    measure()


def test_values_that_cannot_be_stored_are_rejected(http: httpx.Client) -> None:
    assert (
        http.post(
            "/experiments", json={"name": "\0", "spec": {"kind": "slow_count", "to": [1]}}
        ).status_code
        == 422
    )
    assert http.get(f"/experiments/{2**70}").status_code in (404, 422)
