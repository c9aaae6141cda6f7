"""Change submitted experiments: extend, edit, star, delete.

POST /v1/experiments/7/extend {"changes": {"gammas": [0.1, 0.2, 0.4]}}
PATCH /v1/experiments/7 {"notes": "The minimum moved.", "archived": true}
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.auth.authorization import Owner, Submitter, Viewer, require_owner
from api.errors import ApiError, invalid
from api.experiment_store import get_or_404, submit_all, to_records, to_rows
from api.path_parameters import ExperimentId
from api.planning import planning
from api.webhook_addresses import check_webhook
from db import deletions, users
from db.models import Experiment, ExperimentPoint, Json, Measurement, Star
from db.session import open_session
from ucurve.experiments import parse
from ucurve.schemas import experiments as schemas
from ucurve.schemas.experiments import Edit, Extension
from ucurve.schemas.problems import INVALID_INPUT, FieldError
from ucurve.schemas.validation_messages import field_messages, pointer_of
from ucurve.spec import Spec, SpecError, canonical

router = APIRouter(prefix="/v1", tags=["experiments"])


@router.post(
    "/experiments/{id}/extend",
    status_code=201,
    summary="Extend an experiment with more draws, gammas or checkpoints",
)
def extend(
    id: ExperimentId, extension: Extension, owner: Owner, request: Request, response: Response
) -> schemas.Experiment:
    """Submit a new experiment with the same name and tags. Results of the original are reused:
    `progress.reused` counts them. 422 where the changes leave no point of the original.
    """
    with open_session() as session:
        original = get_or_404(session, id)
        spec = _extended_spec(original, extension)
        fields = {name: getattr(original, name) for name in ("name", "tags", "priority")}
        fields["notes"] = f"{original.notes}\n\n{_note(id, extension)}".strip()
    try:
        with planning(owner, spec, submits=True) as (session, catalogue):
            rows = to_rows(spec, fields, catalogue)
            if extension.changes and not _shares_points(session, id, rows.points):
                raise invalid(
                    "/changes",
                    f"Experiment {id} has no point in common with this: keep its values and add to "
                    "them, or submit a new experiment.",
                )
            [experiment] = submit_all(session, owner, [rows], request)
    except SpecError as error:
        raise invalid(f"/changes/{error.field}".rstrip("/"), error.message) from error
    response.headers["Location"] = experiment.url
    return experiment


def _note(id: int, extension: Extension) -> str:
    changes = [f"{extension.draws} more draws"] if extension.draws else []
    changes += [f"{name} {canonical(value)}" for name, value in extension.changes.items()]
    return f"Experiment {id} with {', '.join(changes)}."


def _extended_spec(original: Experiment, extension: Extension) -> Spec:
    """Return the changed spec, validated as any spec is."""
    spec = _changed_spec(original, extension)
    if extension.draws is None:
        return spec
    try:
        extended = spec.with_more_draws(extension.draws)
    except ValidationError as error:
        raise invalid(
            "/draws",
            f"Experiment {original.id} cannot have {extension.draws} more draws: "
            f"{error.errors()[0]['msg']}.",
        ) from error
    if extended is None:
        raise invalid(
            "/draws",
            f"Experiment {original.id} has no draws or seeds to add: its experiment type does not "
            "repeat points.",
        )
    return extended


def _changed_spec(original: Experiment, extension: Extension) -> Spec:
    changes = extension.changes
    if changes.get("kind", original.kind) != original.kind:
        raise invalid(
            "/changes/kind",
            f"An extension keeps the experiment type {original.kind}: submit another type as a new "
            "experiment.",
        )
    spec = parse(original.spec)
    fields = {**spec.model_dump(mode="json"), **changes}
    if "looks" in fields and "looks" not in changes and changes.keys() & set(spec.repeat_fields):
        fields["looks"] += 1  # more draws are a further interim look, however they are added
    try:
        return type(spec).model_validate(fields)
    except ValidationError as error:
        errors = [
            FieldError(pointer=pointer_of(("changes", *path)), detail=message)
            for path, message in field_messages(error.errors(), type(spec).model_json_schema())
        ]
        raise ApiError(422, INVALID_INPUT, errors) from error


def _shares_points(session: Session, id: int, points: list[Json]) -> bool:
    """Return whether any of these points belongs to the experiment."""
    links = select(ExperimentPoint.measurement_id).where(ExperimentPoint.experiment_id == id)
    existing = set(session.scalars(select(Measurement.identity).where(Measurement.id.in_(links))))
    return any(point["identity"] in existing for point in points)


@router.patch("/experiments/{id}", summary="Edit name, tags, notes, priority, archived or webhook")
def edit(id: ExperimentId, change: Edit, user: Submitter, request: Request) -> schemas.Experiment:
    """Fields in the request change, the others stay. The spec never changes: extend or clone the
    experiment instead.
    """
    with open_session() as session:
        experiment = get_or_404(session, id)
        require_owner(user, experiment.owner, f"edit experiment {id}")
        check_webhook(change.webhook)
        for name, value in change.model_dump(exclude_unset=True).items():
            setattr(experiment, name, value)
        return _saved(session, experiment, request)


@router.delete("/experiments/{id}", status_code=204, summary="Delete an experiment")
def remove(id: ExperimentId, user: Submitter) -> None:
    """Its results stay in the database and are reused by later experiments; evaluations without a
    result are removed unless another experiment needs them. 409 while it is queued or running.
    """
    with open_session() as session:
        experiment = get_or_404(session, id)
        require_owner(user, experiment.owner, f"delete experiment {id}")
        unfinished = deletions.lock_unfinished(session, id)
        session.refresh(experiment, with_for_update=True)
        if experiment.state == "active":
            raise ApiError(
                409, f"Cannot delete: experiment {id} is queued or running; cancel it first."
            )
        deletions.delete_experiment(session, id, unfinished)
        session.commit()


@router.get("/stars", summary="List the ids of your starred experiments")
def stars(user: Viewer) -> list[int]:
    """In ascending order."""
    starred = select(Star.experiment_id).where(Star.owner == user.name)
    with open_session() as session:
        return list(session.scalars(starred.order_by(Star.experiment_id)))


@router.put("/experiments/{id}/star", summary="Star an experiment")
def star(id: ExperimentId, user: Viewer, request: Request) -> schemas.Experiment:
    """Stars are personal: other users do not see them."""
    with open_session() as session:
        experiment = get_or_404(session, id)
        users.add_user(session, user.name, user.role)
        session.execute(
            insert(Star).values(owner=user.name, experiment_id=id).on_conflict_do_nothing()
        )
        return _saved(session, experiment, request)


@router.delete("/experiments/{id}/star", summary="Unstar an experiment")
def unstar(id: ExperimentId, user: Viewer, request: Request) -> schemas.Experiment:
    """Remove your star, if there is one."""
    with open_session() as session:
        experiment = get_or_404(session, id)
        session.execute(delete(Star).where(Star.owner == user.name, Star.experiment_id == id))
        return _saved(session, experiment, request)


def _saved(session: Session, experiment: Experiment, request: Request) -> schemas.Experiment:
    session.commit()
    session.refresh(experiment)
    return to_records(session, [experiment], request)[0]
