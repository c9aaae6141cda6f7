"""Provenance: of all numbers of an experiment, and of one number, with a file to reproduce it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from api.errors import not_found
from api.experiment_remarks import remarks_in_words
from api.experiment_store import get_or_404
from api.path_parameters import ExperimentId, MeasurementId
from db.models import Attempt, ExperimentPoint, Measurement
from db.session import open_session
from ucurve.registry.suites import Checkpoint, Dataset, sort_checkpoints
from ucurve.schemas import measurements as schemas
from ucurve.schemas.point_file import PointFile, RecordedResult

router = APIRouter(prefix="/v1", tags=["results"])

CONTRIBUTIONS = text("""
    SELECT a.worker, a.device, a.versions, a.outcome, count(*) AS num_attempts,
        min(a.started_at) AS first,
        coalesce(sum(extract(epoch FROM a.finished_at - a.started_at)), 0)::float AS seconds,
        max(coalesce(a.finished_at, a.started_at)) AS last
    FROM attempts a JOIN experiment_points p ON p.measurement_id = a.measurement_id
    WHERE p.experiment_id = :id GROUP BY 1, 2, 3, 4 ORDER BY first""")
NUM_RETRIED = text("""
    SELECT count(*) FROM experiment_points p
    JOIN measurements m ON m.id = p.measurement_id AND m.state = 'done'
    JOIN attempts a ON a.measurement_id = m.id AND a.outcome IN ('failed', 'lost')
    WHERE p.experiment_id = :id""")
SOURCES = text("""
    SELECT DISTINCT s.value FROM experiment_points p
    JOIN measurements m ON m.id = p.measurement_id, jsonb_each(m.source) s
    WHERE p.experiment_id = :id AND jsonb_typeof(s.value) = 'object'""")


@router.get("/experiments/{id}/origins", summary="Get the provenance of an experiment")
def experiment_provenance(id: ExperimentId) -> schemas.ExperimentProvenance:
    """Attempts by worker, library versions and outcome; checkpoints and datasets with hashes."""
    with open_session() as session:
        get_or_404(session, id)
        contributions = session.execute(CONTRIBUTIONS, {"id": id}).all()
        num_retried = session.scalar(NUM_RETRIED, {"id": id})
        sources = session.scalars(SOURCES, {"id": id}).all()
        remarks = remarks_in_words(session, id)
    checkpoints = [Checkpoint.model_validate(s) for s in sources if "weights_sha256" in s]
    datasets = [Dataset.model_validate(s) for s in sources if "sha256" in s]
    return schemas.ExperimentProvenance(
        num_failed_before=num_retried,
        measured=[
            schemas.WorkerContribution.model_validate(dict(row._mapping)) for row in contributions
        ],
        checkpoints=sort_checkpoints(checkpoints),
        datasets=sorted(datasets, key=lambda dataset: dataset.name),
        remarks=remarks,
    )


@router.get("/measurements/{id}", summary="Get the provenance of one measurement")
def provenance(id: MeasurementId) -> schemas.Provenance:
    """Everything that determines the number, all attempts at it and its repetitions with worker,
    versions and traceback, and the experiments that use it.
    """
    with open_session() as session:
        row = _get_or_404(session, id)
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
    "/measurements/{id}/point.json",
    summary="Download a point to reproduce it on another machine",
)
def point_file(id: MeasurementId) -> PointFile:
    """The input of `ucurve measure`: everything that determines the number, the locations of its
    files, and the recorded result to compare with.
    """
    with open_session() as session:
        row = _get_or_404(session, id)
        done = row.attempt_id is not None and row.state == "done"
        attempt = session.get(Attempt, row.attempt_id) if done else None
        names = ("worker", "device", "versions", "finished_at")
        recorded = attempt and RecordedResult(
            metrics=row.metrics,
            nonfinite=row.nonfinite,
            **{name: getattr(attempt, name) for name in names},
        )
        copied = ("identity", "kind", "inputs", "source", "labels")
        return PointFile(
            measurement=id,
            group=row.group_key,
            recorded=recorded,
            **{name: getattr(row, name) for name in copied},
        )


def _get_or_404(session: Session, id: int) -> Measurement:
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
