"""No row is left that no experiment waits for, and none of those wakes workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from db_helpers import act, claim, experiment, finish, point, submit
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.background import sweep
from db import leases, submissions
from db.models import Base
from db.session import open_session
from ucurve.cli import main
from ucurve.settings import settings

pytestmark = pytest.mark.usefixtures("database_url")
ENVIRONMENT = {"UCURVE_ACCESS": "open"}


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    yield
    with open_session() as session:
        session.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)} CASCADE"))
        session.commit()


def delete(id: int) -> int:
    from api.main import app

    api = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))
    return api.delete(f"/v1/experiments/{id}").status_code


def identities() -> list[str]:
    with open_session() as session:
        return list(session.scalars(text("SELECT identity FROM measurements ORDER BY identity")))


def wakes(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a sweep wakes workers."""
    woken: list[bool] = []
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "wake_workers", lambda: woken.append(True))
        while not sweep.sweep():
            pass
    return bool(woken)


def test_deleting_keeps_results_and_what_others_wait_for_and_nothing_else() -> None:
    id = submit("ada", point("done"), point("open"), point("shared"), point("tried"))
    other = submit("bob", point("shared"))
    act(other, "pause")
    for _ in range(4):
        token, points = claim()
        for leased in points:
            if leased.identity == "done":
                assert finish(token, leased.id)
            elif leased.identity == "tried":
                with open_session() as session:
                    leases.begin(session, leased.id, token, "w", "cpu", {})
                    session.commit()
    act(id, "cancel")
    assert delete(id) == 204
    assert identities() == ["done", "shared"]
    assert experiment(other).num_points == 1


def test_a_worker_that_measures_a_deleted_point_loses_its_lease() -> None:
    id = submit("ada", point("a"))
    token, [leased] = claim()
    with open_session() as session:
        attempt = leases.begin(session, leased.id, token, "w", "cpu", {})
        session.commit()
    act(id, "cancel")
    assert delete(id) == 204
    assert identities() == []
    with open_session() as session:
        assert leases.renew(session, token) == {}
        assert attempt is not None
        assert not leases.finish(session, leased.id, token, attempt, {"metrics": {"x": 1.0}})
        leases.release(session, token)
        session.commit()
    assert identities() == []


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_open_points_of_a_stopped_experiment_wake_no_worker_until_it_goes_on(
    action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.cache_clear()
    id = submit("ada", point("a"))
    assert wakes(monkeypatch)
    act(id, action)
    assert not wakes(monkeypatch)
    assert act(id, {"pause": "resume", "cancel": "retry"}[action])
    assert wakes(monkeypatch)
    act(id, "cancel")
    assert delete(id) == 204
    assert not wakes(monkeypatch)


def test_a_plan_counts_as_shared_only_what_a_running_experiment_waits_for() -> None:
    id = submit("ada", point("a"))

    def states() -> dict[str, str]:
        with open_session() as session:
            return submissions.existing_states(session, ["a", "b"])

    assert states() == {"a": "open"}
    act(id, "cancel")
    assert states() == {}


def test_submitting_what_is_being_deleted_creates_it_again() -> None:
    for _ in range(5):
        first = submit("ada", *(point(f"p{n}") for n in range(50)))
        act(first, "cancel")
        with ThreadPoolExecutor(1) as beside:
            points = [point(f"p{n}") for n in range(50)]
            submitting = beside.submit(submit, "bob", *points)
            assert delete(first) == 204
            second = submitting.result(30)
        assert len(identities()) == 50
        act(second, "cancel")
        assert delete(second) == 204
        assert identities() == []


def test_cancelling_is_described_as_what_retry_undoes(capsys: pytest.CaptureFixture[str]) -> None:
    id = submit("ada", point("a"))
    assert act(id, "cancel")
    assert act(id, "retry")
    assert experiment(id).state == "active"
    with pytest.raises(SystemExit):
        main(["--help"])
    help = capsys.readouterr().out
    assert "for good" not in help
    assert "resume a cancelled" in help
