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
from db import users
from db.models import ReferenceCurve as ReferenceCurveRow
from db.session import open_session
from ucurve.bounds import Name
from ucurve.registry import presets
from ucurve.registry.presets import SuitePreset
from ucurve.registry.revisions import infer_positions, parse_revision
from ucurve.registry.suites import Suite
from ucurve.schemas.references import (
    ReferenceCurve,
    ReferenceSource,
    ReferenceSubmission,
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


class SuiteLookup:
    """Which suite the files are about, and how many tokens its revisions have seen."""

    def __init__(self, session: Session, name: str | None) -> None:
        self.suites = {suite.name: suite for suite in suites_of(session)}
        self.name = name  # as the submission names it
        self.matches: set[str] = set()  # suites to which the files' models belong

    def suite_of(self, model: str) -> str | None:
        """Return the named suite, else the one registered from this hub repository, or a preset."""
        if self.name:
            return self.name
        for suite in self.suites.values():
            if model and _repository(suite) == model:
                return suite.name
        return next((preset.name for preset in presets.suites() if preset.hub == model), None)

    def tokens(self, model: str, revision: str) -> int | None:
        """Return the tokens of a model's revision, None where neither suite nor name says it."""
        name = self.suite_of(model)
        if name:
            self.matches.add(name)
        suite = self.suites.get(name or "")
        registered = {c.revision: c.tokens for c in suite.checkpoints} if suite else {}
        if registered.get(revision) is not None:
            return registered[revision]
        named = {preset.name: preset for preset in presets.suites()}
        preset = named.get(name or "") or SuitePreset(hub=model)
        revisions = {revision: parse_revision(revision)}
        positions = infer_positions(revisions, preset.tokens_per_step, preset.phases)
        return positions[revision].tokens


def _repository(suite: Suite) -> str | None:
    locations = (checkpoint.location for checkpoint in suite.checkpoints)
    return next((location.path for location in locations if location.scheme == "hub"), None)


@router.get("/references", summary="List reference curves")
def list_references(
    suite: Annotated[Name | None, Query(description="Only curves of this suite.")] = None,
) -> list[ReferenceCurve]:
    """By name."""
    query = select(ReferenceCurveRow).order_by(ReferenceCurveRow.name)
    if suite is not None:
        query = query.where(ReferenceCurveRow.suite == suite)
    with open_session() as session:
        return [_to_record(row) for row in session.scalars(query)]


@router.post("/references", status_code=201, summary="Add a reference curve from files")
def add(
    submission: Annotated[ReferenceSubmission, Body(openapi_examples=EXAMPLES)], owner: Owner
) -> ReferenceCurve:
    """Results of lm-evaluation-harness, or CSV with the columns checkpoint, tokens, metric, value
    and optionally standard_error. To replace a curve, remove it first.
    """
    with open_session() as session:
        lookup = SuiteLookup(session, submission.suite)
        existing = [*lookup.suites, *(preset.name for preset in presets.suites())]
        if submission.suite and submission.suite not in existing:
            hint = suggest(submission.suite, existing)
            raise invalid("/suite", f"There is no suite {submission.suite!r}. {hint}")
        try:
            parsed = reference_files.read(submission.importer, submission.files, lookup.tokens)
        except reference_files.FileProblemError as error:
            raise invalid(f"/files/{error.position}/content", f"{error}.") from error
        if not submission.suite and len(lookup.matches) != 1:
            reason = (
                "the files are about several suites"
                if lookup.matches
                else "the files do not name a suite of this lab"
            )
            raise invalid("/suite", f"Name the suite that the numbers are about: {reason}.")
        users.add_user(session, owner, "submitter")
        row = ReferenceCurveRow(
            name=submission.name.strip(),
            suite=submission.suite or lookup.matches.pop(),
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


def _source(
    submission: ReferenceSubmission, parsed: reference_files.ParsedFiles
) -> ReferenceSource:
    files = [
        SourceFile(name=file.name, sha256=hashlib.sha256(file.content.encode()).hexdigest())
        for file in submission.files
    ]
    return ReferenceSource(
        importer=submission.importer,
        files=files,
        citation=submission.citation,
        model=parsed.model,
        num_left_out=parsed.num_left_out,
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
