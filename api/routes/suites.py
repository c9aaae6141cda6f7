"""Register and read suites.

POST /v1/suites {"name": "pythia-70m", "hub": "EleutherAI/pythia-70m"}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from fastapi import Path as ApiPath
from pydantic import BaseModel, Field

from api.auth.authorization import Owner
from api.background.hashing import start_hashing
from api.catalogue import find_suite, suites_of
from api.errors import ApiError, invalid, not_found
from api.registration import registered_path, require_dataset
from api.weights import keep
from db.session import open_session
from db.submissions import register_suite
from db.unit_of_work import after_commit
from ucurve.bounds import Name
from ucurve.registry import presets
from ucurve.registry.discover import Discovered, discover
from ucurve.registry.hashing import Contents
from ucurve.registry.model_files import RegistrationError
from ucurve.registry.presets import SuitePreset
from ucurve.registry.resolve import resolve_small
from ucurve.registry.suites import Checkpoint, Dataset, Suite
from ucurve.schemas.catalogue import SuiteSubmission

router = APIRouter(prefix="/v1", tags=["suites"])

EXAMPLES: dict[str, Any] = {
    "hub": {
        "summary": "A hub repository",
        "value": {"name": "pythia-70m", "hub": "EleutherAI/pythia-70m"},
    },
    "folder": {
        "summary": "A folder",
        "value": {"name": "mine", "path": "/models/mine", "evaluation": "wikitext-2"},
    },
}


class Presets(BaseModel):
    """Suites and datasets that can be registered by name."""

    suites: list[SuitePreset] = Field(description="Suites of the hub.")
    datasets: list[Dataset] = Field(description="Datasets of the hub.")


@router.get("/presets", summary="List presets of the hub")
def list_presets() -> Presets:
    """Suites and datasets whose details the package knows; register them by name."""
    return Presets(suites=list(presets.suites()), datasets=list(presets.datasets()))


@router.get("/suites", summary="List suites with their checkpoints")
def list_suites() -> list[Suite]:
    """By name, each with its checkpoints in order of pre-training."""
    with open_session() as session:
        return suites_of(session)


@router.get("/suites/{name}", summary="Get a suite")
def show_suite(name: Annotated[Name, ApiPath(description="Name of the suite.")]) -> Suite:
    """The suite with its checkpoints and warnings."""
    with open_session() as session:
        suite = find_suite(session, name)
        if suite is None:
            raise not_found(f"suite {name!r}")
        return suite


@router.post(
    "/suites",
    status_code=201,
    responses={200: {"model": Suite, "description": "The suite exists and was updated."}},
    summary="Register a suite, or update it from its source",
)
def add_suite(
    submission: Annotated[SuiteSubmission, Body(openapi_examples=EXAMPLES)],
    owner: Owner,
    response: Response,
) -> Suite:
    """Return at once; checkpoints are "hashing" until their files are hashed in the background.

    Register the same name and source again to add new revisions and to retry checkpoints that could
    not be used.
    """
    discovered = _discover(submission)
    with open_session() as session:
        existing = find_suite(session, submission.name)
        if existing and _sources(existing.checkpoints) != _sources(discovered.checkpoints):
            raise ApiError(
                409,
                f"Suite {submission.name!r} exists and comes from another source: "
                "choose another name.",
            )
        session.commit()  # hashing files and asking the hub take longer than it may be idle
        contents: Contents = {}
        checkpoints = resolve_small(_without_usable(discovered.checkpoints, existing), contents)
        evaluation = submission.evaluation or discovered.evaluation
        if evaluation:
            require_dataset(session, evaluation, owner)
        fields = {
            "name": submission.name,
            "description": submission.description or discovered.description,
            "evaluation": evaluation,
            "recipe": None,
            "owner": owner,
        }
        register_suite(session, fields, [c.model_dump(mode="json") for c in checkpoints])
        keep(session, contents)
        session.commit()
        after_commit(start_hashing)
        response.status_code = 200 if existing else 201
        return suites_of(session, [submission.name])[0]


def _discover(submission: SuiteSubmission) -> Discovered:
    """Return what is at the submission's folder or repository; 422 where there is nothing."""
    if (submission.path is None) == (submission.hub is None):
        raise invalid("/path", "Give either path (a folder) or hub (a repository).")
    field = "/hub" if submission.path is None else "/path"
    source = submission.hub or registered_path("/path", submission.path or "")
    try:
        return discover(source, submission.name, submission.tokens_per_step)
    except RegistrationError as error:
        raise invalid(field, f"{error}.") from error


def _sources(checkpoints: list[Checkpoint]) -> set[tuple[str, str]]:
    """Return the repositories and folders that checkpoints come from."""
    locations = [checkpoint.location for checkpoint in checkpoints]
    return {
        (place.scheme, place.path if place.scheme == "hub" else str(Path(place.path).parent))
        for place in locations
    }


def _without_usable(checkpoints: list[Checkpoint], existing: Suite | None) -> list[Checkpoint]:
    """Leave out hub checkpoints that the suite has with their hashes: a commit never changes."""
    usable = {
        (checkpoint.revision, checkpoint.location)
        for checkpoint in (existing.checkpoints if existing else [])
        if not checkpoint.unresolved
    }
    return [
        checkpoint
        for checkpoint in checkpoints
        if checkpoint.location.scheme != "hub"
        or (checkpoint.revision, checkpoint.location) not in usable
    ]
