"""Plan, record and present experiments: what the routes on experiments share.

spec -> to_rows() -> submit_all() -> to_records()
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import Request
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.auth.authorization import current_user
from api.auth.quotas import check_planned, check_queued
from api.catalogue import DatabaseCatalogue
from api.errors import invalid, not_found
from api.experiment_remarks import remarks_in_words
from api.path_parameters import ExperimentId
from api.plan_counts import count_states
from api.plan_messages import PlanMessages, plan_messages
from api.plan_texts import PlanTexts
from api.planning import rows_of
from api.webhook_addresses import check_webhook
from db import submissions
from db.eta import Estimate, estimates
from db.models import Experiment, Star
from db.session import open_session
from db.unit_of_work import after_commit
from ucurve.experiments import union
from ucurve.schemas import experiments as schemas
from ucurve.schemas.webhooks import host_of
from ucurve.spec import Spec
from worker.queue import wake_workers

MAX_WAKE_UPS = 8  # further workers find the work within seconds by polling


class ExperimentRows(NamedTuple):
    """The rows to store for an experiment, and what its plan says."""

    experiment: dict[str, Any]
    points: list[dict[str, Any]]
    messages: PlanMessages


if TYPE_CHECKING:
    AnySpec = Spec
else:
    AnySpec = union()


class Submission(schemas.Submission):
    """As ucurve.schemas.experiments.Submission, with the schema of every experiment type."""

    spec: AnySpec = Field(description="What to measure; `kind` selects the experiment type.")  # type: ignore[assignment]


def prepare(submission: Submission, catalogue: DatabaseCatalogue) -> ExperimentRows:
    """Validate a submission and return the rows to store."""
    spec = submission.spec
    if submission.fresh and not spec.repeatable:
        raise invalid(
            "/fresh",
            f"{spec.kind_title()} again would replace what it made: give the new one another name.",
        )
    check_webhook(submission.webhook)
    fields = submission.model_dump(include={"tags", "notes", "priority", "fresh", "webhook"})
    fields["name"] = submission.name.strip() or spec.default_name()
    return to_rows(spec, fields, catalogue)


def to_rows(spec: Spec, fields: dict[str, Any], catalogue: DatabaseCatalogue) -> ExperimentRows:
    """Return the experiment's row, with further fields, and the rows of its points."""
    experiment = {**fields, "kind": spec.kind, "spec": spec.model_dump(mode="json")}
    catalogue.warnings.clear()  # of an experiment of the same study
    texts, session = PlanTexts(spec), catalogue.session
    points = list(rows_of(spec, catalogue, texts))
    counts = count_states(session, points, fields.get("fresh", False))
    messages = plan_messages(session, catalogue, spec, counts, texts)
    session.commit()  # no transaction is idle while the next experiment is planned
    return ExperimentRows(experiment, points, messages)


def submit_all(
    session: Session, owner: str, experiments: Sequence[ExperimentRows], request: Request
) -> list[schemas.Experiment]:
    """Commit the experiments, all or none, and wake workers."""
    check_planned(session, owner, *(len(rows.points) for rows in experiments))
    rows = submissions.submit_all(session, owner, [(e.experiment, e.points) for e in experiments])
    check_queued(session, owner)
    session.commit()
    for row in rows:
        session.refresh(row)
    records = to_records(session, rows, request)
    for record, planned in zip(records, experiments, strict=True):
        record.remarks = remarks_in_words(session, record.id)
        record.warnings, record.plan_notes = planned.messages
    num_left = sum(record.progress.total - record.progress.done for record in records)
    after_commit(partial(wake_workers, min(MAX_WAKE_UPS, num_left)))
    return records


def get_or_404(session: Session, id: int) -> Experiment:
    """Return the row of an experiment; answer 404 where there is none."""
    experiment = session.get(Experiment, id)
    if experiment is None:
        raise not_found(f"experiment {id}")
    return experiment


def require_experiment(id: ExperimentId) -> None:
    """Answer 404 where the experiment of the path does not exist (a dependency)."""
    with open_session() as session:
        get_or_404(session, id)


def to_records(
    session: Session, rows: Sequence[Experiment], request: Request
) -> list[schemas.Experiment]:
    """Return rows as answers, with their current progress; hide webhook URLs from other users."""
    progress, user = estimates(session, rows), current_user(request)
    starred = set(
        session.scalars(
            select(Star.experiment_id).where(
                Star.owner == user.name, Star.experiment_id.in_([row.id for row in rows])
            )
        )
    )
    records = [
        _to_record(
            row,
            progress.get(row.id, Estimate()),
            str(request.url_for("get_experiment", id=row.id)),
            row.id in starred,
        )
        for row in rows
    ]
    for record in records:
        if record.webhook and record.owner != user.name and not user.has("admin"):
            record.webhook = host_of(record.webhook)
    return records


def _to_record(row: Experiment, estimate: Estimate, url: str, starred: bool) -> schemas.Experiment:
    active = "running" if estimate.num_running else "queued"
    progress = schemas.Progress(
        total=row.num_points,
        done=row.num_done,
        failed=row.num_failed,
        running=estimate.num_running,
        reused=row.num_reused,
        points_per_second=estimate.points_per_second,
    )
    columns = set(Experiment.__table__.columns.keys()) - {"state"}
    return schemas.Experiment(
        **{name: getattr(row, name) for name in schemas.Experiment.model_fields.keys() & columns},
        state=active if row.state == "active" else row.state,
        progress=progress,
        eta_seconds=estimate.eta_seconds,
        waits_for=estimate.waits_for,
        url=url,
        starred=starred,
    )
