"""Where numbers come from: all of an experiment's, or everything about one, and the file that repeats it elsewhere."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from api.errors import not_found
from api.routes.experiments import found
from db.models import Attempt, ExperimentPoint, Measurement
from db.session import open_session
from ucurve.registry.suites import Checkpoint, Dataset, arrange
from ucurve.schemas import experiments as schemas
from ucurve.schemas.point_file import PointFile, Recorded

router = APIRouter(prefix="/v1", tags=["results"])


@router.get("/experiments/{id}/origins", summary="Where all its numbers come from")
def origins(id: int) -> schemas.Origins:
    """Attempts by worker, versions and outcome; checkpoints and texts with their hashes."""
    with open_session() as session:
        found(session, id)
        rows = session.execute(
            text("""
                SELECT a.worker, a.device, a.versions, a.outcome, count(*) AS num_attempts, min(a.started_at) AS first,
                    coalesce(sum(extract(epoch FROM a.finished_at - a.started_at)), 0)::float AS seconds,
                    max(coalesce(a.finished_at, a.started_at)) AS last
                FROM attempts a JOIN experiment_points p ON p.measurement_id = a.measurement_id
                WHERE p.experiment_id = :id GROUP BY 1, 2, 3, 4 ORDER BY first"""),
            {"id": id},
        ).all()
        sum_failed = session.scalar(
            text("""
                SELECT count(*) FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id AND m.state = 'done'
                JOIN attempts a ON a.measurement_id = m.id AND a.outcome IN ('failed', 'lost') WHERE p.experiment_id = :id"""),
            {"id": id},
        )
        sources = session.scalars(
            text("""
                SELECT DISTINCT s.value FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id,
                    jsonb_each(m.source) s
                WHERE p.experiment_id = :id AND jsonb_typeof(s.value) = 'object'"""),
            {"id": id},
        ).all()
    checkpoints = [Checkpoint.model_validate(one) for one in sources if "weights_sha256" in one]
    datasets = [Dataset.model_validate(one) for one in sources if "sha256" in one]
    return schemas.Origins(
        num_failed_before=sum_failed,
        measured=[schemas.Measured.model_validate(dict(row._mapping)) for row in rows],
        checkpoints=arrange(checkpoints),
        datasets=sorted(datasets, key=lambda dataset: dataset.name),
    )


@router.get("/measurements/{id}", summary="Where a number comes from")
def provenance(id: int) -> schemas.Provenance:
    """Everything that determined it, every attempt at it and at its repeats with worker, versions and traceback, and the
    experiments that show it.
    """
    with open_session() as session:
        row = _measurement(session, id)
        attempts = session.execute(
            select(Attempt, Measurement.repeat)
            .join(Measurement, Measurement.id == Attempt.measurement_id)
            .where(Measurement.identity == row.identity)
            .order_by(Attempt.id)
        )
        experiments = session.scalars(
            select(ExperimentPoint.experiment_id).where(ExperimentPoint.measurement_id == id)
        )
        names = ("id", "identity", "repeat", "kind", "inputs", "source", "state")
        return schemas.Provenance.model_validate(
            {
                **{name: getattr(row, name) for name in names},
                "attempts": [_attempt(attempt, repeat) for attempt, repeat in attempts],
                "experiments": sorted(experiments),
            }
        )


@router.get(
    "/measurements/{id}/point.json", summary="A number as a file that repeats it on another machine"
)
def point_file(id: int) -> PointFile:
    """For `ucurve measure`: what determines the number, where its files are, and what was recorded, to compare with."""
    with open_session() as session:
        row = _measurement(session, id)
        attempt = (
            session.get(Attempt, row.attempt_id) if row.attempt_id and row.state == "done" else None
        )
        recorded = attempt and Recorded(
            metrics=row.metrics,
            nonfinite=row.nonfinite,
            **{
                name: getattr(attempt, name)
                for name in ("worker", "device", "versions", "finished_at")
            },
        )
        names = ("identity", "kind", "inputs", "source", "labels")
        group = row.group_key
        return PointFile(
            measurement=id,
            group=group,
            recorded=recorded,
            **{name: getattr(row, name) for name in names},
        )


def _measurement(session: Session, id: int) -> Measurement:
    row = session.get(Measurement, id)
    if row is None:
        raise not_found(f"measurement {id}")
    return row


def _attempt(row: Attempt, repeat: int) -> dict[str, Any]:
    names = schemas.Attempt.model_fields.keys() - {"measurement", "repeat"}
    return {
        **{name: getattr(row, name) for name in names},
        "measurement": row.measurement_id,
        "repeat": repeat,
    }
