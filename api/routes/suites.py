"""Register and read suites and evaluation sets.

POST /v1/suites {"name": "pythia-70m", "hub": "EleutherAI/pythia-70m"}
POST /v1/datasets {"name": "wikitext-2", "preset": "wikitext-2"}
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

import ucurve
from api.auth.authorization import Owner
from api.background.hashing import (
    artefacts,
    folder_of,
    resolve_pending,
    resolved,
    resolved_dataset,
)
from api.catalogue import DatabaseCatalogue, as_dataset, suites_of
from api.errors import ApiError, invalid, not_found
from db.models import Dataset as DatasetRow
from db.session import open_session
from db.submissions import SuiteTakenError, register_suite
from ucurve.registry import hashing, hub, presets
from ucurve.registry.hub_cache import HubError
from ucurve.registry.presets import SuitePreset
from ucurve.registry.suites import (
    PENDING,
    Checkpoint,
    Dataset,
    Location,
    Suite,
    parse_revision,
    place,
)
from ucurve.schemas import experiments as schemas

__all__ = ["DatabaseCatalogue", "register_builtin", "resolve_pending", "router"]

router = APIRouter(prefix="/v1", tags=["suites"])

log = logging.getLogger(__name__)

INLINE_BYTES = 50_000_000  # hashed within the request; more is hashed in the background
BUILTIN = Path(ucurve.__file__).parent / "builtin"

SUITE_EXAMPLES: dict[str, Any] = {
    "hub": {
        "summary": "A hub repository",
        "value": {"name": "pythia-70m", "hub": "EleutherAI/pythia-70m"},
    },
    "folder": {
        "summary": "A folder",
        "value": {"name": "mine", "path": "/models/mine", "evaluation": "wikitext-2"},
    },
}
DATASET_EXAMPLES: dict[str, Any] = {
    "preset": {
        "summary": "A preset of the hub",
        "value": {"name": "wikitext-2", "preset": "wikitext-2"},
    },
    "text": {"summary": "A text file", "value": {"name": "novels", "text": "/texts/novels.txt"}},
    "examples": {
        "summary": "Examples to fine-tune on",
        "value": {
            "name": "sst2",
            "train": "/data/sst2/train.tsv",
            "validation": "/data/sst2/dev.tsv",
        },
    },
}


class Presets(BaseModel):
    """Suites and evaluation sets that can be registered by name."""

    suites: list[SuitePreset]
    datasets: list[Dataset]


@router.get("/presets", summary="What can be registered from the hub by name")
def list_presets() -> Presets:
    return Presets(suites=list(presets.suites()), datasets=list(presets.datasets()))


@router.get("/suites", summary="All suites with their checkpoints")
def list_suites() -> list[Suite]:
    with open_session() as session:
        return suites_of(session)


@router.get("/suites/{name}", summary="One suite")
def show_suite(name: str) -> Suite:
    with open_session() as session:
        found = suites_of(session, [name])
        if not found:
            raise not_found(f"suite {name!r}")
        return found[0]


@router.post(
    "/suites",
    status_code=201,
    summary="Register a suite, or look at its folder or repository again",
)
def add_suite(
    submission: Annotated[schemas.SuiteSubmission, Body(openapi_examples=SUITE_EXAMPLES)],
    owner: Owner,
    response: Response,
) -> Suite:
    """Answers at once: checkpoints say "hashing" until their files are hashed in the background.

    The same name and source again: new revisions are added, and those that could not be used are tried again.
    """
    if (submission.path is None) == (submission.hub is None):
        raise invalid("/path", "Give either path (a folder) or hub (a repository).")
    found, preset = _in_folder(submission) if submission.path else _on_hub(submission)
    with open_session() as session:
        known = {suite.name: suite for suite in suites_of(session, [submission.name])}.get(
            submission.name
        )
        if known and not _same_source(known, found):
            raise ApiError(
                409,
                f"There is a suite {submission.name!r} already, from another place: choose another name.",
            )
        usable = (
            {(c.revision, c.location) for c in known.checkpoints if not c.unresolved}
            if known
            else set()
        )
        new = _hashed_if_small(
            [
                c
                for c in found
                if c.location.scheme != "hub" or (c.revision, c.location) not in usable
            ]
        )
        evaluation = submission.evaluation or preset.evaluation
        if evaluation:
            _expect_dataset(session, evaluation, owner)
        suite = {
            "name": submission.name,
            "description": submission.description or preset.description,
            "evaluation": evaluation,
            "recipe": None,
            "owner": owner,
        }
        register_suite(session, suite, [checkpoint.model_dump(mode="json") for checkpoint in new])
        session.commit()
        resolve_pending(session)
        response.status_code = 200 if known else 201
        return suites_of(session, [submission.name])[0]


def _in_folder(submission: schemas.SuiteSubmission) -> tuple[list[Checkpoint], SuitePreset]:
    folder = _absolute("/path", submission.path or "")
    try:
        found, manifest = hashing.checkpoints_in(
            folder, submission.name, submission.tokens_per_step
        )
    except (hashing.RegistrationError, OSError) as error:
        raise invalid("/path", f"{error}.") from error
    placed = [c.model_copy(update={"location": _portable(Path(c.location.path))}) for c in found]
    manifest = manifest or Suite(name=submission.name)
    return placed, SuitePreset(
        hub="", description=manifest.description, evaluation=manifest.evaluation
    )


def _on_hub(submission: schemas.SuiteSubmission) -> tuple[list[Checkpoint], SuitePreset]:
    repository = submission.hub or ""
    preset = presets.for_hub(repository)
    try:
        refs = hub.revisions(repository, artefacts() / "hub")
    except HubError as error:
        raise invalid("/hub", f"{error}.") from error
    telling = [name for name in refs if parse_revision(name) != (None, None, None)]
    left_out = sorted(refs.keys() - telling) if telling else []
    if left_out:
        note = f"Left out, since the name says neither step nor tokens: {', '.join(left_out)}."
        preset = preset.model_copy(update={"description": f"{preset.description} {note}".strip()})
    placed = place(
        telling or refs, submission.tokens_per_step or preset.tokens_per_step, preset.phases
    )
    return [
        Checkpoint(
            suite=submission.name,
            revision=name,
            location=Location(scheme="hub", path=repository, commit=refs[name]),
            unresolved=f"{PENDING}: waiting",
            **fields,
        )
        for name, fields in placed.items()
    ], preset


def _same_source(known: Suite, found: Sequence[Checkpoint]) -> bool:
    def sources(checkpoints: Sequence[Checkpoint]) -> set[tuple[str, str]]:
        return {
            (
                c.location.scheme,
                c.location.path
                if c.location.scheme == "hub"
                else str(Path(c.location.path).parent),
            )
            for c in checkpoints
        }

    return sources(known.checkpoints) == sources(found)


def _hashed_if_small(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Resolved where the files are local and few bytes, so that a small suite can be used at once."""
    left = INLINE_BYTES
    result = []
    for checkpoint in checkpoints:
        size = left + 1
        if checkpoint.location.scheme != "hub":
            size = sum(
                file.stat().st_size
                for file in folder_of(checkpoint.location).iterdir()
                if file.is_file()
            )
        if size <= left:
            left -= size
            checkpoint = resolved(checkpoint)
        result.append(checkpoint)
    return result


@router.get("/datasets", summary="All evaluation sets and training texts")
def list_datasets() -> list[Dataset]:
    with open_session() as session:
        return [
            as_dataset(row) for row in session.scalars(select(DatasetRow).order_by(DatasetRow.name))
        ]


@router.get("/datasets/{name}", summary="One evaluation set")
def show_dataset(name: str) -> Dataset:
    with open_session() as session:
        row = session.get(DatasetRow, name)
        if row is None:
            raise not_found(f"evaluation set {name!r}")
        return as_dataset(row)


@router.post("/datasets", status_code=201, summary="Register an evaluation set or a training text")
def add_dataset(
    submission: Annotated[schemas.DatasetSubmission, Body(openapi_examples=DATASET_EXAMPLES)],
    owner: Owner,
    response: Response,
) -> Dataset:
    """The same name and file again: its hash is taken anew."""
    dataset = _dataset_of(submission)
    dataset = dataset.model_copy(
        update={"description": submission.description or dataset.description}
    )
    with open_session() as session:
        known = session.get(DatasetRow, dataset.name)
        if known and as_dataset(known).location != dataset.location:
            raise ApiError(
                409, f"There is an evaluation set {dataset.name!r} already: choose another name."
            )
        _register_dataset(session, dataset, owner)
        session.commit()
        resolve_pending(session)
        response.status_code = 200 if known else 201
        return dataset


def _dataset_of(submission: schemas.DatasetSubmission) -> Dataset:
    """What is asked for, hashed where it is small."""
    given = [submission.text, submission.train or submission.validation, submission.preset]
    if sum(one is not None for one in given) != 1:
        raise invalid(
            "/text",
            "Give one of text (a file), train with validation (two files), and preset (a name).",
        )
    if submission.preset:
        preset = {known.name: known for known in presets.datasets()}[submission.preset]
        return preset.model_copy(update={"name": submission.name})
    asked = (
        {"text": submission.text}
        if submission.text
        else {"train": submission.train, "validation": submission.validation}
    )
    files = {pointer: _absolute(f"/{pointer}", path or "") for pointer, path in asked.items()}
    for pointer, path in files.items():
        if not path.is_file():
            raise invalid(f"/{pointer}", f"{path} is not a file that the server can read.")
    if submission.text:
        dataset = Dataset(name=submission.name, kind="text", location=_portable(files["text"]))
    else:
        folder = Path(os.path.commonpath([path.parent for path in files.values()]))
        names = {split: str(path.relative_to(folder)) for split, path in files.items()}
        dataset = Dataset(
            name=submission.name, kind="examples", parameters=names, location=_portable(folder)
        )
    dataset = dataset.model_copy(update={"unresolved": f"{PENDING}: waiting"})
    if sum(path.stat().st_size for path in files.values()) <= INLINE_BYTES:
        dataset = resolved_dataset(dataset)
    if dataset.unresolved and not dataset.unresolved.startswith(PENDING):
        raise invalid(f"/{next(iter(files))}", f"{dataset.unresolved}.")
    return dataset


def _expect_dataset(session: Session, name: str, owner: str) -> None:
    """An evaluation set that a suite names is registered, or a preset that is registered now."""
    if session.get(DatasetRow, name) is not None:
        return
    known = {preset.name: preset for preset in presets.datasets()}
    if name not in known:
        raise invalid("/evaluation", DatabaseCatalogue(session).no_dataset(name))
    _register_dataset(session, known[name], owner)


def _register_dataset(session: Session, dataset: Dataset, owner: str) -> None:
    values = {**dataset.model_dump(mode="json"), "owner": owner}
    new = insert(DatasetRow).values(values)
    change = {name: new.excluded[name] for name in values if name not in ("name", "owner")}
    session.execute(new.on_conflict_do_update(index_elements=["name"], set_=change))


def register_builtin(session: Session) -> None:
    """The suites and evaluation sets that come with the package; the caller commits. Any number of times."""
    listed = BUILTIN / "datasets.json"
    for entry in json.loads(listed.read_text()) if listed.is_file() else []:
        _register_dataset(session, Dataset.model_validate(entry), "")
    for manifest in sorted(BUILTIN.glob("suites/*/suite.json")):
        suite = Suite.model_validate_json(manifest.read_bytes())
        row = suite.model_dump(mode="json", include={"name", "description", "evaluation", "recipe"})
        try:
            register_suite(
                session,
                row,
                [checkpoint.model_dump(mode="json") for checkpoint in suite.checkpoints],
            )
        except SuiteTakenError as error:  # a lab that has kept the suite of an earlier version
            log.warning("the built-in suite is not registered: %s", error)


def _absolute(pointer: str, path: str) -> Path:
    given = Path(path).expanduser()
    if not given.is_absolute():
        raise invalid(
            pointer,
            f"Give an absolute path that the server and all workers can read; got {path!r}.",
        )
    return given


def _portable(path: Path) -> Location:
    """Below the artefact root a path is relative to it: workers may mount the root elsewhere."""
    root = artefacts().resolve()
    if path.resolve().is_relative_to(root):
        return Location(scheme="artefacts", path=str(path.resolve().relative_to(root)))
    return Location(scheme="path", path=str(path))
