"""The app: routes, health, and background threads. Serve it with `uvicorn api.main:app`."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPBearer
from sqlalchemy import text

from api import body_limit, changing_requests, docs, errors, openapi
from api import metrics as prometheus
from api.auth import authentication, rate_limits, same_origin
from api.auth.authorization import Public, enforce_role
from api.background.sweep import keep_sweeping
from api.background.webhook_delivery import keep_delivering
from api.body_text import require_storable_body
from api.registration import register_builtin
from api.routes import (
    audit,
    datasets,
    disks,
    experiments,
    explorer,
    import_export,
    measurements,
    metrics,
    provenance,
    references,
    reproducibility,
    search,
    sessions,
    status,
    studies,
    suites,
    updates,
    uploads,
    users,
    webhooks,
    workers,
)
from api.storage import current_disks
from db.session import open_session
from ucurve.logs import configure_logs
from ucurve.schemas.disks import Readiness

# Seconds that a thread waits for one that computes, such as a plan of 50,000 points, several times
# per quick request: it waits for the interpreter after each answer of the database. Python's
# default is ten times as long.
SWITCH_INTERVAL = 0.0005


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Register what comes with the package, then run the background threads."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    with open_session() as session:
        register_builtin(session)
        session.commit()
    authentication.ensure_admin_token()
    stop = threading.Event()
    for name, work in (("sweep", keep_sweeping), ("webhooks", keep_delivering)):
        threading.Thread(target=work, args=(stop,), name=name, daemon=True).start()
    yield
    stop.set()


configure_logs(logging.WARNING, own=("uvicorn",))  # uvicorn logs its first line after the import
app = FastAPI(
    title="ucurve",
    summary="Does pre-training a language model longer make it more fragile?",
    version="1",
    lifespan=lifespan,
    openapi_url="/v1/openapi.json",
    docs_url=None,  # see api.docs
    redoc_url=None,
    # The last lets /docs send a token.
    dependencies=[
        Depends(enforce_role),
        Depends(require_storable_body),
        Depends(HTTPBearer(auto_error=False)),
    ],
)
errors.install(app)
changing_requests.install(app)
body_limit.install(app)
rate_limits.install(app)
authentication.install(app)
same_origin.install(app)
docs.install(app)
prometheus.install(app)
openapi.install(app)
for module in (
    reproducibility,
    updates,
    import_export,
    experiments,
    explorer,
    search,
    measurements,
    webhooks,
    audit,
    sessions,
    users,
    studies,
    suites,
    datasets,
    uploads,
    workers,
    status,
    metrics,
    disks,
    provenance,
    references,
):
    app.include_router(module.router)


@app.get("/", include_in_schema=False, dependencies=[Public])
def root() -> RedirectResponse:
    """Redirect to the documentation."""
    return RedirectResponse("/docs")


@app.get("/health/live", tags=["health"], dependencies=[Public], summary="Check the process")
async def live() -> dict[str, str]:
    """200 while the process responds.

    In the event loop, without a dependency: it answers even while every thread waits for the
    database.
    """
    return {"status": "ok"}


@app.get(
    "/health/ready", tags=["health"], dependencies=[Public], summary="Check process and database"
)
def ready() -> Readiness:
    """200 while the database responds and no disk is full; 503 with the reason otherwise."""
    lab_disks = current_disks()
    if full := [disk.message for disk in lab_disks if disk.state == "full" and disk.message]:
        raise errors.ApiError(503, " ".join(full))
    with open_session() as session:
        session.execute(text("SELECT 1"))
    return Readiness(warnings=[disk.message for disk in lab_disks if disk.message])
