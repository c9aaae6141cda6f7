"""Plan, submit, show and steer experiments.

POST /v1/experiments {"name": "first", "spec": {"kind": "gaussian_perturbation", "suite": "tiny", "draws": 5}}
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Body, Request, Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.auth.authorization import Owner, Submitter, Viewer, known, only_owner
from api.auth.quotas import check_planned, check_queued, quota
from api.errors import ProblemError, invalid, not_found
from api.routes import webhooks
from api.routes.suites import DatabaseCatalogue
from db import submissions
from db.eta import Estimate, alive_workers, can_run, estimates, reason_to_wait, speed_of
from db.label_conflicts import namesakes
from db.models import Experiment
from db.session import open_session
from db.team import Star
from ucurve.experiments import kinds, union
from ucurve.formatting import label_conflict_warning
from ucurve.schemas import experiments as schemas
from ucurve.schemas.webhooks import host_of
from ucurve.spec import Catalogue, Point, Spec, SpecError
from worker.queue import wake_workers

router = APIRouter(prefix="/v1", tags=["experiments"])

MAX_POINTS = 50_000
WAKE_UPS = 8  # at most; more workers than these find the work within seconds by themselves

Recorded = tuple[dict[str, Any], list[dict[str, Any]]]  # an experiment's row, and its points

if TYPE_CHECKING:
    AnySpec = Spec
else:
    AnySpec = union()


class Submission(schemas.Submission):
    """As records.Submission, with the spec's schema."""

    spec: AnySpec = Field(description="What to measure; `kind` says which experiment.")  # type: ignore[assignment]


EXAMPLES: dict[str, Any] = {
    kind: {
        "summary": found.title or kind,
        "value": {"name": "a first look", "spec": {"kind": kind}},
    }
    for kind, found in kinds().items()
}
Submitted = Annotated[Submission, Body(openapi_examples=EXAMPLES)]


def planned(spec: Spec, catalogue: Catalogue) -> list[Point]:
    """All points of a spec, each once. Raises SpecError where it cannot be planned here."""
    points = list(islice(spec.plan(catalogue), MAX_POINTS + 1))
    if len(points) > MAX_POINTS:
        raise SpecError(
            "",
            f"This would be more than {MAX_POINTS} points: use fewer values, or split the experiment.",
        )
    if not points:
        raise SpecError(
            "", "This spec plans no measurement: give at least one value in every list."
        )
    return list({point.identity: point for point in points}.values())


@router.post("/plan", summary="What a submission would measure")
def plan(submission: Submitted, person: Viewer) -> schemas.PlanPreview:
    """Nothing is stored. Says how much exists already, how long the rest takes, and what it would wait for."""
    with open_session() as session:
        catalogue = DatabaseCatalogue(session)
        points = planned(submission.spec, catalogue)
        states = submissions.existing_states(session, [point.identity for point in points])
        done = {identity for identity, state in states.items() if state == "done"}
        left = [point for point in points if submission.fresh or point.identity not in done]
        new = [as_row(point) for point in left if point.identity not in states]
        others = namesakes(session, submission.spec.kind, new) if new else {}
        warnings = [
            *catalogue.warnings,
            *(label_conflict_warning(other, num) for other, num in others.items()),
        ]
        own = quota(session, person.name)
        warnings += filter(None, [own.plan_refused(len(points)), own.queue_refused(len(left))])
        needs = {(point.requires.device, point.requires.memory_gb) for point in left}
        workers = alive_workers(session)
        able = [worker for worker in workers if can_run(worker, needs)]
        seconds = sum(point.seconds for point in left) * speed_of(session, submission.spec.kind)
        return schemas.PlanPreview(
            num_points=len(points),
            num_existing=len(points) - len(left),
            num_running=sum(state in ("open", "running") for state in states.values()),
            num_new=sum(states.get(point.identity) in (None, "failed") for point in left),
            num_again=len(done) if submission.fresh else 0,
            estimated_seconds=0.0
            if not left
            else seconds / min(len(able), len(left))
            if able
            else None,
            num_workers=len(able if left else workers),
            waits_for=reason_to_wait(workers, needs) if left else None,
            warnings=list(dict.fromkeys(warnings)),
        )


@router.post("/experiments", status_code=201, summary="Submit an experiment")
def submit(
    submission: Submitted, owner: Owner, request: Request, response: Response
) -> schemas.Experiment:
    """Plans, records, and wakes workers. What anybody measured before is there at once."""
    with open_session() as session:
        [answer] = store(
            session, owner, [recorded(submission, DatabaseCatalogue(session))], request
        )
    response.headers["Location"] = answer.url
    return answer


def store(
    session: Session, owner: str, asked: Sequence[Recorded], request: Request
) -> list[schemas.Experiment]:
    """Commit the experiments, all or none, and wake workers."""
    check_planned(session, owner, *(len(points) for _, points in asked))
    rows = submissions.submit_all(session, owner, asked)
    check_queued(session, owner)
    session.commit()
    for row in rows:
        session.refresh(row)
    answer = shown(session, rows, request)
    wake_workers(min(WAKE_UPS, sum(one.progress.total - one.progress.done for one in answer)))
    return answer


def recorded(submission: Submission, catalogue: Catalogue) -> Recorded:
    """What is stored of a submission."""
    spec = submission.spec
    if submission.fresh and not spec.measurable_again:
        raise invalid(
            "/fresh",
            f"{spec.kind_in_words()} again would replace what it made: give the new one another name.",
        )
    name = submission.name.strip() or spec.in_words()
    webhooks.check(submission.webhook)
    fields = submission.model_dump(include={"tags", "notes", "priority", "fresh", "webhook"}) | {
        "name": name
    }
    return as_rows(spec, fields, catalogue)


def as_rows(spec: Spec, fields: dict[str, Any], catalogue: Catalogue) -> Recorded:
    """The experiment's row, with further fields, and those of its points."""
    return {**fields, "kind": spec.kind, "spec": spec.model_dump(mode="json")}, [
        as_row(p) for p in planned(spec, catalogue)
    ]


def as_row(point: Point) -> dict[str, Any]:
    return {
        "identity": point.identity,
        "inputs": dict(point.inputs),
        "source": dict(point.source),
        "labels": dict(point.labels),
        "group_key": point.group,
        "stage": point.stage,
        "seconds": point.seconds,
        "requires_device": point.requires.device,
        "requires_memory_gb": point.requires.memory_gb,
    }


@router.get("/experiments/{id}", summary="One experiment")
def one(id: int, request: Request) -> schemas.Experiment:
    with open_session() as session:
        return shown(session, [found(session, id)], request)[0]


@router.post("/experiments/{id}/{action}", summary="Pause, resume, cancel or retry")
def act(
    id: int,
    action: Literal["pause", "resume", "cancel", "retry"],
    person: Submitter,
    request: Request,
) -> schemas.Experiment:
    """A point being measured stops at its next report unless another experiment wants it. Retry measures failed points again
    and goes on with a cancelled experiment. 409 when the experiment's state does not allow it.
    """
    with open_session() as session:
        experiment = found(session, id)
        only_owner(person, experiment.owner, f"{action} experiment {id}")
        before = experiment.state
        if not submissions.change_state(session, experiment, action):
            state = "queued or running" if before == "active" else before
            raise ProblemError(
                409, f"Cannot {action}: experiment {id} is {state}" + _hint(action, before)
            )
        if action == "retry":
            check_queued(session, experiment.owner)
        session.commit()
        session.refresh(experiment)
        answer = shown(session, [experiment], request)[0]
    if action in ("resume", "retry"):
        wake_workers(WAKE_UPS)
    return answer


def _hint(action: str, state: str) -> str:
    if action == "retry":
        return " and none of its points failed."
    if action == "resume" and state == "cancelled":
        return "; retry goes on with it."
    return "."


def found(session: Session, id: int) -> Experiment:
    experiment = session.get(Experiment, id)
    if experiment is None:
        raise not_found(f"experiment {id}")
    return experiment


def shown(
    session: Session, rows: Sequence[Experiment], request: Request
) -> list[schemas.Experiment]:
    """Rows as records, with what can be said about their progress now."""
    now, person = estimates(session, rows), known(request)
    mine = select(Star.experiment_id).where(
        Star.owner == person.name, Star.experiment_id.in_([row.id for row in rows])
    )
    stars = set(session.scalars(mine))
    url = request.url_for
    found = [
        _shown(row, now.get(row.id, Estimate()), str(url("one", id=row.id)), row.id in stars)
        for row in rows
    ]
    secret = [
        one for one in found if one.webhook and one.owner != person.name and not person.has("admin")
    ]
    for one in secret:
        one.webhook = host_of(one.webhook or "")
    return found


def _shown(row: Experiment, now: Estimate, url: str, starred: bool) -> schemas.Experiment:
    state = row.state if row.state != "active" else "running" if now.num_running else "queued"
    progress = schemas.Progress(
        total=row.num_points,
        done=row.num_done,
        failed=row.num_failed,
        running=now.num_running,
        reused=row.num_reused,
        points_per_second=now.points_per_second,
    )
    copied = schemas.Experiment.model_fields.keys() & set(Experiment.__table__.columns.keys()) - {
        "state"
    }
    return schemas.Experiment(
        **{name: getattr(row, name) for name in copied},
        state=state,
        progress=progress,
        eta_seconds=now.eta_seconds,
        waits_for=now.waits_for,
        url=url,
        starred=starred,
    )
