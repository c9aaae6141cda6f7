"""An experiment's results: changed rows after a cursor, CSV, verdicts, live events, and the provenance of one number."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from api.errors import not_found
from api.experiments import found, shown
from api.sharing import Shared
from db import reading
from db.models import Attempt, Experiment, ExperimentPoint, Json, Measurement
from db.session import open_session
from ucurve import records
from ucurve.experiments import kinds, parse
from ucurve.spec import Verdict
from ucurve.suites import Checkpoint, Dataset, arrange

router = APIRouter(prefix="/v1", tags=["results"])

PAGE_ROWS = 500
EVENT_SECONDS = 0.5

Sparse = Mapping[str, Json] | None
Series = Literal["needed", "all", "none"]

changes = Shared[tuple[records.MeasurementPage, records.Experiment]]("events", kept=32, threads=4)
judgements = Shared[list[Verdict]]("verdicts", kept=500)


@router.get("/experiments/{id}/measurements", response_model=records.MeasurementPage, summary="Rows changed after a cursor")
def measurements(
    id: int,
    request: Request,
    after: Annotated[int, Query(ge=0, description="The cursor of the last page; 0 for everything.")] = 0,
    format: Literal["json", "csv"] = "json",
    series: Annotated[
        Series, Query(description="Curves with each row: those that figures and verdicts read, all, or none.")
    ] = "needed",
) -> Any:
    """A page of at most 500 rows, oldest change first. Nothing is ever skipped; a row comes again whenever it changed."""
    with open_session() as session:
        experiment = found(session, id)
        if format == "csv":
            name = f'attachment; filename="ucurve-experiment-{id}.csv"'
            return Response(as_csv(all_rows(session, id)), media_type="text/csv", headers={"Content-Disposition": name})
        sparse = {"needed": sparse_series(experiment), "all": {}, "none": None}[series]
        rows, cursor, more = _page(session, id, after, sparse)
        state = shown(session, [experiment], request)[0].state
        return records.MeasurementPage(rows=rows, cursor=cursor, more=more, state=state)


def sparse_series(experiment: Experiment) -> Sparse:
    """Which series come with some rows only, as the kind says it; a kind that is not known here: all come with all rows."""
    kind = kinds().get(experiment.kind)
    return {name: dict(labels) for name, labels in kind.sparse_series.items()} if kind else {}


def _page(session: Session, id: int, after: int, sparse: Sparse) -> tuple[list[records.MeasurementRow], int, bool]:
    """Whole versions only: rows that share one are never split over two pages."""
    changed = reading.changes_after(session, id, after, PAGE_ROWS, sparse)
    more = len(changed) == PAGE_ROWS
    if more and changed[0].version != changed[-1].version:
        changed = [row for row in changed if row.version != changed[-1].version]
    elif more:
        changed = reading.changes_after(session, id, after, sparse=sparse)
        changed = [row for row in changed if row.version == changed[0].version]
    return [_row(change) for change in changed], changed[-1].version if changed else after, more


def all_rows(session: Session, id: int, sparse: Sparse = None) -> list[records.MeasurementRow]:
    return [_row(change) for change in reading.changes_after(session, id, 0, sparse=sparse)]


def _row(change: Row[Any]) -> records.MeasurementRow:
    fields = {name: value for name, value in change._mapping.items() if name in records.MeasurementRow.model_fields}
    return records.MeasurementRow(**fields | {"series": change.series or {}}, attempt=change.attempt_id)


def as_csv(rows: list[records.MeasurementRow]) -> str:
    """One line per point in the plan's order; inf and nan are written as such."""
    rows = sorted(rows, key=lambda row: row.position)
    labels = list(dict.fromkeys(name for row in rows for name in row.labels))
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["measurement", "identity", "state", *labels, *metrics, "error"])
    for row in rows:
        values = records.restored(row.metrics, row.nonfinite)
        named = [row.labels.get(name) for name in labels] + [values.get(name) for name in metrics]
        writer.writerow([row.id, row.identity, row.state, *named, row.error])
    return out.getvalue()


@router.get("/experiments/{id}/verdicts", summary="What the data supports so far")
async def verdicts(id: int) -> list[Verdict]:
    """Worked out once whenever a point has ended, for all who ask."""
    return await judged(id)


async def judged(id: int) -> list[Verdict]:
    """The verdicts of an experiment, worked out beside the event loop unless they are known already."""
    return await judgements.ask((id, await run_in_threadpool(_ended, id)), partial(_judge, id))


def _ended(id: int) -> tuple[int, int]:
    with open_session() as session:
        found(session, id)
        return reading.ended(session, id)


def _judge(id: int) -> list[Verdict]:
    with open_session() as session:
        experiment = found(session, id)
        rows = all_rows(session, id, sparse_series(experiment))
    return parse(experiment.spec).verdicts(records.frame(rows))


def exists(id: int) -> None:
    with open_session() as session:
        found(session, id)


@router.get(
    "/experiments/{id}/events",
    dependencies=[Depends(exists)],
    response_class=EventSourceResponse,
    summary="Changes as they happen (SSE)",
)
async def events(id: int, request: Request, after: Annotated[int, Query(ge=0)] = 0) -> AsyncIterator[ServerSentEvent]:
    """An event `rows` per batch of changed rows (its id is the cursor), an event `experiment` whenever the experiment changed,
    and an end once it is done, failed or cancelled. Reconnecting goes on after Last-Event-ID. However many listen to an
    experiment, the database is asked once per half second.
    """
    cursor = int(request.headers.get("Last-Event-ID") or after)
    said: records.Experiment | None = None
    while not await request.is_disconnected():
        key = id, cursor, str(request.base_url), int(time.monotonic() / EVENT_SECONDS)  # all who listen are in step
        page, now = await changes.ask(key, partial(_changes, id, cursor, request))
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


def _changes(id: int, cursor: int, request: Request) -> tuple[records.MeasurementPage, records.Experiment]:
    with open_session() as session:
        experiment = found(session, id)  # before its rows: what it says must not be newer than they are
        rows, cursor, more = _page(session, id, cursor, sparse_series(experiment))
        now = shown(session, [experiment], request)[0]
        return records.MeasurementPage(rows=rows, cursor=cursor, more=more, state=now.state), now


@router.get("/experiments/{id}/origins", summary="Where all its numbers come from")
def origins(id: int) -> records.Origins:
    """Attempts by worker, versions and outcome; checkpoints and texts with their hashes."""
    with open_session() as session:
        found(session, id)
        rows = session.execute(
            text("""
                SELECT a.worker, a.device, a.versions, a.outcome, count(*) AS num_attempts, min(a.started_at) AS first,
                    coalesce(sum(extract(epoch FROM a.finished_at - a.started_at)), 0)::float AS seconds,
                    max(coalesce(a.finished_at, a.started_at)) AS last
                FROM attempts a JOIN experiment_points p ON p.measurement_id = a.measurement_id
                WHERE p.experiment_id = :id GROUP BY 1, 2, 3, 4 ORDER BY first"""),
            {"id": id},
        ).all()
        sources = session.scalars(
            text("""
                SELECT DISTINCT s.value FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id,
                    jsonb_each(m.source) s
                WHERE p.experiment_id = :id AND jsonb_typeof(s.value) = 'object'"""),
            {"id": id},
        ).all()
    checkpoints = [Checkpoint.model_validate(one) for one in sources if "weights_sha256" in one]
    datasets = [Dataset.model_validate(one) for one in sources if "sha256" in one]
    return records.Origins(
        measured=[records.Measured.model_validate(dict(row._mapping)) for row in rows],
        checkpoints=arrange(checkpoints),
        datasets=sorted(datasets, key=lambda dataset: dataset.name),
    )


@router.get("/measurements/{id}", summary="Where a number comes from")
def provenance(id: int) -> records.Provenance:
    """Everything that determined it, every attempt with worker and versions, and the experiments that show it."""
    with open_session() as session:
        row = session.get(Measurement, id)
        if row is None:
            raise not_found(f"measurement {id}")
        attempts = session.scalars(select(Attempt).where(Attempt.measurement_id == id).order_by(Attempt.id))
        experiments = session.scalars(select(ExperimentPoint.experiment_id).where(ExperimentPoint.measurement_id == id))
        return records.Provenance.model_validate(
            {
                **{name: getattr(row, name) for name in ("id", "identity", "kind", "inputs", "source", "state")},
                "attempts": [_attempt(attempt) for attempt in attempts],
                "experiments": sorted(experiments),
            }
        )


def _attempt(row: Attempt) -> dict[str, Any]:
    names = records.Attempt.model_fields.keys() - {"measurement"}
    return {**{name: getattr(row, name) for name in names}, "measurement": row.measurement_id}
