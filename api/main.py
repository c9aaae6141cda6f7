"""The app: routes, health, and the sweep in its lifespan. Serve it with `uvicorn api.main:app`."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPBearer
from sqlalchemy import text

from api import docs, errors
from api.auth import authentication, oidc, same_origin
from api.auth.authorization import Everybody, admit
from api.background.sweep import keep_sweeping
from api.routes import (
    editing,
    experiments,
    explorer,
    import_export,
    measurements,
    provenance,
    references,
    reproducibility,
    search,
    studies,
    suites,
    users,
    webhooks,
    workers,
)
from db.session import open_session


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with open_session() as session:
        suites.register_builtin(session)
        session.commit()
    authentication.provide_admin()
    stop = threading.Event()
    sweeper = threading.Thread(target=keep_sweeping, args=(stop,), name="sweep", daemon=True)
    sweeper.start()
    threading.Thread(
        target=webhooks.keep_delivering, args=(stop,), name="notices", daemon=True
    ).start()
    yield
    stop.set()


app = FastAPI(
    title="ucurve",
    summary="Does pre-training a language model longer make it more fragile?",
    version="1",
    lifespan=lifespan,
    openapi_url="/v1/openapi.json",
    docs_url=None,  # see api.docs
    redoc_url=None,
    dependencies=[
        Depends(admit),
        Depends(HTTPBearer(auto_error=False)),
    ],  # the second so that /docs can send a token
)
errors.install(app)
authentication.install(app)
same_origin.install(app)
docs.install(app)
for module in (
    reproducibility,
    editing,
    import_export,
    experiments,
    explorer,
    search,
    measurements,
    webhooks,
    oidc,
    users,
    studies,
    suites,
    workers,
    provenance,
    references,
):
    app.include_router(module.router)


@app.get("/", include_in_schema=False, dependencies=[Everybody])
def root() -> RedirectResponse:
    return RedirectResponse("/docs")


@app.get("/health/live", tags=["health"], dependencies=[Everybody], summary="The process answers")
def live() -> dict[str, str]:
    return {"status": "ok"}


@app.get(
    "/health/ready",
    tags=["health"],
    dependencies=[Everybody],
    summary="The database answers too; 503 when it does not",
)
def ready() -> dict[str, str]:
    with open_session() as session:
        session.execute(text("SELECT 1"))
    return {"status": "ok"}
