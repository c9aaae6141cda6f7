"""Results of an experiment: changed rows after a cursor, CSV, verdicts, and live events."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.as_of import Moment
from api.auth.authorization import current_user
from api.experiment_results import (
    all_rows,
    changed_page,
    needed_series,
    page_as_of,
    verdicts_for,
)
from api.experiment_store import get_or_404, require_experiment, to_records
from api.path_parameters import ExperimentId
from api.single_flight import SingleFlightCache
from db.session import open_session
from ucurve.csv_cells import plain_row
from ucurve.schemas import experiments as schemas
from ucurve.schemas.measurements import MeasurementPage, MeasurementRow, decode_metrics
from ucurve.spec import Verdict

router = APIRouter(prefix="/v1", tags=["results"])

EVENT_SECONDS = 0.5
MAX_CURSOR_DIGITS = 18  # fits into bigint

Series = Literal["needed", "all", "none"]
Cursor = Annotated[
    int, Query(ge=0, description="`cursor` of the previous page; 0: from the beginning.")
]

event_cache = SingleFlightCache[tuple[MeasurementPage, schemas.Experiment]](
    "events", size=32, threads=4
)


@router.get(
    "/experiments/{id}/measurements",
    response_model=MeasurementPage,
    summary="List rows changed after a cursor",
)
def measurements(
    id: ExperimentId,
    request: Request,
    at: Moment,
    after: Cursor = 0,
    format: Annotated[
        Literal["json", "csv"], Query(description="csv: the whole table as a file.")
    ] = "json",
    series: Annotated[
        Series,
        Query(description="Curves with each row: those that figures and verdicts need, all, none."),
    ] = "needed",
) -> Any:
    """A page of at most 1,000 rows, oldest change first. No change is ever skipped; a row appears
    again whenever it changes. With `at`: the table as of that time, in the plan's order; `state` is
    the current one.
    """
    with open_session() as session:
        experiment = get_or_404(session, id)
        if format == "csv":
            disposition = f'attachment; filename="ucurve-experiment-{id}.csv"'
            return Response(
                as_csv(all_rows(session, id, at=at)),
                media_type="text/csv",
                headers={"Content-Disposition": disposition},
            )
        chosen = {"needed": needed_series(experiment), "all": {}, "none": None}[series]
        if at is None:
            rows, cursor, more = changed_page(session, id, after, chosen)
        else:
            rows, cursor, more = page_as_of(session, id, at, after, chosen)
        state = to_records(session, [experiment], request)[0].state
        return MeasurementPage(rows=rows, cursor=cursor, more=more, state=state)


def as_csv(rows: list[MeasurementRow]) -> str:
    """Return one line per point in the plan's order; inf and nan are written as such."""
    rows = sorted(rows, key=lambda row: row.position)
    labels = list(dict.fromkeys(name for row in rows for name in row.labels))
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(plain_row(["measurement", "identity", "state", *labels, *metrics, "error"]))
    for row in rows:
        values = decode_metrics(row.metrics, row.nonfinite)
        cells = [row.labels.get(name) for name in labels] + [values.get(name) for name in metrics]
        writer.writerow(plain_row([row.id, row.identity, row.state, *cells, row.error]))
    return out.getvalue()


@router.get("/experiments/{id}/verdicts", summary="Get verdicts")
async def verdicts(id: ExperimentId, at: Moment) -> list[Verdict]:
    """What the finished points support so far; with `at`: as of that time."""
    return await verdicts_for(id, at)


@router.get(
    "/experiments/{id}/events",
    dependencies=[Depends(require_experiment)],
    response_class=EventSourceResponse,
    summary="Stream changes as server-sent events",
)
async def events(
    id: ExperimentId, request: Request, after: Cursor = 0
) -> AsyncIterator[ServerSentEvent]:
    """An event `rows` per batch of changed rows (its id is the cursor) and an event `experiment`
    whenever the experiment changes; the stream ends once it is done, failed or cancelled. A client
    that reconnects with Last-Event-ID continues from there. The database is queried at most once
    per half second and user, however many clients listen.
    """
    last = request.headers.get("Last-Event-ID", "")
    is_cursor = last.isascii() and last.isdigit() and len(last) <= MAX_CURSOR_DIGITS
    cursor = int(last) if is_cursor else after
    previous: schemas.Experiment | None = None
    user = current_user(request)  # stars and webhook URLs depend on the user
    while not await request.is_disconnected():
        tick = int(time.monotonic() / EVENT_SECONDS)  # the same for all listeners
        key = id, cursor, str(request.base_url), user.name, user.role, tick
        page, experiment = await event_cache.get(key, partial(_changes, id, cursor, request))
        if page.rows:
            cursor = page.cursor
            yield ServerSentEvent(event="rows", id=str(cursor), data=page)
        if experiment != previous:
            previous = experiment
            yield ServerSentEvent(event="experiment", data=experiment)
        if not page.more and experiment.state in ("done", "failed", "cancelled"):
            return
        if not page.more:
            await asyncio.sleep(EVENT_SECONDS - time.monotonic() % EVENT_SECONDS)


def _changes(id: int, cursor: int, request: Request) -> tuple[MeasurementPage, schemas.Experiment]:
    with open_session() as session:
        # Read before its rows: the experiment must not be newer than they are.
        experiment = get_or_404(session, id)
        rows, cursor, more = changed_page(session, id, cursor, needed_series(experiment))
        [record] = to_records(session, [experiment], request)
        page = MeasurementPage(rows=rows, cursor=cursor, more=more, state=record.state)
        return page, record
