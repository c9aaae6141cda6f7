"""The list of experiments: search, filters, order and pages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import ColumnElement, Select, case, exists, func, or_, select, text

from api.auth.authorization import Person, Viewer
from api.routes.experiments import shown
from db.models import Experiment, ExperimentPoint, Measurement
from db.session import open_session
from db.team import Star
from ucurve.schemas import experiments as schemas
from ucurve.schemas.search import Choices, Order, PageOfExperiments

router = APIRouter(prefix="/v1", tags=["experiments"])

STATES = ("active", "paused", "failed", "cancelled", "done")  # in this order when sorted by state
ORDERS: dict[Order, ColumnElement[Any]] = {
    "newest": Experiment.id.desc(),
    "oldest": Experiment.id.asc(),
    "name": func.lower(Experiment.name).asc(),
    "owner": Experiment.owner.asc(),
    "state": case({state: rank for rank, state in enumerate(STATES)}, value=Experiment.state).asc(),
    "progress": (
        (Experiment.num_done + Experiment.num_failed)
        * 1.0
        / func.greatest(Experiment.num_points, 1)
    ).desc(),
    "finished": Experiment.finished_at.desc().nulls_last(),
}


@router.get("/experiments", summary="Experiments, newest first")
def listed(
    request: Request, person: Viewer, asked: Annotated[PageOfExperiments, Query()]
) -> schemas.ExperimentPage:
    """A page of the list; filters are combined with "and", values of one filter with "or". Archived ones are left out unless
    asked for. Equal ones are ordered by number, so that pages neither repeat nor skip.
    """
    wanted = _filtered(asked, person)
    ordered = (
        wanted.order_by(ORDERS[asked.sort], Experiment.id.desc())
        .limit(asked.limit)
        .offset(asked.offset)
    )
    with open_session() as session:
        total = (
            session.scalar(
                select(func.count()).select_from(wanted.with_only_columns(Experiment.id).subquery())
            )
            or 0
        )
        rows = session.scalars(ordered).all()
        return schemas.ExperimentPage(experiments=shown(session, rows, request), total=total)


@router.get("/choices", summary="What experiments can be filtered by")
def choices(person: Viewer) -> Choices:
    with open_session() as session:
        rows = session.execute(
            text("""
                SELECT sort, name FROM (
                    SELECT 'kinds' AS sort, kind AS name FROM experiments UNION ALL SELECT 'suites', suite FROM experiments
                    UNION ALL SELECT 'owners', owner FROM experiments UNION ALL SELECT 'tags', unnest(tags) FROM experiments) found
                WHERE name IS NOT NULL GROUP BY sort, name ORDER BY count(*) DESC, name""")
        ).all()
    return Choices.model_validate(
        {sort: [row.name for row in rows if row.sort == sort] for sort in Choices.model_fields}
    )


def _filtered(asked: PageOfExperiments, person: Person) -> Select[Experiment]:
    wanted = select(Experiment)
    for column, values in (
        (Experiment.kind, asked.kind),
        (Experiment.suite, asked.suite),
        (Experiment.owner, asked.owner),
    ):
        if values:
            wanted = wanted.where(
                column.in_([person.name if value == "me" else value for value in values])
            )
    if asked.state:
        wanted = wanted.where(or_(*(_in_state(one) for one in asked.state)))
    for tag in asked.tag:
        wanted = wanted.where(Experiment.tags.contains([tag]))
    for word in asked.text.split():
        searched = (Experiment.name, Experiment.notes, func.array_to_string(Experiment.tags, " "))
        wanted = wanted.where(
            or_(*(column.icontains(word, autoescape=True) for column in searched))
        )
    if asked.created_after:
        wanted = wanted.where(Experiment.created_at >= asked.created_after)
    if asked.created_before:
        wanted = wanted.where(Experiment.created_at < asked.created_before)
    if asked.starred:
        wanted = wanted.where(
            Experiment.id.in_(select(Star.experiment_id).where(Star.owner == person.name))
        )
    if asked.archived != "also":
        wanted = wanted.where(Experiment.archived == (asked.archived == "only"))
    return wanted


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
