"""The webhook deliveries of an experiment."""

from __future__ import annotations

from fastapi import APIRouter

from api.experiment_store import get_or_404
from api.path_parameters import ExperimentId
from db import webhooks
from db.session import open_session
from ucurve.schemas.webhooks import WebhookDelivery, host_of

router = APIRouter(prefix="/v1", tags=["experiments"])


@router.get("/experiments/{id}/notices", summary="List webhook deliveries of an experiment")
def list_deliveries(id: ExperimentId) -> list[WebhookDelivery]:
    """Past and pending deliveries, newest first. Of a URL only the host is shown: the rest may hold
    a secret.
    """
    with open_session() as session:
        get_or_404(session, id)
        rows = webhooks.list_deliveries(session, id)
    copied = WebhookDelivery.model_fields.keys() - {"host"}
    return [
        WebhookDelivery(**{name: getattr(row, name) for name in copied}, host=host_of(row.url))
        for row in rows
    ]
