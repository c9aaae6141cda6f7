"""Register and read suites.

POST /v1/suites {"name": "pythia-70m", "hub": "EleutherAI/pythia-70m"}
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from fastapi import Path as ApiPath
from pydantic import BaseModel, Field

from api.auth.authorization import Owner
from api.background.hashing import start_hashing
from api.catalogue import find_suite, suites_of
from api.errors import ApiError, not_found
from api.layouts import read_layouts, store_layouts
from api.registration import require_dataset
from api.suite_sources import discovered_at, places, with_known_files
from api.trials import entered, with_structures
from api.weights import keep
from db import trials
from db.session import open_session
from db.submissions import register_suite
from db.unit_of_work import after_commit
from ucurve.bounds import Name
from ucurve.registry import presets
from ucurve.registry.hashing import Contents
from ucurve.registry.position_tables import table_text
from ucurve.registry.presets import ReplicatedPreset, SuitePreset
from ucurve.registry.resolve import resolve_small
from ucurve.registry.suite_warnings import suite_warnings
from ucurve.registry.suites import Dataset, Suite
from ucurve.schemas.catalogue import SuitePreview, SuiteSubmission
from worker.queue import wake_workers

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
    "seeds": {
        "summary": "Several repositories, one per pre-training seed",
        "value": {"name": "polypythias-14m", "preset": "polypythias-14m"},
    },
    "growing batch": {
        "summary": "A batch that grew at step 1,000",
        "value": {
            "name": "mine",
            "path": "/models/mine",
            "tokens_per_step": "0:2097152,1000:4194304",
        },
    },
}


class Presets(BaseModel):
    """Suites and datasets that can be registered by name."""

    suites: list[SuitePreset] = Field(description="Suites of the hub.")
    replicated: list[ReplicatedPreset] = Field(
        description="Suites of several repositories, one per pre-training seed."
    )
    datasets: list[Dataset] = Field(description="Datasets of the hub.")


@router.get("/presets", summary="List presets of the hub")
def list_presets() -> Presets:
    """Suites and datasets whose details the package knows; register them by name."""
    return Presets(
        suites=list(presets.suites()),
        replicated=list(presets.replicated()),
        datasets=list(presets.datasets()),
    )


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
    with open_session() as session:
        existing = find_suite(session, submission.name)
        session.commit()  # hashing files and asking the hub take longer than it may be idle
        discovered = discovered_at(submission, existing)
        if existing and not _continues(places(discovered.checkpoints), existing):
            raise ApiError(
                409,
                f"Suite {submission.name!r} exists and comes from another source: "
                "choose another name.",
            )
        contents: Contents = {}
        resolved = resolve_small(with_known_files(discovered.checkpoints, existing), contents)
        described, layouts = read_layouts(resolved)
        checkpoints = with_structures(described)
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
        trials.retry(session, submission.name)
        store_layouts(session, layouts)
        register_suite(session, fields, entered(session, checkpoints))
        keep(session, contents)
        session.commit()
        after_commit(start_hashing)
        after_commit(wake_workers)
        response.status_code = 200 if existing else 201
        return suites_of(session, [submission.name])[0]


def _continues(current: set[tuple[str, str]], existing: Suite) -> bool:
    """Return whether a source is that of the suite, or has more repositories than before."""
    before = places(existing.checkpoints)
    return current == before or (len(before) > 1 and before < current)


@router.post("/suites/preview", summary="Preview a suite without registering it")
def preview_suite(
    submission: Annotated[SuiteSubmission, Body(openapi_examples=EXAMPLES)], owner: Owner
) -> SuitePreview:
    """What was understood of each revision's name: step, tokens, training phase, pre-training seed,
    and from where. To correct it, edit the table and send it as `positions`.
    """
    with open_session() as session:
        existing = find_suite(session, submission.name)
    discovered = discovered_at(submission, existing)
    settled = [c.model_copy(update={"unresolved": None}) for c in discovered.checkpoints]
    return SuitePreview(
        name=submission.name,
        description=submission.description or discovered.description,
        evaluation=submission.evaluation or discovered.evaluation,
        checkpoints=discovered.checkpoints,
        left_out=discovered.reasons,
        questions=discovered.questions,
        warnings=suite_warnings(settled),
        table=table_text(discovered.checkpoints),
    )
