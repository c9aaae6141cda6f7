"""Workers and their last reported state."""

from __future__ import annotations

from fastapi import APIRouter

from db.eta import seen_workers
from db.session import open_session
from ucurve.schemas.workers import WorkerInfo

router = APIRouter(prefix="/v1", tags=["workers"])


@router.get("/workers", summary="List workers seen in the last 24 hours")
def list_workers() -> list[WorkerInfo]:
    """Workers with their device, library versions and current work; live workers first."""
    with open_session() as session:
        names = WorkerInfo.model_fields.keys() - {"alive", "measuring"}
        return [
            WorkerInfo(
                **{name: getattr(row, name) for name in names}, alive=alive, measuring=measuring
            )
            for row, alive, measuring in seen_workers(session)
        ]
