"""Metrics for Prometheus."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api import metrics
from api.lab_status import current_status
from ucurve.schemas.status import LabStatus

router = APIRouter(tags=["status"])


@router.get("/metrics", summary="Get metrics for Prometheus", response_class=Response)
async def get_metrics() -> Response:
    """All metrics of the lab in Prometheus's text format; while the database is away, those of this
    process with `ucurve_database_up` 0.
    """
    status: LabStatus | None = None
    with suppress(DBAPIError, PoolTimeoutError):
        status = await current_status()
    return Response(metrics.exposition(status), media_type=CONTENT_TYPE_PLAIN_0_0_4)
