"""Plan, submit, get and control experiments.

POST /v1/experiments {"name": "first", "spec": {"kind": "gaussian_perturbation", "suite": "tiny"}}
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Request, Response
from sqlalchemy.orm import Session
from starlette.convertors import StringConvertor, register_url_convertor

from api.auth.authorization import Owner, Submitter, Viewer, require_owner
from api.auth.quotas import check_queued, quota
from api.errors import ApiError
from api.experiment_remarks import remarks_in_words
from api.experiment_store import (
    MAX_WAKE_UPS,
    Submission,
    get_or_404,
    prepare,
    submit_all,
    to_records,
)
from api.path_parameters import ExperimentId
from api.plan_counts import PlanCounts, count_states
from api.plan_messages import plan_messages
from api.plan_texts import PlanTexts
from api.planning import planning, rows_of
from db import submissions
from db.eta import alive_workers, can_run, reason_to_wait, speed_of
from db.session import open_session
from db.unit_of_work import after_commit
from ucurve.experiments import kinds
from ucurve.schemas import experiments as schemas
from worker.queue import wake_workers

router = APIRouter(prefix="/v1", tags=["experiments"])

EXAMPLES: dict[str, Any] = {
    name: {
        "summary": kind.title or name,
        "value": {"name": "a first look", "spec": {"kind": name}},
    }
    for name, kind in kinds().items()
}
SubmissionBody = Annotated[Submission, Body(openapi_examples=EXAMPLES)]
Action = Annotated[Literal["pause", "resume", "cancel", "retry"], Path(description="What to do.")]


class ActionConvertor(StringConvertor):
    """Matches the actions only: what else lies below an experiment has methods of its own."""

    regex = "pause|resume|cancel|retry"


register_url_convertor("action", ActionConvertor())


@router.post("/plan", summary="Preview an experiment without submitting it")
def plan(submission: SubmissionBody, user: Viewer) -> schemas.PlanPreview:
    """How many points are cached, shared and new, the estimated time, and what the experiment would
    wait for. Nothing is stored.
    """
    with planning(user.name, submission.spec) as (session, catalogue):
        texts = PlanTexts(submission.spec)
        rows = rows_of(submission.spec, catalogue, texts)
        counts = count_states(session, rows, submission.fresh)
        messages = plan_messages(session, catalogue, submission.spec, counts, texts)
        limits = quota(session, user.name)
        refusals = [limits.plan_refusal(counts.num_points), limits.queue_refusal(counts.num_left)]
        return schemas.PlanPreview(
            num_points=counts.num_points,
            num_existing=counts.num_points - counts.num_left,
            num_running=counts.num_running,
            num_new=counts.num_new,
            num_again=counts.num_done if submission.fresh else 0,
            warnings=[*messages.warnings, *filter(None, refusals)],
            notes=messages.notes,
            **_prospects(session, submission.spec.kind, counts),
        )


def _prospects(session: Session, kind: str, counts: PlanCounts) -> dict[str, Any]:
    """Return how long the points take on the live workers, or what they would wait for."""
    workers = alive_workers(session)
    if not counts.num_left:
        return {"estimated_seconds": 0.0, "num_workers": len(workers), "waits_for": None}
    eligible = [worker for worker in workers if can_run(worker, counts.requirements)]
    seconds = counts.seconds * speed_of(session, kind)
    return {
        "estimated_seconds": seconds / min(len(eligible), counts.num_left) if eligible else None,
        "num_workers": len(eligible),
        "waits_for": reason_to_wait(workers, counts.requirements),
    }


@router.post("/experiments", status_code=201, summary="Submit an experiment")
def submit(
    submission: SubmissionBody, owner: Owner, request: Request, response: Response
) -> schemas.Experiment:
    """Plan and record the experiment, and wake workers. Cached results are available at once."""
    with planning(owner, submission.spec, submits=True) as (session, catalogue):
        rows = prepare(submission, catalogue)
        [experiment] = submit_all(session, owner, [rows], request)
    response.headers["Location"] = experiment.url
    return experiment


@router.get("/experiments/{id}", summary="Get an experiment")
def get_experiment(id: ExperimentId, request: Request) -> schemas.Experiment:
    """The experiment with its spec, state and progress."""
    with open_session() as session:
        [experiment] = to_records(session, [get_or_404(session, id)], request)
        experiment.remarks = remarks_in_words(session, id)
        return experiment


@router.post(
    "/experiments/{id}/{action:action}", summary="Pause, resume, cancel or retry an experiment"
)
def change_state(
    id: ExperimentId, action: Action, user: Submitter, request: Request
) -> schemas.Experiment:
    """Pausing and cancelling stop running points unless another experiment needs them, and keep
    results. Resume continues a paused experiment; retry re-runs failed points and resumes a
    cancelled experiment. Only deleting is permanent. 409 when the state does not allow it.
    """
    with open_session() as session:
        experiment = get_or_404(session, id)
        require_owner(user, experiment.owner, f"{action} experiment {id}")
        before = experiment.state
        if not submissions.change_state(session, experiment, action):
            state = "queued or running" if before == "active" else before
            raise ApiError(
                409, f"Cannot {action}: experiment {id} is {state}" + _hint(action, before)
            )
        if action == "retry":
            check_queued(session, experiment.owner)
        session.commit()
        session.refresh(experiment)
        [record] = to_records(session, [experiment], request)
    if action in ("resume", "retry"):
        after_commit(partial(wake_workers, MAX_WAKE_UPS))
    return record


def _hint(action: Action, state: str) -> str:
    if action == "retry":
        return " and none of its points failed."
    if action == "resume" and state == "cancelled":
        return "; use retry to resume it."
    return "."
