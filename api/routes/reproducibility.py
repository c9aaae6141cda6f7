"""What measuring again showed, and an experiment's table as it stood at an earlier moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from sqlalchemy import Row

from api.errors import invalid
from api.routes.experiments import found
from db import history
from db.session import open_session
from ucurve.schemas.reproducibility import Agreement, Number, Pair, compared

router = APIRouter(prefix="/v1", tags=["results"])

SKEW = timedelta(minutes=1)  # of clocks: a moment that has just begun for the asker is no future


@router.get("/experiments/{id}/agreement", summary="Fresh numbers beside the first ones")
def agreement(id: int, limit: Annotated[int, Query(ge=0, le=50_000)] = 50) -> Agreement:
    """For an experiment that was submitted with `fresh`: per point the difference to the first number, what agrees bit for bit, and
    the machines of both sides. limit: of the points that differ, the worst first.
    """
    with open_session() as session:
        experiment = found(session, id)
        return compared(
            id, experiment.fresh, [_pair(row) for row in history.with_first(session, id)], limit
        )


def _pair(row: Row[Any]) -> Pair:
    sides = {name: _number(row, name) for name in ("first", "again")}
    same = row.same_series is not False
    return Pair(
        position=row.position, labels=row.labels, state=row.state, same_series=same, **sides
    )


def _number(row: Row[Any], side: str) -> Number | None:
    found = {
        name: getattr(row, f"{side}_{name}")
        for name in ("metrics", "nonfinite", "worker", "device", "versions")
    }
    return (
        None if found["worker"] is None else Number(measurement=getattr(row, f"{side}_id"), **found)
    )


def moment(
    at: Annotated[
        str | None,
        Query(description="A moment, such as 2026-11-24T17:30:00Z: what had ended by then."),
    ] = None,
) -> datetime | None:
    """The moment asked for; without a zone it is in UTC."""
    if at is None:
        return None
    try:
        found = datetime.fromisoformat(
            at.strip().replace(" ", "+") if "T" in at else at.strip()
        )  # a "+" in an address is a blank
    except ValueError:
        raise invalid(
            "/at", f"“{at[:40]}” is no moment: write it like 2026-11-24T17:30:00Z."
        ) from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found > datetime.now(UTC) + SKEW:
        raise invalid(
            "/at",
            f"{found:%Y-%m-%d %H:%M:%S %Z} is still to come: give a moment of the past, like 2026-11-24T17:30:00Z.",
        )
    return found


Moment = Annotated[datetime | None, Depends(moment)]
