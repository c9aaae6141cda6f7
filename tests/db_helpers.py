"""Submit, claim and finish on the rows themselves, each in a transaction of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from db import changes, leases, submissions, trials
from db.models import Experiment
from db.session import open_session

CPU = {"device": "cpu", "memory_gb": 8.0, "loaded": None, "speed": 1.0}
VERSIONS = {"python": "3"}


def point(name: str, **changed: Any) -> dict[str, Any]:
    plain = {
        "identity": name, "inputs": {"name": name}, "source": {}, "labels": {"name": name},
        "group_key": "a",
        "stage": 0, "seconds": 1.0, "requires_device": "any", "requires_memory_gb": 0.0,
    }  # fmt: skip
    return plain | changed


def submit(owner: str, *points: dict[str, Any], priority: int = 0) -> int:
    with open_session() as session:
        fields = {
            "name": "test",
            "kind": "test",
            "spec": {},
            "tags": [],
            "notes": "",
            "priority": priority,
        }
        experiment = submissions.submit(session, owner, fields, points)
        session.commit()
        return experiment.id


def act(id: int, action: str) -> bool:
    with open_session() as session:
        experiment = session.get_one(Experiment, id)
        changed = submissions.change_state(session, experiment, action)
        session.commit()
        return changed


def claim(worker: str = "w", **changed: Any) -> tuple[str, list[leases.ClaimedPoint]]:
    with open_session() as session:
        taken = leases.claim(session, worker, **CPU | changed)  # type: ignore[arg-type]
        session.commit()
        return taken


def finish(
    token: str, measurement: int, outcome: dict[str, Any] | None = None, worker: str = "w"
) -> bool:
    with open_session() as session:
        attempt = leases.begin(session, measurement, token, worker, "cpu", VERSIONS)
        if attempt is None:
            return False
        held = leases.finish(
            session, measurement, token, attempt, outcome or {"metrics": {"x": 1.0}}
        )
        session.commit()
        return held


def expire_leases() -> None:
    with open_session() as session:
        session.execute(
            text(
                "UPDATE measurements SET lease_expires = clock_timestamp() - interval '1 s' "
                "WHERE state = 'running'"
            )
        )
        session.commit()


def experiment(id: int) -> Experiment:
    with open_session() as session:
        return session.get_one(Experiment, id)


def seen(id: int, cursor: int = 0) -> list[Any]:
    with open_session() as session:
        return changes.changes_after(session, id, cursor, 1000)


def pass_trials() -> None:
    """Let all models that wait for a trial pass, as a worker does; files of tests are no models."""
    facts = {"architecture": "Test", "initializer_std": 0.02}
    with open_session() as session:
        for sha256 in session.scalars(
            text("SELECT sha256 FROM structures WHERE state = 'waiting'")
        ):
            trials.finish(session, sha256, None, facts)
        session.commit()
