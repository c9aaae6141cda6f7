"""The workers as they last said of themselves."""

from __future__ import annotations

from fastapi import APIRouter

from db.eta import seen_workers
from db.session import open_session
from ucurve.schemas import experiments as schemas

router = APIRouter(prefix="/v1", tags=["workers"])


@router.get("/workers", summary="Workers seen in the last day, the living first")
def workers() -> list[schemas.WorkerInfo]:
    with open_session() as session:
        names = schemas.WorkerInfo.model_fields.keys() - {"alive", "measuring"}
        return [
            schemas.WorkerInfo(
                **{name: getattr(row, name) for name in names}, alive=alive, measuring=measuring
            )
            for row, alive, measuring in seen_workers(session)
        ]
