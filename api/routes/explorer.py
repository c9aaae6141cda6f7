"""The measurements of the whole lab: what there is to choose from, pivots, matching points, and tables as files."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import Row
from sqlalchemy.orm import Session

from api import table_export
from api.auth.authorization import Viewer
from api.errors import invalid
from db import explorer
from db.session import open_session
from ucurve.schemas.explorer import (
    LOSS,
    PERPLEXITY,
    Aggregate,
    Cell,
    Facets,
    FoundPoint,
    FoundPoints,
    LabelFacet,
    PageAsked,
    Pivot,
    PivotAsked,
    Sought,
    SoughtPoints,
    TableAsked,
    condition,
)

router = APIRouter(prefix="/v1/explorer", tags=["explorer"])

MOST_CELLS = 20_000
REPEATS = ("draw", "seed")
SAME = (
    "revision",
    "step",
    "tokens",
    "phase",
)  # labels that name the same thing: who lays out by one has laid out by all


def read(sought: Sought) -> explorer.Sought:
    """As the database is asked: conditions with = on one label are alternatives."""
    equal: dict[str, list[Any]] = {}
    bounds = []
    for name, comparison, value in map(condition, sought.where):
        if comparison == "=":
            equal.setdefault(name, []).append(value)
        else:
            bounds.append(explorer.Condition(name, comparison, (value,)))  # type: ignore[arg-type]
    alternatives = [explorer.Condition(name, "=", tuple(values)) for name, values in equal.items()]
    fields = {name: getattr(sought, name) for name in Sought.model_fields if name != "where"}
    if isinstance(sought, SoughtPoints):
        fields["state"] = sought.state
    return explorer.Sought(**fields, conditions=[*alternatives, *bounds])


@router.get("/facets", summary="What there is to choose from")
def facets(person: Viewer, sought: Annotated[Sought, Query()]) -> Facets:
    """Labels are those of everything ever planned for the chosen suites, kinds and evaluation sets; other filters do not narrow
    them. Metrics are those of the latest 100 points of each chosen kind.
    """
    with open_session() as session:
        places = explorer.places(session)
        kinds = sorted(
            {place.kind for place in places} & set(sought.kind or [place.kind for place in places])
        )
        metrics = explorer.metrics(session, kinds)
        return Facets(
            suites=sorted({place.suite for place in places} - {""}),
            kinds=sorted({place.kind for place in places}),
            evaluations=sorted({place.evaluation for place in places} - {""}),
            labels=[
                LabelFacet.model_validate(dict(row._mapping))
                for row in explorer.labels(session, read(sought))
            ],
            metrics=([PERPLEXITY] if LOSS in metrics else []) + metrics,
        )


@router.get("/pivot", summary="A metric laid out by two labels")
def pivot(person: Viewer, asked: Annotated[PivotAsked, Query()]) -> Pivot:
    """Of finished points. Perplexity is averaged as loss; the standard error is over a cell's points, whatever they differ in."""
    metric = LOSS if asked.metric == PERPLEXITY else asked.metric
    with open_session() as session:
        sought = read(asked)
        found = explorer.pivot(
            session,
            sought,
            asked.rows,
            asked.columns,
            metric,
            asked.aggregate == "median",
            MOST_CELLS + 1,
        )
        if len(found) > MOST_CELLS:
            raise invalid(
                "/columns",
                f"This would be more than {MOST_CELLS} cells: lay out by labels with fewer values, or filter.",
            )
        mixed = _mixed(session, asked, sought)
    return Pivot(
        cells=[_cell(row, asked) for row in sorted(found, key=_place)],
        num_points=sum(row.num_points for row in found),
        averaged_over={name: num for name, num in mixed.items() if name not in REPEATS},
        repeated_over={name: num for name, num in mixed.items() if name in REPEATS},
    )


def _place(cell: Row[Any]) -> tuple[Any, ...]:
    """Rows before columns; nothing before numbers before texts."""
    place: list[Any] = []
    for value in (cell.row, cell.column):
        number = value if isinstance(value, int | float) else 0
        place += [value is not None, isinstance(value, str), number, str(value)]
    return tuple(place)


def _cell(row: Row[Any], asked: PivotAsked) -> Cell:
    counts = {name: getattr(row, name) for name in ("pos_inf", "neg_inf", "nan")}
    value, low, high = _aggregated(row, asked.aggregate), None, None
    if asked.aggregate == "mean" and value is not None and row.deviation is not None:
        error = row.deviation / math.sqrt(row.num_finite)
        low, high = value - error, value + error
    if asked.metric == PERPLEXITY and asked.aggregate != "count":
        value, low, high = _exp(value), _exp(low), _exp(high)
    low = low if high is not None else None
    return Cell(
        row=row.row, column=row.column, value=value, low=low, high=high, num=row.num_finite, **counts,
        missing=row.num_points - row.num_finite - sum(counts.values()),
    )  # fmt: skip


def _aggregated(row: Row[Any], aggregate: Aggregate) -> float | None:
    """None where it is not finite: a mean is not as soon as one of its numbers is not."""
    if aggregate == "count":
        return float(row.num_finite)
    if aggregate == "median":
        return row.median if row.median is not None and math.isfinite(row.median) else None
    beyond = {
        "min": row.neg_inf,
        "max": row.pos_inf + row.nan,
        "mean": row.pos_inf + row.neg_inf + row.nan,
    }
    found: float | None = getattr(
        row, {"min": "least", "max": "greatest", "mean": "mean"}[aggregate]
    )
    return None if beyond[aggregate] else found


def _exp(value: float | None) -> float | None:
    return None if value is None or value > 709 else math.exp(value)


def _mixed(session: Session, asked: PivotAsked, sought: explorer.Sought) -> dict[str, int]:
    """Labels that have several values within what is sought and are not laid out: what a cell is taken over."""
    laid_out = {asked.rows, asked.columns}
    if laid_out & set(SAME):
        laid_out |= set(SAME)
    chosen = {one.name: len(one.values) for one in sought.conditions if one.comparison == "="}
    counts = {row.name: row.num_values for row in explorer.labels(session, sought)} | chosen
    places = explorer.places(session)
    for name in ("suite", "kind", "evaluation"):
        found = {getattr(place, name) for place in places} - {""}
        counts[name] = len(found & set(getattr(sought, name) or found))
    if counts.keys() & {"tokens", "step"}:
        counts.pop("revision", None)  # says the same once more
        counts.pop("step" if "tokens" in counts else "", None)
    return {name: num for name, num in counts.items() if num > 1 and name not in laid_out}


@router.get("/points", summary="The matching measurements, the newest first")
def points(person: Viewer, asked: Annotated[PageAsked, Query()]) -> FoundPoints:
    """A page in the order in which they were planned, the latest first; a row that is measured meanwhile keeps its place."""
    with open_session() as session:
        rows = explorer.points(session, read(asked), asked.before, asked.limit)
    more = len(rows) == asked.limit
    return FoundPoints(
        points=[FoundPoint.model_validate(dict(row._mapping)) for row in rows],
        next=rows[-1].id if more else None,
    )


@router.get("/table", summary="The matching measurements as a file")
def table(person: Viewer, asked: Annotated[TableAsked, Query()]) -> StreamingResponse:
    """A column per label and metric; inf and NaN are written as such. It is made while it is sent, so of any size."""
    kind = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}[asked.format]
    made = table_export.csv_parts if asked.format == "csv" else table_export.parquet_parts
    name = {"Content-Disposition": f'attachment; filename="ucurve-measurements.{asked.format}"'}
    return StreamingResponse(made(read(asked)), media_type=kind, headers=name)
