"""Plans that are too large are refused by their number of points, before any is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from fastapi.testclient import TestClient
from test_kinds import Catalogue

from api import planning
from ucurve.spec import Point, Spec, SpecError

ENVIRONMENT = {"UCURVE_ACCESS": "open"}
GAMMAS = [0.01 * n for n in range(1, 33)]
MAXIMAL: dict[str, Any] = {
    "kind": "gaussian_perturbation",
    "suite": "tiny",
    "gammas": GAMMAS,
    "draws": 1000,
}
LARGE = {**MAXIMAL, "draws": 70}


@pytest.fixture(scope="module")
def http(database_url: str, broker_url: str) -> TestClient:
    from api.main import app
    from api.registration import register_builtin
    from db.session import open_session

    with open_session() as session:
        register_builtin(session)
        session.commit()
    return TestClient(app, "http://127.0.0.1", client=("127.0.0.1", 50000))


@pytest.fixture
def _no_point_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Point, "__init__", lambda *_, **__: pytest.fail("a point was built"))


@pytest.mark.usefixtures("_no_point_is_built")
@pytest.mark.parametrize("path", ["/v1/plan", "/v1/experiments"])
def test_a_maximal_plan_is_refused_with_its_number_of_points(http: TestClient, path: str) -> None:
    answer = http.post(path, json={"spec": MAXIMAL})
    assert answer.status_code == 422
    assert "640,010 points" in answer.json()["errors"][0]["detail"]


@pytest.mark.usefixtures("_no_point_is_built")
def test_a_study_is_limited_as_a_whole_and_names_its_largest_experiment(http: TestClient) -> None:
    def errors(*specs: dict[str, Any]) -> list[dict[str, str]]:
        experiments = [{"name": f"part {n}", "spec": spec} for n, spec in enumerate(specs)]
        answer = http.post("/v1/studies", json={"name": "large", "experiments": experiments})
        assert answer.status_code == 422, answer.text
        found: list[dict[str, str]] = answer.json()["errors"]
        return found

    (error,) = errors(LARGE, MAXIMAL)
    assert error["pointer"] == "/experiments/1/spec"
    (error,) = errors(LARGE, {**LARGE, "seed": 1}, {**LARGE, "seed": 2})
    assert (error["pointer"], "134,430 points" in error["detail"]) == ("/experiments", True)


class Endless(Spec):
    """An experiment type that does not know its number of points."""

    kind: Literal["endless"] = "endless"

    def plan(self, catalogue: object) -> Iterator[Point]:
        number = 0
        while True:
            yield Point(inputs={"number": number}, labels={})
            number += 1


def test_an_experiment_type_without_a_count_is_planned_until_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "MAX_POINTS", 100)
    rows = planning.rows_of(Endless(), Catalogue())
    assert len([next(rows) for _ in range(100)]) == 100
    with pytest.raises(SpecError, match="more than 100 points"):
        next(rows)


def test_a_preview_in_several_chunks_counts_every_point_once(http: TestClient) -> None:
    answer = http.post("/v1/plan", json={"spec": {**MAXIMAL, "draws": 5}})
    assert answer.json()["num_points"] == 10 * (1 + 5 * 64)
    assert answer.json()["num_new"] == answer.json()["num_points"]
