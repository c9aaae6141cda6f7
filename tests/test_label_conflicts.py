"""Other weights, texts and protocols of the same name: never taken for the same, and told of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select
from test_reuse import clients as clients

from db.models import Experiment, Measurement
from db.session import open_session
from ucurve.client import Client

NUM_WORKERS = 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checkpoint": {"weights": "f" * 64}}, "for other weights of the same name"),
        ({"evaluation": {"dataset": "e" * 64}}, "for another content of a text of the same name"),
        ({"evaluation": {"protocol": "perplexity/0"}}, "for another version of the protocol"),
        ({"precision": {"evaluation": "bf16"}}, ""),  # a choice, not a change behind one's back
    ],
)
def test_other_weights_texts_and_protocols_of_the_same_name_are_never_reused_and_are_told_of(
    clients: dict[str, Client], change: dict[str, Any], said: str
) -> None:
    ada = clients["ada"]
    spec = {
        "kind": "gaussian_perturbation",
        "suite": "tiny",
        "gammas": [0.07],
        "draws": 1,
        "scale": "current_std",
    }
    made = ada.submit(spec)
    with open_session() as session:  # as if this grid had been measured before the change
        for row in session.scalars(
            select(Measurement).where(Measurement.kind == "gaussian_perturbation")
        ).all():
            inputs = {
                **row.inputs,
                **{part: {**row.inputs[part], **new} for part, new in change.items()},
            }
            row.inputs, row.identity, row.state = inputs, f"before {row.identity}", "done"
            row.finished_at = datetime.now(UTC)
        session.delete(session.get_one(Experiment, made.id))
        session.commit()
    plan = ada.plan(spec)
    assert (plan.num_existing, plan.num_new) == (0, plan.num_points)
    assert [warning for warning in plan.warnings if "measured anew" in warning] == (
        [f"{plan.num_points} points exist {said}: measured anew, never mixed."] if said else []
    )
    with open_session() as session:
        for row in session.scalars(
            select(Measurement).where(Measurement.identity.startswith("before "))
        ).all():
            session.delete(row)
        session.commit()
