"""An experiment's rows and verdicts, as several routes read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Row
from sqlalchemy.orm import Session

from api.derived_metrics import with_derived_metrics
from api.experiment_remarks import experiment_remarks, with_caveats
from api.experiment_store import get_or_404
from api.single_flight import SingleFlightCache
from api.text_blocks import add_missing_blocks
from db import changes, history
from db.models import Experiment, Json
from db.session import open_session
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import kinds, parse
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Verdict

PAGE_ROWS = 1000

SeriesFilter = Mapping[str, Json] | None  # see db.changes.changes_after
Page = tuple[list[MeasurementRow], int, bool]  # rows, next cursor, whether more follow

verdict_cache = SingleFlightCache[list[Verdict]]("verdicts", size=100)


def needed_series(experiment: Experiment) -> SeriesFilter:
    """Return which rows need which series, as the experiment type declares it.

    All rows need all series where the type is not installed.
    """
    kind = kinds().get(experiment.kind)
    return {name: dict(labels) for name, labels in kind.series_filter.items()} if kind else {}


def changed_page(session: Session, id: int, after: int, series: SeriesFilter) -> Page:
    """Return a page of rows changed after a cursor; rows that share a version are not split."""
    changed = changes.changes_after(session, id, after, PAGE_ROWS, series)
    more = len(changed) == PAGE_ROWS
    if more and changed[0].version != changed[-1].version:
        changed = [row for row in changed if row.version != changed[-1].version]
    elif more:
        changed = changes.changes_after(session, id, after, sparse=series)
        changed = [row for row in changed if row.version == changed[0].version]
    cursor = changed[-1].version if changed else after
    return _to_records(session, changed, series), cursor, more


def page_as_of(session: Session, id: int, at: datetime, start: int, series: SeriesFilter) -> Page:
    """Return a page of the table as of a past moment, which no longer changes: rows are counted."""
    found = history.table_as_of(session, id, at, start, PAGE_ROWS, series)
    rows = _to_records(session, found, series)
    return rows, start + len(rows), len(rows) == PAGE_ROWS


def all_rows(
    session: Session, id: int, series: SeriesFilter = None, at: datetime | None = None
) -> list[MeasurementRow]:
    """Return all rows, current or as of a past moment."""
    if at is not None:
        return _to_records(session, history.table_as_of(session, id, at, sparse=series), series)
    return _to_records(session, changes.changes_after(session, id, 0, sparse=series), series)


def _to_records(
    session: Session, rows: Sequence[Row[Any]], series: SeriesFilter
) -> list[MeasurementRow]:
    records = [MeasurementRow.model_validate(with_derived_metrics(row)) for row in rows]
    add_missing_blocks(session, records, series)
    return records


async def verdicts_for(id: int, at: datetime | None = None) -> list[Verdict]:
    """Return an experiment's verdicts, computed off the event loop and cached.

    The key holds what has finished so far, also with `at`: what finished just before that moment
    may be committed just after it.
    """
    version = await run_in_threadpool(_finished_version, id)
    verdicts = await verdict_cache.get((id, at, version), partial(_compute_verdicts, id, at))
    return await run_in_threadpool(_with_caveats, id, verdicts)


def _with_caveats(id: int, verdicts: list[Verdict]) -> list[Verdict]:
    """Add what is known of the weights now, which may be more than when they were judged."""
    with open_session() as session:
        return with_caveats(verdicts, experiment_remarks(session, id)) if verdicts else []


def _finished_version(id: int) -> tuple[int, int]:
    with open_session() as session:
        get_or_404(session, id)
        return changes.ended(session, id)


def _compute_verdicts(id: int, at: datetime | None) -> list[Verdict]:
    with open_session() as session:
        experiment = get_or_404(session, id)
        rows = all_rows(session, id, needed_series(experiment), at)
    return parse(experiment.spec).verdicts(to_frame(rows))
