"""The list of experiments: search, filters, order and pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy import ColumnElement, exists, func, or_, select

from api.experiments import shown
from db.models import Experiment, ExperimentPoint, Measurement
from db.session import open_session
from ucurve import records

router = APIRouter(prefix="/v1", tags=["experiments"])


@router.get("/experiments", summary="Experiments, newest first")
def listed(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0)] = 0,
    state: Annotated[list[records.ExperimentState] | None, Query()] = None,
    kind: str | None = None,
    owner: str | None = None,
    tag: str | None = None,
    text: Annotated[str | None, Query(description="Found in name, notes or tags.")] = None,
) -> records.ExperimentPage:
    """A page of the list; filters are combined with "and"."""
    wanted = select(Experiment)
    if state:
        wanted = wanted.where(or_(*(_in_state(one) for one in state)))
    if kind:
        wanted = wanted.where(Experiment.kind == kind)
    if owner:
        wanted = wanted.where(Experiment.owner == owner)
    if tag:
        wanted = wanted.where(Experiment.tags.contains([tag]))
    if text:
        searched = (Experiment.name, Experiment.notes, func.array_to_string(Experiment.tags, " "))
        wanted = wanted.where(or_(*(column.icontains(text, autoescape=True) for column in searched)))
    with open_session() as session:
        total = session.scalar(select(func.count()).select_from(wanted.subquery())) or 0
        rows = session.scalars(wanted.order_by(Experiment.id.desc()).limit(limit).offset(offset)).all()
        return records.ExperimentPage(experiments=shown(session, rows, request), total=total)


def _in_state(state: str) -> ColumnElement[bool]:
    """Stored states, and `active` told apart by whether something of it is being measured."""
    if state not in ("queued", "running"):
        return Experiment.state == state
    running = exists().where(
        ExperimentPoint.experiment_id == Experiment.id,
        Measurement.id == ExperimentPoint.measurement_id,
        Measurement.state == "running",
        Measurement.lease_expires > func.clock_timestamp(),
    )
    return (Experiment.state == "active") & (running if state == "running" else ~running)
