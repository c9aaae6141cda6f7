"""An experiment's results: changed rows after a cursor, CSV, verdicts, and live events."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy import Row
from sqlalchemy.orm import Session

from api.auth.authorization import known
from api.routes.experiments import found, shown
from api.routes.reproducibility import Moment
from api.single_flight import Shared
from db import changes, history
from db.models import Experiment, Json
from db.session import open_session
from ucurve.experiments import kinds, parse
from ucurve.schemas import experiments as schemas
from ucurve.spec import Verdict

router = APIRouter(prefix="/v1", tags=["results"])

PAGE_ROWS = 1000
EVENT_SECONDS = 0.5

Sparse = Mapping[str, Json] | None
Series = Literal["needed", "all", "none"]

shared_changes = Shared[tuple[schemas.MeasurementPage, schemas.Experiment]](
    "events", kept=32, threads=4
)
judgements = Shared[list[Verdict]]("verdicts", kept=500)


@router.get(
    "/experiments/{id}/measurements",
    response_model=schemas.MeasurementPage,
    summary="Rows changed after a cursor",
)
def measurements(
    id: int,
    request: Request,
    at: Moment,
    after: Annotated[
        int, Query(ge=0, description="The cursor of the last page; 0 for everything.")
    ] = 0,
    format: Literal["json", "csv"] = "json",
    series: Annotated[
        Series,
        Query(
            description="Curves with each row: those that figures and verdicts read, all, or none."
        ),
    ] = "needed",
) -> Any:
    """A page of at most 1,000 rows, oldest change first. Nothing is ever skipped; a row comes again whenever it changed. With `at`
    the table as it stood then, in the plan's order; `state` is that of now.
    """
    with open_session() as session:
        experiment = found(session, id)
        if format == "csv":
            name = f'attachment; filename="ucurve-experiment-{id}.csv"'
            return Response(
                as_csv(all_rows(session, id, at=at)),
                media_type="text/csv",
                headers={"Content-Disposition": name},
            )
        sparse = {"needed": sparse_series(experiment), "all": {}, "none": None}[series]
        rows, cursor, more = (
            _page(session, id, after, sparse)
            if at is None
            else _page_at(session, id, at, after, sparse)
        )
        state = shown(session, [experiment], request)[0].state
        return schemas.MeasurementPage(rows=rows, cursor=cursor, more=more, state=state)


def sparse_series(experiment: Experiment) -> Sparse:
    """Which series come with some rows only, as the kind says it; a kind that is not known here: all come with all rows."""
    kind = kinds().get(experiment.kind)
    return {name: dict(labels) for name, labels in kind.sparse_series.items()} if kind else {}


def _page(
    session: Session, id: int, after: int, sparse: Sparse
) -> tuple[list[schemas.MeasurementRow], int, bool]:
    """Whole versions only: rows that share one are never split over two pages."""
    changed = changes.changes_after(session, id, after, PAGE_ROWS, sparse)
    more = len(changed) == PAGE_ROWS
    if more and changed[0].version != changed[-1].version:
        changed = [row for row in changed if row.version != changed[-1].version]
    elif more:
        changed = changes.changes_after(session, id, after, sparse=sparse)
        changed = [row for row in changed if row.version == changed[0].version]
    return [_row(change) for change in changed], changed[-1].version if changed else after, more


def _page_at(
    session: Session, id: int, at: datetime, start: int, sparse: Sparse
) -> tuple[list[schemas.MeasurementRow], int, bool]:
    """Of a table that does not change any more: the cursor counts rows."""
    rows = [_row(row) for row in history.table_at(session, id, at, start, PAGE_ROWS, sparse)]
    return rows, start + len(rows), len(rows) == PAGE_ROWS


def all_rows(
    session: Session, id: int, sparse: Sparse = None, at: datetime | None = None
) -> list[schemas.MeasurementRow]:
    """As they are now, or as they stood at a moment."""
    if at is not None:
        return [_row(row) for row in history.table_at(session, id, at, sparse=sparse)]
    return [_row(change) for change in changes.changes_after(session, id, 0, sparse=sparse)]


def _row(change: Row[Any]) -> schemas.MeasurementRow:
    return schemas.MeasurementRow.model_validate(dict(change._mapping))


def as_csv(rows: list[schemas.MeasurementRow]) -> str:
    """One line per point in the plan's order; inf and nan are written as such."""
    rows = sorted(rows, key=lambda row: row.position)
    labels = list(dict.fromkeys(name for row in rows for name in row.labels))
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["measurement", "identity", "state", *labels, *metrics, "error"])
    for row in rows:
        values = schemas.restored(row.metrics, row.nonfinite)
        named = [row.labels.get(name) for name in labels] + [values.get(name) for name in metrics]
        writer.writerow([row.id, row.identity, row.state, *named, row.error])
    return out.getvalue()


@router.get("/experiments/{id}/verdicts", summary="What the data supports so far")
async def verdicts(id: int, at: Moment) -> list[Verdict]:
    """Worked out once whenever a point has ended, for all who ask. With `at`: what the numbers of that moment supported."""
    return await judged(id, at)


async def judged(id: int, at: datetime | None = None) -> list[Verdict]:
    """The verdicts of an experiment, worked out beside the event loop unless they are known already."""
    ended = await run_in_threadpool(
        _ended, id
    )  # with `at` too: what ended just before it may be committed just after
    return await judgements.ask((id, at, ended), partial(_judge, id, at))


def _ended(id: int) -> tuple[int, int]:
    with open_session() as session:
        found(session, id)
        return changes.ended(session, id)


def _judge(id: int, at: datetime | None) -> list[Verdict]:
    with open_session() as session:
        experiment = found(session, id)
        rows = all_rows(session, id, sparse_series(experiment), at)
    return parse(experiment.spec).verdicts(schemas.frame(rows))


def exists(id: int) -> None:
    with open_session() as session:
        found(session, id)


@router.get(
    "/experiments/{id}/events",
    dependencies=[Depends(exists)],
    response_class=EventSourceResponse,
    summary="Changes as they happen (SSE)",
)
async def events(
    id: int, request: Request, after: Annotated[int, Query(ge=0)] = 0
) -> AsyncIterator[ServerSentEvent]:
    """An event `rows` per batch of changed rows (its id is the cursor), an event `experiment` whenever the experiment changed,
    and an end once it is done, failed or cancelled. Reconnecting goes on after Last-Event-ID. However many listen to an
    experiment, the database is asked once per half second and person.
    """
    last = request.headers.get("Last-Event-ID", "")
    cursor = (
        int(last) if last.isdecimal() and len(last) < 19 else after
    )  # else it is no cursor of ours
    said: schemas.Experiment | None = None
    person = known(
        request
    )  # stars are each person's own, and a webhook's address is not for everybody
    while not await request.is_disconnected():
        step = int(time.monotonic() / EVENT_SECONDS)  # all who listen are in step
        key = id, cursor, str(request.base_url), person.name, person.role, step
        page, now = await shared_changes.ask(key, partial(_changes, id, cursor, request))
        if page.rows:
            cursor = page.cursor
            yield ServerSentEvent(event="rows", id=str(cursor), data=page)
        if now != said:
            said = now
            yield ServerSentEvent(event="experiment", data=now)
        if not page.more and now.state in ("done", "failed", "cancelled"):
            return
        if not page.more:
            await asyncio.sleep(EVENT_SECONDS - time.monotonic() % EVENT_SECONDS)


def _changes(
    id: int, cursor: int, request: Request
) -> tuple[schemas.MeasurementPage, schemas.Experiment]:
    with open_session() as session:
        experiment = found(
            session, id
        )  # before its rows: what it says must not be newer than they are
        rows, cursor, more = _page(session, id, cursor, sparse_series(experiment))
        now = shown(session, [experiment], request)[0]
        return schemas.MeasurementPage(rows=rows, cursor=cursor, more=more, state=now.state), now
