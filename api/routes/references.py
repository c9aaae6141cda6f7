"""Reference curves: add them from files of other tools, list and remove them."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api import reference_files
from api.auth.authorization import Owner, Submitter, require_owner
from api.catalogue import suites_of
from api.errors import ApiError, invalid, not_found
from api.reference_models import CheckpointFinder
from db import users
from db.models import ReferenceCurve as ReferenceCurveRow
from db.session import open_session
from ucurve.bounds import Name
from ucurve.registry import presets
from ucurve.schemas.references import (
    ReferenceCurve,
    ReferenceSource,
    ReferenceSubmission,
    SentFile,
    SourceFile,
)
from ucurve.schemas.validation_messages import suggest

router = APIRouter(prefix="/v1", tags=["references"])

EXAMPLES = {
    "csv": {
        "summary": "A plain CSV",
        "value": {
            "name": "paper, table 2",
            "suite": "tiny",
            "importer": "csv",
            "files": [
                {
                    "name": "table2.csv",
                    "content": "checkpoint,tokens,metric,value\nstep1000,894976,perplexity,14.2\n",
                }
            ],
            "citation": "A paper",
        },
    }
}


@router.get("/references", summary="List reference curves")
def list_references(
    suite: Annotated[Name | None, Query(description="Only curves of this suite.")] = None,
    text: Annotated[
        str,
        Query(
            max_length=200,
            description="Words that all occur in a curve's name, suite, citation, model, owner, "
            "files or one metric; of a curve whose metric has some of them, only such metrics.",
        ),
    ] = "",
) -> list[ReferenceCurve]:
    """By name."""
    query = select(ReferenceCurveRow).order_by(ReferenceCurveRow.name)
    if suite is not None:
        query = query.where(ReferenceCurveRow.suite == suite)
    with open_session() as session:
        curves = (_to_record(row) for row in session.scalars(query))
        found = (_matching(curve, text.lower().split()) for curve in curves)
        return [curve for curve in found if curve is not None]


def _matching(curve: ReferenceCurve, words: list[str]) -> ReferenceCurve | None:
    """Return the curve with the rows that match all words; None without any."""
    origin = curve.origin
    files = [file.name for file in origin.files]
    texts = [curve.name, curve.suite or "", origin.citation, origin.model, curve.owner, *files]
    about = "\n".join(texts).lower()
    missing = [word for word in words if word not in about]
    rows = [row for row in curve.rows if all(word in row.metric.lower() for word in missing)]
    return curve.model_copy(update={"rows": rows}) if rows else None


@router.post("/references", status_code=201, summary="Add a reference curve from files")
def add(
    submission: Annotated[ReferenceSubmission, Body(openapi_examples=EXAMPLES)], owner: Owner
) -> ReferenceCurve:
    """Results of lm-evaluation-harness, lighteval or OLMES, or a table with the columns
    checkpoint, tokens, metric, value and optionally standard_error. All files are added, or none.
    To replace a curve, remove it first.
    """
    with open_session() as session:
        finder = CheckpointFinder(suites_of(session), submission.suite, submission.same_model)
        parsed = _parsed(submission, finder)
        _refuse_known_files(session, submission)
        users.add_user(session, owner, "submitter")
        row = ReferenceCurveRow(
            name=submission.name.strip(),
            suite=submission.suite or finder.matches.pop(),
            origin=_source(submission, parsed).model_dump(mode="json"),
            rows=[row.model_dump(mode="json") for row in parsed.rows],
            owner=owner,
        )
        session.add(row)
        try:
            session.commit()
        except IntegrityError as error:
            raise ApiError(
                409,
                f"There is already a reference curve {submission.name!r}: remove it first, or "
                "choose another name.",
            ) from error
        session.refresh(row)
        return _to_record(row)


def _parsed(
    submission: ReferenceSubmission, finder: CheckpointFinder
) -> reference_files.ParsedFiles:
    existing = [*finder.suites, *(preset.name for preset in presets.suites())]
    if submission.suite and submission.suite not in existing:
        hint = suggest(submission.suite, existing)
        raise invalid("/suite", f"There is no suite {submission.suite!r}. {hint}")
    try:
        parsed = reference_files.read(submission.importer, submission.files, finder)
    except reference_files.FileProblemError as error:
        raise invalid(f"/files/{error.position}/content", f"{error}.") from error
    if not submission.suite and len(finder.matches) != 1:
        reason = (
            f"the files are about several suites, {', '.join(sorted(finder.matches))}"
            if finder.matches
            else "the files do not name a suite of this lab"
        )
        raise invalid("/suite", f"Name the suite that the numbers are about: {reason}.")
    return parsed


def _refuse_known_files(session: Session, submission: ReferenceSubmission) -> None:
    """Raise an ApiError where another curve was read from one of these files."""
    query = select(ReferenceCurveRow.name, ReferenceCurveRow.origin)
    known = {
        file["sha256"]: name for name, origin in session.execute(query) for file in origin["files"]
    }
    for file in submission.files:
        if curve := known.get(_sha256(file)):
            raise ApiError(
                409,
                f"{file.name} is already in reference curve {curve!r}: remove that curve first, "
                "or leave the file out.",
            )


def _sha256(file: SentFile) -> str:
    return hashlib.sha256(file.content.encode()).hexdigest()


def _source(
    submission: ReferenceSubmission, parsed: reference_files.ParsedFiles
) -> ReferenceSource:
    files = [SourceFile(name=file.name, sha256=_sha256(file)) for file in submission.files]
    return ReferenceSource(
        importer=parsed.tool,
        files=files,
        citation=submission.citation,
        model=parsed.model,
        num_left_out=parsed.num_left_out,
        notes=parsed.notes,
    )


@router.delete("/references/{id}", status_code=204, summary="Remove a reference curve")
def remove(id: Annotated[int, Path(description="Id of the curve.")], user: Submitter) -> None:
    """Only its owner and admins can remove it."""
    with open_session() as session:
        row = session.get(ReferenceCurveRow, id)
        if row is None:
            raise not_found(f"reference curve {id}")
        require_owner(user, row.owner, f"remove the reference curve {row.name!r}")
        session.delete(row)
        session.commit()


def _to_record(row: ReferenceCurveRow) -> ReferenceCurve:
    return ReferenceCurve.model_validate(
        {name: getattr(row, name) for name in ReferenceCurve.model_fields}
    )
