"""The workers as they last said of themselves."""

from __future__ import annotations

from fastapi import APIRouter

from db.estimates import seen_workers
from db.session import open_session
from ucurve import records

router = APIRouter(prefix="/v1", tags=["workers"])


@router.get("/workers", summary="Workers seen in the last day, the living first")
def workers() -> list[records.WorkerInfo]:
    with open_session() as session:
        names = records.WorkerInfo.model_fields.keys() - {"alive", "measuring"}
        return [
            records.WorkerInfo(**{name: getattr(row, name) for name in names}, alive=alive, measuring=measuring)
            for row, alive, measuring in seen_workers(session)
        ]
