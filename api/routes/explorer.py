"""Explore the measurements of the whole lab: facets, pivots, points, and tables as files."""

from __future__ import annotations

import math
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import Row
from sqlalchemy.orm import Session

from api import table_export
from api.auth.authorization import Viewer
from api.derived_metrics import with_derived_metrics
from api.errors import invalid
from db import explorer
from db.explorer import MeasurementFilter
from db.session import open_session
from ucurve.schemas.explorer import (
    LOSS,
    PERPLEXITY,
    Aggregate,
    Cell,
    Facets,
    LabelFacet,
    Pivot,
    PivotQuery,
    PointFilter,
    PointPage,
    PointPageQuery,
    PointRow,
    PointStateFilter,
    TableQuery,
    condition,
)
from ucurve.schemas.measurements import finite_or_none

router = APIRouter(prefix="/v1/explorer", tags=["explorer"])

MAX_CELLS = 20_000
MAX_EXP = 709  # exp of more overflows
REPEAT_LABELS = ("draw", "seed")
CHECKPOINT_LABELS = ("revision", "step", "tokens", "phase")  # grouping by one groups by all


def to_filter(query: PointFilter) -> MeasurementFilter:
    """Return the database's filter; conditions with = on the same label are alternatives."""
    equal: dict[str, list[Any]] = {}
    bounds = []
    for name, comparison, value in map(condition, query.where):
        if comparison == "=":
            equal.setdefault(name, []).append(value)
        else:
            bounds.append(explorer.Condition(name, comparison, (value,)))  # type: ignore[arg-type]
    alternatives = [explorer.Condition(name, "=", tuple(values)) for name, values in equal.items()]
    fields = {name: getattr(query, name) for name in PointFilter.model_fields if name != "where"}
    if isinstance(query, PointStateFilter):
        fields["state"] = query.state
    return MeasurementFilter(**fields, conditions=[*alternatives, *bounds])


@router.get("/facets", summary="List suites, labels and metrics to filter and group by")
def facets(user: Viewer, query: Annotated[PointFilter, Query()]) -> Facets:
    """Labels are those ever planned for the chosen suites, experiment types and evaluation sets;
    other filters do not narrow them. Metrics are those of the latest 100 points of each chosen
    type.
    """
    with open_session() as session:
        places = explorer.places(session)
        existing = {place.kind for place in places}
        metrics = explorer.metrics(session, sorted(existing & set(query.kind or existing)))
        return Facets(
            suites=sorted({place.suite for place in places} - {""}),
            kinds=sorted(existing),
            evaluations=sorted({place.evaluation for place in places} - {""}),
            labels=[
                LabelFacet.model_validate(dict(row._mapping))
                for row in explorer.labels(session, to_filter(query))
            ],
            metrics=([PERPLEXITY] if LOSS in metrics else []) + metrics,
        )


@router.get("/pivot", summary="Aggregate a metric by two labels")
def pivot(user: Viewer, query: Annotated[PivotQuery, Query()]) -> Pivot:
    """Finished points only. Perplexity is averaged as loss; the standard error is over all points
    of a cell, whatever they differ in.
    """
    metric = LOSS if query.metric == PERPLEXITY else query.metric
    median = query.aggregate == "median"
    where = to_filter(query)
    with open_session() as session:
        cells = explorer.pivot(
            session, where, query.rows, query.columns, metric, median, MAX_CELLS + 1
        )
        if len(cells) > MAX_CELLS:
            raise invalid(
                "/columns",
                f"This would be more than {MAX_CELLS} cells: group by labels with fewer values, or "
                "add a filter.",
            )
        mixed = _mixed_labels(session, query, where)
    return Pivot(
        cells=[_cell(row, query) for row in sorted(cells, key=_sort_key)],
        num_points=sum(row.num_points for row in cells),
        averaged_over={name: num for name, num in mixed.items() if name not in REPEAT_LABELS},
        repeated_over={name: num for name, num in mixed.items() if name in REPEAT_LABELS},
    )


def _sort_key(cell: Row[Any]) -> tuple[Any, ...]:
    """Sort by row, then column: nothing before numbers before texts."""
    key: list[Any] = []
    for value in (cell.row, cell.column):
        number = value if isinstance(value, int | float) else 0
        key += [value is not None, isinstance(value, str), number, str(value)]
    return tuple(key)


def _cell(row: Row[Any], query: PivotQuery) -> Cell:
    counts = {name: getattr(row, name) for name in ("pos_inf", "neg_inf", "nan")}
    value, low, high = _aggregate(row, query.aggregate), None, None
    deviation = _mean_and_deviation(row)[1]
    if query.aggregate == "mean" and value is not None and deviation is not None:
        error = deviation / math.sqrt(row.num_finite)
        if math.isfinite(value - error) and math.isfinite(value + error):
            low, high = value - error, value + error
    if query.metric == PERPLEXITY and query.aggregate != "count":
        value, low, high = _exp(value), _exp(low), _exp(high)
    return Cell(
        row=row.row,
        column=row.column,
        value=value,
        low=low if high is not None else None,
        high=high,
        num=row.num_finite,
        missing=row.num_points - row.num_finite - sum(counts.values()),
        **counts,
    )


def _aggregate(row: Row[Any], aggregate: Aggregate) -> float | None:
    """Return the aggregate; None where it is not finite, as a mean with one non-finite number."""
    if aggregate == "count":
        return float(row.num_finite)
    if aggregate == "median":
        return row.median if row.median is not None and math.isfinite(row.median) else None
    num_nonfinite = {
        "min": row.neg_inf,
        "max": row.pos_inf + row.nan,
        "mean": row.pos_inf + row.neg_inf + row.nan,
    }
    values = {"min": row.least, "max": row.greatest, "mean": _mean_and_deviation(row)[0]}
    value: float | None = values[aggregate]
    return None if num_nonfinite[aggregate] or value is None else finite_or_none(value)


def _mean_and_deviation(row: Row[Any]) -> tuple[float | None, float | None]:
    """Return mean and deviation of the finite values, also where these are huge."""
    if row.num_finite == 0 or max(-row.least, row.greatest) <= explorer.HUGE:
        return row.mean, row.deviation
    deviation = row.huge_deviation
    scale = explorer.SCALE
    return row.huge_mean * scale, None if deviation is None else deviation * scale


def _exp(value: float | None) -> float | None:
    return None if value is None or value > MAX_EXP else math.exp(value)


def _mixed_labels(session: Session, query: PivotQuery, where: MeasurementFilter) -> dict[str, int]:
    """Return the labels that vary within cells, with the number of their values."""
    grouped = {query.rows, query.columns}
    if grouped & set(CHECKPOINT_LABELS):
        grouped |= set(CHECKPOINT_LABELS)
    filtered = {c.name: len(c.values) for c in where.conditions if c.comparison == "="}
    counts = {row.name: row.num_values for row in explorer.labels(session, where)} | filtered
    places = explorer.places(session)
    for name in ("suite", "kind", "evaluation"):
        existing = {getattr(place, name) for place in places} - {""}
        counts[name] = len(existing & set(getattr(where, name) or existing))
    if counts.keys() & {"tokens", "step"}:
        counts.pop("revision", None)  # varies with them
        counts.pop("step" if "tokens" in counts else "", None)
    return {name: num for name, num in counts.items() if num > 1 and name not in grouped}


@router.get("/points", summary="List matching measurements")
def points(user: Viewer, query: Annotated[PointPageQuery, Query()]) -> PointPage:
    """A page, last planned first. A row keeps its place when it is measured meanwhile."""
    with open_session() as session:
        rows = explorer.points(session, to_filter(query), query.before, query.limit)
    return PointPage(
        points=[PointRow.model_validate(with_derived_metrics(row)) for row in rows],
        next=rows[-1].id if len(rows) == query.limit else None,
    )


@router.get("/table", summary="Download matching measurements as CSV or Parquet")
def table(user: Viewer, query: Annotated[TableQuery, Query()]) -> StreamingResponse:
    """A column per label and metric; inf and NaN are written as such. Streamed, so of any size."""
    media_types = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
    parts = table_export.csv_parts if query.format == "csv" else table_export.parquet_parts
    disposition = f'attachment; filename="ucurve-measurements.{query.format}"'
    content = parts(to_filter(query))
    first = next(content)  # what fails here is an error response, later only a broken transfer
    return StreamingResponse(
        chain([first], content),
        media_type=media_types[query.format],
        headers={"Content-Disposition": disposition},
    )
