"""What the lab does now, and retrying what failed for one cause."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path

from api import lab_status
from api.auth.authorization import Submitter
from api.auth.quotas import check_queued
from api.errors import ApiError, not_found
from api.failures import by_cause
from db import status
from db.session import open_session
from db.unit_of_work import after_commit
from ucurve.schemas.status import LabStatus, RetriedFailures
from worker.queue import wake_workers

router = APIRouter(prefix="/v1", tags=["status"])
MAX_WAKE_UPS = 8
Cause = Annotated[
    str, Path(pattern=r"^[0-9a-f]{12}$", description="Id of the cause, from GET /v1/status.")
]


@router.get("/status", summary="Get the state of the lab")
async def get_status() -> LabStatus:
    """Workers and what they do now, unfinished work by user, recent failures by cause, throughput
    and disks. Read at most once in two seconds, however many ask.
    """
    return await lab_status.current_status()


@router.post("/failures/{cause}/retry", summary="Retry what failed for one cause")
def retry_failures(cause: Cause, user: Submitter) -> RetriedFailures:
    """Queue recent failed points of this cause again, those in experiments of your own (admins: of
    all users). Other failures of the same experiments stay as they are.
    """
    with open_session() as session:
        rows = status.failed_points(session)
        group = next((group for group in by_cause(rows) if group.id == cause), None)
        if group is None:
            raise not_found(f"recent failure with the cause {cause}")
        points, experiments = group.of(None if user.has("admin") else user.name)
        if not points:
            owners = ", ".join(sorted({ref.owner for ref in group.experiments.values()}))
            raise ApiError(403, f"Only {owners} and admins can retry these points.")
        retried = status.retry_points(session, points, experiments)
        for owner in sorted(experiments):
            check_queued(session, owner)
        session.commit()
    after_commit(partial(wake_workers, min(MAX_WAKE_UPS, len(retried))))
    return RetriedFailures(
        retried=len(retried),
        experiments=sorted(id for ids in experiments.values() for id in ids),
        not_yours=len(group.measurements) - len(points),
    )
