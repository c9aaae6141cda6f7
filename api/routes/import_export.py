"""Export and import: tables page by page, and batches of another lab's rows.

GET  /v1/export/measurements?tag=noise       JSON lines; the header Ucurve-Next is the next `after`
POST /v1/import/measurements                 see ucurve/schemas/import_export.py

All users may export everything. Imported numbers are shown to all users as measured, so only admins
import.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.auth.authorization import Admin
from api.errors import invalid
from api.imported_suites import read_again, untried
from api.trials import WAITING
from db import exports, imports
from db.session import open_session
from db.unit_of_work import after_commit
from ucurve import __version__
from ucurve.bounds import Cursor, Name
from ucurve.schemas import import_export
from worker.queue import wake_workers

router = APIRouter(prefix="/v1", tags=["exchange"])

Check = Annotated[bool, Query(description="Only check what would be imported; nothing is stored.")]

MAX_CONFLICTS = 20
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


def export_filter(
    experiment: Annotated[
        list[int] | None,
        Query(max_length=1000, description="Only these experiments and what they refer to."),
    ] = None,
    tag: Annotated[Name | None, Query(description="Only experiments with this tag.")] = None,
    suite: Annotated[Name | None, Query(description="Only experiments on this suite.")] = None,
    owner: Annotated[Name | None, Query(description="Only experiments of this user.")] = None,
) -> dict[str, Any]:
    """Return the filter of an export; filters are combined with "and"."""
    return {"experiments": experiment, "tag": tag, "suite": suite, "owner": owner}


ExportFilter = Annotated[dict[str, Any], Depends(export_filter)]


@router.get("/export", summary="Count the rows of an export")
def sizes(chosen: ExportFilter) -> import_export.TableCounts:
    """The format version and the number of rows of each table that the filters select."""
    with open_session() as session:
        at = session.scalar(select(func.now())) or datetime.now(UTC)
        counts = {name: exports.count(session, name, chosen) for name in exports.TABLES}
    return import_export.TableCounts(version=__version__, at=at, tables=counts)


@router.get(
    "/export/{table}", summary="Export a page of a table as JSON lines", response_class=Response
)
def page(
    table: Annotated[TableName, Path(description="Name of the table.")],
    chosen: ExportFilter,
    after: Annotated[
        Cursor | None, Query(description="The header Ucurve-Next of the previous page.")
    ] = None,
) -> Response:
    """Read the tables in the order of GET /v1/export, so that what a row refers to is always
    exported too.
    """
    key = None if after is None else _page_key(table, after)
    with open_session() as session:
        lines, last = exports.page(session, table, chosen, key)
    headers = {} if last is None else {"Ucurve-Next": json.dumps(last)}
    return Response(
        "".join(f"{line}\n" for line in lines), media_type="application/x-ndjson", headers=headers
    )


def _page_key(table: TableName, after: str) -> list[int | str]:
    try:
        key = json.loads(after)
    except json.JSONDecodeError:
        key = []
    num_columns = len(exports.TABLES[table].key)
    valid = isinstance(key, list) and len(key) == num_columns
    if not valid or not all(isinstance(value, int | str) for value in key):
        raise invalid(
            "/after",
            "Give the header Ucurve-Next of the previous page, or omit it for the first page.",
        )
    return list(key)


@router.post("/import/catalogue", summary="Import suites, evaluation sets and reference curves")
def import_catalogue(
    catalogue: import_export.ImportedCatalogue, user: Admin, check: Check = False
) -> import_export.ImportCatalogueResult:
    """New names are added as the other lab describes them; existing names keep their meaning.

    Models whose files are here are tried like registered ones; warnings name the others.
    """
    rows = catalogue.model_dump(exclude={"origin"})
    remark = f"Imported from {catalogue.origin}."
    for row in (*rows["suites"], *rows["datasets"]):
        if remark not in row["description"]:
            row["description"] = f"{row['description']} {remark}".strip()
    warnings: dict[str, list[str]] = {}
    for row, suite in zip(rows["suites"], catalogue.suites, strict=True):
        read = [read_again(checkpoint, catalogue.origin) for checkpoint in suite.checkpoints]
        row["checkpoints"] = [checkpoint.model_dump(exclude={"suite"}) for checkpoint in read]
        warnings[f"suite {suite.name}"] = untried(read)
    with open_session() as session:
        names = imports.merge_catalogue(session, rows, user.name, WAITING)
        _end(session, check)
    after_commit(wake_workers)
    told = [f"{name}: {text}" for name in names["added"] for text in warnings.get(name, ())]
    return import_export.ImportCatalogueResult(**names, warnings=told)


@router.post("/import/measurements", summary="Import measurements with their attempts")
def import_measurements(
    batch: import_export.ImportedMeasurements, user: Admin, check: Check = False
) -> import_export.ImportMeasurementsResult:
    """The whole batch or nothing. Existing results keep being shown; the imported attempt is stored
    with them. An attempt that is known here with other numbers is refused.
    """
    rows = [measurement.model_dump() for measurement in batch.measurements]
    with open_session() as session:
        try:
            merged = imports.merge_measurements(session, rows, batch.origin)
        except imports.ChangedAttemptError as error:
            keys = [(row["identity"], row["repeat"]) for row in rows]
            pointer = f"/measurements/{keys.index(error.key)}/attempts"
            raise invalid(pointer, f"{error}.") from error
        _end(session, check)
    return import_result(merged)


def _end(session: Session, check: bool) -> None:
    """Commit, or undo what was only checked."""
    if check:
        session.rollback()
    else:
        session.commit()


def import_result(merged: imports.MergeResult) -> import_export.ImportMeasurementsResult:
    """Return the batch's counts, and how far results of both labs are apart."""
    largest: dict[str, float] = {}
    conflicts: list[import_export.ValueConflict] = []
    num_equal = 0
    for (identity, _), kind, here, there in merged.compared:
        num_equal += here == there
        for conflict in _conflicts(identity, kind, here, there):
            if conflict.difference != 0:
                conflicts.append(conflict)
            if conflict.difference is not None:
                metric = conflict.metric
                largest[metric] = max(conflict.difference, largest.get(metric, 0.0))
    conflicts.sort(key=lambda c: -math.inf if c.difference is None else -c.difference)
    return import_export.ImportMeasurementsResult(
        new=merged.new,
        completed=merged.completed,
        gained=merged.gained,
        known=merged.unchanged,
        num_compared=len(merged.compared),
        num_equal=num_equal,
        largest=largest,
        differing=conflicts[:MAX_CONFLICTS],
    )


def _conflicts(
    identity: str, kind: str, here: dict[str, Any], there: dict[str, Any]
) -> Iterator[import_export.ValueConflict]:
    """Yield every metric of both labs with its difference, except where both are not finite."""
    for metric in sorted(here.keys() | there.keys()):
        ours, theirs = here.get(metric), there.get(metric)
        if ours is None and theirs is None:
            continue
        difference = abs(ours - theirs) if ours is not None and theirs is not None else None
        yield import_export.ValueConflict(
            identity=identity,
            kind=kind,
            metric=metric,
            here=ours,
            there=theirs,
            difference=difference,
        )


@router.post("/import/experiments", summary="Import an experiment")
def import_experiment(
    experiment: import_export.ImportedExperiment, user: Admin
) -> import_export.ImportExperimentResult:
    """It is owned by the user who imports it, tagged "imported", with its origin in the notes.
    Importing it again (same submission time and spec) returns the existing one. Import its
    measurements first.
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
    fields = {name: getattr(experiment, name) for name in copied}
    note = (
        f"Imported from {experiment.origin}, where it is experiment {experiment.id} of "
        f"{experiment.owner}."
    )
    fields |= {
        "tags": list(dict.fromkeys([*experiment.tags, "imported"])),
        "notes": f"{experiment.notes}\n\n{note}".strip(),
    }
    points: Sequence[dict[str, Any]] = [point.model_dump() for point in experiment.points]
    with open_session() as session:
        try:
            row, new = imports.merge_experiment(session, user.name, fields, points)
        except imports.MissingError as error:
            raise invalid("/points", f"{error}: import the measurements first.") from error
        session.commit()
        return import_export.ImportExperimentResult(id=row.id, new=new)
