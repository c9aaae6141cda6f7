"""Reference curves: read from files of other tools, listed, removed."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Body
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api import reference_files
from api.auth.authorization import Owner, Submitter, only_owner
from api.catalogue import suites_of
from api.errors import ProblemError, invalid, not_found
from db import users
from db.session import open_session
from db.team import ReferenceCurve as ReferenceRow
from ucurve.registry import presets
from ucurve.registry.presets import SuitePreset
from ucurve.registry.suites import Suite, place
from ucurve.schemas.references import Origin, ReferenceCurve, ReferenceSubmission, SourceFile
from ucurve.schemas.validation_messages import near

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


class Lookup:
    """What the lab knows about the suite that a curve is about: its name, and the tokens of its revisions."""

    def __init__(self, session: Session, asked: str | None) -> None:
        self.suites = {suite.name: suite for suite in suites_of(session)}
        self.asked = asked
        self.found: set[str] = set()

    def name(self, model: str) -> str | None:
        """The suite that was asked for, or the one that a file's model is: registered from that repository, or known by name."""
        if self.asked:
            return self.asked
        of_model = (one.name for one in self.suites.values() if model and _hub(one) == model)
        return next(of_model, None) or next(
            (one.name for one in presets.suites() if one.hub == model), None
        )

    def tokens(self, model: str, revision: str) -> int | None:
        name = self.name(model)
        if name:
            self.found.add(name)
        suite = self.suites.get(name or "")
        of_revision = {one.revision: one.tokens for one in suite.checkpoints} if suite else {}
        if of_revision.get(revision) is not None:
            return of_revision[revision]
        known = {one.name: one for one in presets.suites()}.get(name or "") or SuitePreset(
            hub=model
        )
        placed: int | None = place([revision], known.tokens_per_step, known.phases)[revision][
            "tokens"
        ]
        return placed


def _hub(suite: Suite) -> str | None:
    return next(
        (one.location.path for one in suite.checkpoints if one.location.scheme == "hub"), None
    )


@router.get("/references", summary="Reference curves by name")
def listed(suite: str | None = None) -> list[ReferenceCurve]:
    with open_session() as session:
        wanted = select(ReferenceRow).order_by(ReferenceRow.name)
        return [
            _shown(row)
            for row in session.scalars(
                wanted if suite is None else wanted.where(ReferenceRow.suite == suite)
            )
        ]


@router.post("/references", status_code=201, summary="Add a reference curve from files")
def add(
    sent: Annotated[ReferenceSubmission, Body(openapi_examples=EXAMPLES)], owner: Owner
) -> ReferenceCurve:
    """The formats are described in api/reference_files.py. A curve is what its files say; remove it to replace it."""
    with open_session() as session:
        lookup = Lookup(session, sent.suite)
        known = [*lookup.suites, *(preset.name for preset in presets.suites())]
        if sent.suite and sent.suite not in known:
            raise invalid("/suite", f"There is no suite {sent.suite!r}. {near(sent.suite, known)}")
        try:
            found = reference_files.read(sent.importer, sent.files, lookup.tokens)
        except reference_files.FileProblemError as error:
            raise invalid(f"/files/{error.position}/content", f"{error}.") from error
        if not sent.suite and len(lookup.found) != 1:
            named = (
                "the files are about several suites"
                if lookup.found
                else "the files do not say it of a suite known here"
            )
            raise invalid("/suite", f"Say which suite the numbers are about: {named}.")
        files = [
            SourceFile(name=one.name, sha256=hashlib.sha256(one.content.encode()).hexdigest())
            for one in sent.files
        ]
        origin = Origin(
            importer=sent.importer,
            files=files,
            citation=sent.citation,
            model=found.model,
            num_left_out=found.num_left_out,
        )
        users.add_user(session, owner, "submitter")
        row = ReferenceRow(
            name=sent.name.strip(),
            suite=sent.suite or lookup.found.pop(),
            origin=origin.model_dump(mode="json"),
            rows=[one.model_dump(mode="json") for one in found.rows],
            owner=owner,
        )
        session.add(row)
        try:
            session.commit()
        except IntegrityError as error:
            raise ProblemError(
                409,
                f"There is a reference curve {sent.name!r} already: remove it first, or choose another name.",
            ) from error
        session.refresh(row)
        return _shown(row)


@router.delete("/references/{id}", status_code=204, summary="Remove a reference curve")
def remove(id: int, person: Submitter) -> None:
    with open_session() as session:
        row = session.get(ReferenceRow, id)
        if row is None:
            raise not_found(f"reference curve {id}")
        only_owner(person, row.owner, f"remove the reference curve {row.name!r}")
        session.delete(row)
        session.commit()


def _shown(row: ReferenceRow) -> ReferenceCurve:
    return ReferenceCurve.model_validate(
        {name: getattr(row, name) for name in ReferenceCurve.model_fields}
    )
