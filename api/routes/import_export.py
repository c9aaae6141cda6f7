"""What leaves and enters the lab: tables page by page, and the batches of an import.

GET  /v1/export/measurements?tag=noise       JSON lines; the header Ucurve-Next is the `after` of the next page
POST /v1/import/measurements                 see ucurve/schemas/import_export.py

Everybody may read all of it. What is imported is shown to everybody as measured, so only admins import.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import func, select

from api.auth.authorization import Admin
from api.errors import invalid
from db import exports, imports
from db.session import open_session
from ucurve import __version__
from ucurve.schemas import import_export

router = APIRouter(prefix="/v1", tags=["exchange"])

MOST_DIFFERING = 20
TableName = Literal[
    "experiments",
    "points",
    "measurements",
    "attempts",
    "suites",
    "checkpoints",
    "datasets",
    "reference_curves",
]


def chosen(
    experiment: Annotated[
        list[int] | None, Query(description="Only these experiments and what they point at.")
    ] = None,
    tag: str | None = None,
    suite: str | None = None,
    owner: str | None = None,
) -> dict[str, Any]:
    """Which experiments; filters are combined with "and"."""
    return {"experiments": experiment, "tag": tag, "suite": suite, "owner": owner}


Chosen = Annotated[dict[str, Any], Depends(chosen)]


@router.get("/export", summary="How large an export would be")
def sizes(chosen: Chosen) -> import_export.Sizes:
    with open_session() as session:
        now = session.scalar(select(func.now()))
        counts = {name: exports.count(session, name, chosen) for name in exports.TABLES}
    return import_export.Sizes(version=__version__, at=now or datetime.now(UTC), tables=counts)


@router.get("/export/{table}", summary="A page of a table as JSON lines", response_class=Response)
def page(
    table: TableName,
    chosen: Chosen,
    after: Annotated[str | None, Query(description="Ucurve-Next of the page before.")] = None,
) -> Response:
    """Read the tables in the order of GET /v1/export: what a row refers to is then always there."""
    keys = exports.TABLES[table].key
    try:
        key = None if after is None else json.loads(after)
    except json.JSONDecodeError:
        key = []
    if key is not None and not (
        isinstance(key, list)
        and len(key) == len(keys)
        and all(isinstance(k, int | str) for k in key)
    ):
        raise invalid(
            "/after",
            "Give the header Ucurve-Next of the page before, or leave it out for the first page.",
        )
    with open_session() as session:
        lines, last = exports.page(session, table, chosen, key)
    headers = {} if last is None else {"Ucurve-Next": json.dumps(last)}
    return Response(
        "".join(f"{line}\n" for line in lines), media_type="application/x-ndjson", headers=headers
    )


@router.post(
    "/import/catalogue", summary="Suites, evaluation sets and reference curves of another lab"
)
def import_catalogue(
    sent: import_export.ForeignCatalogue, person: Admin
) -> import_export.MergedCatalogue:
    """Unknown names are added as they are described there; a name that is taken keeps its meaning."""
    rows = sent.model_dump(exclude={"origin"})
    remark = f"Imported from {sent.origin}."
    for one in (*rows["suites"], *rows["datasets"]):
        one["description"] = (
            one["description"]
            if remark in one["description"]
            else f"{one['description']} {remark}".strip()
        )
    for suite in rows["suites"]:
        suite["checkpoints"] = [
            {k: v for k, v in one.items() if k != "suite"} for one in suite["checkpoints"]
        ]
    with open_session() as session:
        said = imports.merge_catalogue(session, rows, person.name)
        session.commit()
    return import_export.MergedCatalogue(**said)


@router.post("/import/measurements", summary="Measurements of another lab with their attempts")
def import_measurements(
    sent: import_export.ForeignMeasurements, person: Admin
) -> import_export.MergedMeasurements:
    """All of the batch or nothing. A number that is here already stays what is shown; the foreign attempt stands beside it."""
    rows = [measurement.model_dump() for measurement in sent.measurements]
    with open_session() as session:
        merged = imports.merge_measurements(session, rows, sent.origin)
        session.commit()
    return compared(merged)


def compared(merged: imports.Merged) -> import_export.MergedMeasurements:
    """The batch's counts, and how far numbers measured in both labs are apart."""
    largest: dict[str, float] = {}
    found: list[import_export.Disagreement] = []
    num_equal = 0
    for (identity, _), kind, here, there in merged.compared:
        num_equal += here == there
        for metric in sorted(here.keys() | there.keys()):
            mine, theirs = here.get(metric), there.get(metric)
            difference = abs(mine - theirs) if mine is not None and theirs is not None else None
            if difference is not None:
                largest[metric] = max(difference, largest.get(metric, 0.0))
            if difference or (difference is None and (mine, theirs) != (None, None)):
                row = {
                    "identity": identity,
                    "kind": kind,
                    "metric": metric,
                    "here": mine,
                    "there": theirs,
                }
                found.append(import_export.Disagreement(**row, difference=difference))
    found.sort(key=lambda one: -math.inf if one.difference is None else -one.difference)
    counts = {name: getattr(merged, name) for name in ("new", "completed", "gained", "known")}
    return import_export.MergedMeasurements(
        **counts,
        num_compared=len(merged.compared),
        num_equal=num_equal,
        largest=largest,
        differing=found[:MOST_DIFFERING],
    )


@router.post("/import/experiments", summary="An experiment of another lab")
def import_experiment(
    sent: import_export.ForeignExperiment, person: Admin
) -> import_export.MergedExperiment:
    """It becomes an experiment of whoever imports it, with the tag "imported" and a note of where it is from; the second import
    of the same one (by its moment of submission and its spec) finds the first.
    """
    copied = (
        "name",
        "kind",
        "spec",
        "priority",
        "archived",
        "created_at",
        "started_at",
        "finished_at",
    )
    fields = {name: getattr(sent, name) for name in copied}
    note = f"Imported from {sent.origin}, where it is experiment {sent.id} of {sent.owner}."
    fields |= {
        "tags": list(dict.fromkeys([*sent.tags, "imported"])),
        "notes": f"{sent.notes}\n\n{note}".strip(),
    }
    points: Sequence[dict[str, Any]] = [point.model_dump() for point in sent.points]
    with open_session() as session:
        try:
            row, new = imports.merge_experiment(session, person.name, fields, points)
        except imports.MissingError as error:
            raise invalid("/points", f"{error}: import the measurements first.") from error
        session.commit()
        return import_export.MergedExperiment(id=row.id, new=new)
