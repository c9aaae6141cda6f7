"""Re-measured numbers compared with the first ones."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Row

from api.experiment_store import get_or_404
from api.path_parameters import ExperimentId
from db import history
from db.session import open_session
from ucurve.analysis.reproducibility import compare_pairs
from ucurve.schemas.reproducibility import Agreement, MeasuredValue, RemeasuredPair

router = APIRouter(prefix="/v1", tags=["results"])


@router.get("/experiments/{id}/agreement", summary="Compare re-measured numbers with the first")
def agreement(
    id: ExperimentId,
    limit: Annotated[
        int,
        Query(ge=0, le=50_000, description="Maximum number of differing points, worst first."),
    ] = 50,
) -> Agreement:
    """For an experiment submitted with `fresh`: the difference of each point to the first number,
    how many are bit-identical, and the machines of both.
    """
    with open_session() as session:
        experiment = get_or_404(session, id)
        pairs = [_pair(row) for row in history.with_original(session, id)]
    return compare_pairs(id, experiment.fresh, pairs, limit)


def _pair(row: Row[Any]) -> RemeasuredPair:
    return RemeasuredPair(
        position=row.position,
        labels=row.labels,
        state=row.state,
        same_series=row.same_series is not False,
        first=_number(row, "first"),
        again=_number(row, "again"),
    )


def _number(row: Row[Any], side: str) -> MeasuredValue | None:
    """Return one side of a comparison; None where it was not measured."""
    names = ("metrics", "nonfinite", "worker", "device", "versions")
    values = {name: getattr(row, f"{side}_{name}") for name in names}
    if values["worker"] is None:
        return None
    return MeasuredValue(measurement=getattr(row, f"{side}_id"), **values)
