"""List experiments: search, filters, order and pages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import ColumnElement, Select, case, exists, func, or_, select, text

from api.auth.authorization import Principal, Viewer
from api.experiment_store import to_records
from db.models import Experiment, ExperimentPoint, Measurement, Star
from db.session import open_session
from ucurve.schemas import experiments as schemas
from ucurve.schemas.search import ExperimentQuery, FilterOptions, Order

router = APIRouter(prefix="/v1", tags=["experiments"])

STATES = ("active", "paused", "failed", "cancelled", "done")  # their order when sorted by state
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


@router.get("/experiments", summary="List experiments")
def list_experiments(
    request: Request, user: Viewer, query: Annotated[ExperimentQuery, Query()]
) -> schemas.ExperimentPage:
    """A page of experiments, newest first by default. Different filters are combined with "and",
    values of one filter with "or". Archived experiments are hidden by default. Ties are sorted by
    id, so pages neither repeat nor skip experiments.
    """
    matching = _matching(query, user)
    ordered = matching.order_by(ORDERS[query.sort], Experiment.id.desc())
    ids = matching.with_only_columns(Experiment.id).subquery()
    with open_session() as session:
        total = session.scalar(select(func.count()).select_from(ids)) or 0
        rows = session.scalars(ordered.limit(query.limit).offset(query.offset)).all()
        return schemas.ExperimentPage(experiments=to_records(session, rows, request), total=total)


@router.get("/choices", summary="List filter options of experiments")
def filter_options(user: Viewer) -> FilterOptions:
    """Experiment types, suites, owners and tags in use, the most frequent first."""
    with open_session() as session:
        rows = session.execute(
            text("""
                SELECT sort, name FROM (
                    SELECT 'kinds' AS sort, kind AS name FROM experiments
                    UNION ALL SELECT 'suites', suite FROM experiments
                    UNION ALL SELECT 'owners', owner FROM experiments
                    UNION ALL SELECT 'tags', unnest(tags) FROM experiments) options
                WHERE name IS NOT NULL GROUP BY sort, name ORDER BY count(*) DESC, name""")
        ).all()
    return FilterOptions.model_validate(
        {
            sort: [row.name for row in rows if row.sort == sort]
            for sort in FilterOptions.model_fields
        }
    )


def _matching(query: ExperimentQuery, user: Principal) -> Select[Experiment]:
    matching = select(Experiment)
    for column, values in (
        (Experiment.kind, query.kind),
        (Experiment.suite, query.suite),
        (Experiment.owner, query.owner),
    ):
        if values:
            names = [user.name if value == "me" else value for value in values]
            matching = matching.where(column.in_(names))
    if query.state:
        matching = matching.where(or_(*(_in_state(state) for state in query.state)))
    for tag in query.tag:
        matching = matching.where(Experiment.tags.contains([tag]))
    for word in query.text.split():
        texts = (Experiment.name, Experiment.notes, func.array_to_string(Experiment.tags, " "))
        matching = matching.where(or_(*(text.icontains(word, autoescape=True) for text in texts)))
    if query.created_after:
        matching = matching.where(Experiment.created_at >= query.created_after)
    if query.created_before:
        matching = matching.where(Experiment.created_at < query.created_before)
    if query.starred:
        starred = select(Star.experiment_id).where(Star.owner == user.name)
        matching = matching.where(Experiment.id.in_(starred))
    if query.archived != "also":
        matching = matching.where(Experiment.archived == (query.archived == "only"))
    return matching


def _in_state(state: str) -> ColumnElement[bool]:
    """Return the condition for a state; `active` is queued or running by its measurements."""
    if state not in ("queued", "running"):
        return Experiment.state == state
    running = exists().where(
        ExperimentPoint.experiment_id == Experiment.id,
        Measurement.id == ExperimentPoint.measurement_id,
        Measurement.state == "running",
        Measurement.lease_expires > func.clock_timestamp(),
    )
    return (Experiment.state == "active") & (running if state == "running" else ~running)
