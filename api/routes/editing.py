"""After an experiment was submitted: extend it, edit it, star it, delete it.

POST /v1/experiments/7/extend {"changes": {"gammas": [0.1, 0.2, 0.4]}}
PATCH /v1/experiments/7 {"notes": "The bottom moved.", "archived": true}
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.auth.authorization import Owner, Submitter, Viewer, only_owner
from api.errors import ProblemError, invalid
from api.routes import webhooks
from api.routes.experiments import as_rows, found, shown, store
from api.routes.suites import DatabaseCatalogue
from db import users
from db.models import Experiment, ExperimentPoint, Json, Measurement
from db.session import open_session
from db.team import Star
from ucurve.experiments import parse
from ucurve.schemas import experiments as schemas
from ucurve.schemas.editing import Edit, Extension
from ucurve.schemas.validation_messages import pointer_of, wrong_in
from ucurve.spec import Spec, SpecError, canonical

router = APIRouter(prefix="/v1", tags=["experiments"])


@router.post(
    "/experiments/{id}/extend",
    status_code=201,
    summary="The same with more draws, gammas, checkpoints, anything",
)
def extend(
    id: int, extension: Extension, owner: Owner, request: Request, response: Response
) -> schemas.Experiment:
    """Submits a new experiment with the same name and tags; `progress.reused` says how many points exist already: what the first
    one measured is not measured again. 422 where the changes leave nothing of it.
    """
    with open_session() as session:
        first = found(session, id)
        spec = _extended(first, extension)
        what = [f"{extension.draws} more draws"] if extension.draws else []
        what += [f"{name} {canonical(value)}" for name, value in extension.changes.items()]
        fields = {name: getattr(first, name) for name in ("name", "tags", "priority")}
        fields["notes"] = f"{first.notes}\n\nExperiment {id} with {', '.join(what)}.".strip()
        try:
            asked = as_rows(spec, fields, DatabaseCatalogue(session))
        except SpecError as error:
            raise invalid(f"/changes/{error.field}".rstrip("/"), error.message) from error
        if extension.changes and not _shares(session, id, asked[1]):
            raise invalid(
                "/changes",
                f"Experiment {id} measured nothing of this: keep its values and add to them, or submit anew.",
            )
        [answer] = store(session, owner, [asked], request)
    response.headers["Location"] = answer.url
    return answer


def _extended(first: Experiment, extension: Extension) -> Spec:
    """The changed spec, validated as a spec is."""
    changes = extension.changes
    if changes.get("kind", first.kind) != first.kind:
        raise invalid(
            "/changes/kind",
            f"An extension stays a {first.kind}: submit another kind as an experiment of its own.",
        )
    spec = parse(first.spec)
    try:
        changed = {**spec.model_dump(mode="json"), **changes}
        if "looks" in changed and "looks" not in changes and changes.keys() & set(spec.repeats):
            changed["looks"] += 1  # other draws are a further look, however they are asked for
        spec = type(spec).model_validate(changed)
    except ValidationError as error:
        wrong = wrong_in(error.errors(), type(spec).model_json_schema())
        fields = [
            schemas.FieldProblem(pointer=pointer_of(("changes", *path)), message=message)
            for path, message in wrong
        ]
        raise ProblemError(422, "The input is not valid.", fields) from error
    if extension.draws is None:
        return spec
    try:
        more = spec.extended(extension.draws)
    except ValidationError as error:
        raise invalid(
            "/draws",
            f"Experiment {first.id} allows no {extension.draws} more: {error.errors()[0]['msg']}.",
        ) from error
    if more is None:
        raise invalid(
            "/draws",
            f"Experiment {first.id} has no draws or seeds to add to: its kind repeats nothing.",
        )
    return more


def _shares(session: Session, id: int, points: list[Json]) -> bool:
    """Whether any of these points is one of the experiment's."""
    links = select(ExperimentPoint.measurement_id).where(ExperimentPoint.experiment_id == id)
    theirs = set(session.scalars(select(Measurement.identity).where(Measurement.id.in_(links))))
    return any(point["identity"] in theirs for point in points)


@router.patch("/experiments/{id}", summary="Change name, tags, notes, priority, archive or webhook")
def edit(id: int, change: Edit, person: Submitter, request: Request) -> schemas.Experiment:
    """The fields that are given change, the others stay. What was asked for, the spec, never changes: extend it, or clone it."""
    with open_session() as session:
        experiment = found(session, id)
        only_owner(person, experiment.owner, f"edit experiment {id}")
        webhooks.check(change.webhook)
        for name, value in change.model_dump(exclude_unset=True).items():
            setattr(experiment, name, value)
        session.commit()
        session.refresh(experiment)
        return shown(session, [experiment], request)[0]


@router.delete(
    "/experiments/{id}", status_code=204, summary="Delete an experiment; its numbers stay"
)
def remove(id: int, person: Submitter) -> None:
    """Removes the experiment and what points from it. Measurements and their attempts stay, found by whoever plans them again. 409
    while it is queued or running.
    """
    with open_session() as session:
        experiment = found(session, id)
        only_owner(person, experiment.owner, f"delete experiment {id}")
        session.refresh(experiment, with_for_update=True)
        if experiment.state == "active":
            raise ProblemError(
                409, f"Cannot delete: experiment {id} is queued or running; cancel it first."
            )
        session.execute(delete(Experiment).where(Experiment.id == id))
        session.commit()


@router.get("/stars", summary="The numbers of the experiments that carry your star")
def stars(person: Viewer) -> list[int]:
    with open_session() as session:
        return list(
            session.scalars(
                select(Star.experiment_id)
                .where(Star.owner == person.name)
                .order_by(Star.experiment_id)
            )
        )


@router.put("/experiments/{id}/star", summary="Mark an experiment with your star")
def star(id: int, person: Viewer, request: Request) -> schemas.Experiment:
    """Each person's own; nobody else's list changes."""
    with open_session() as session:
        experiment = found(session, id)
        users.add_user(session, person.name, person.role)
        session.execute(
            insert(Star).values(owner=person.name, experiment_id=id).on_conflict_do_nothing()
        )
        return _starred(session, experiment, request)


@router.delete("/experiments/{id}/star", summary="Take your star off an experiment")
def unstar(id: int, person: Viewer, request: Request) -> schemas.Experiment:
    with open_session() as session:
        experiment = found(session, id)
        session.execute(delete(Star).where(Star.owner == person.name, Star.experiment_id == id))
        return _starred(session, experiment, request)


def _starred(session: Session, experiment: Experiment, request: Request) -> schemas.Experiment:
    session.commit()
    session.refresh(experiment)
    return shown(session, [experiment], request)[0]
