"""Results under the same labels with other weights, data or protocol are told apart."""

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
        ({"checkpoint": {"weights": "f" * 64}}, "with different weights"),
        ({"evaluation": {"dataset": "e" * 64}}, "with different dataset contents"),
        ({"evaluation": {"protocol": "perplexity/0"}}, "with another protocol version"),
        # Another number is another question, also with other weights.
        ({"checkpoint": {"weights": "f" * 64}, "evaluation": {"stride": 32}}, ""),
        ({"precision": {"evaluation": "bf16"}}, ""),  # a choice, not a change behind one's back
    ],
)
def test_results_with_other_weights_data_or_protocol_are_not_reused_and_warned_about(
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
    warning = f"{plan.num_points} evaluations cached under the same labels {said}: not reused."
    assert [text for text in plan.warnings if "not reused" in text] == ([warning] if said else [])
    with open_session() as session:
        for row in session.scalars(
            select(Measurement).where(Measurement.identity.startswith("before "))
        ).all():
            session.delete(row)
        session.commit()


def test_noise_under_another_version_of_names_is_said(clients: dict[str, Client]) -> None:
    ada = clients["ada"]
    spec = {
        "kind": "gaussian_perturbation",
        "suite": "tiny",
        "gammas": [0.06],
        "draws": 1,
        "scale": "current_std",
    }
    made = ada.submit(spec)
    changed = 0
    with open_session() as session:
        for row in session.scalars(
            select(Measurement).where(Measurement.kind == "gaussian_perturbation")
        ).all():
            change = row.inputs["perturbation"]
            if change is None:
                continue
            names = {**change["tensors"], "names": "canonical"}
            other = {**change, "protocol": "gaussian/2", "tensors": names}
            row.inputs = {**row.inputs, "perturbation": other}
            row.identity, row.state, changed = f"before {row.identity}", "done", changed + 1
            row.finished_at = datetime.now(UTC)
        session.delete(session.get_one(Experiment, made.id))
        session.commit()
    (warning,) = [text for text in ada.plan(spec).warnings if "not reused" in text]
    assert warning.startswith(f"{changed} evaluations cached under the same labels with another pr")
    with open_session() as session:
        for row in session.scalars(
            select(Measurement).where(Measurement.identity.startswith("before "))
        ).all():
            session.delete(row)
        session.commit()
