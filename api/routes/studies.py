"""Studies: those that come with the package, submitting one whole, and what given experiments say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from api.auth.authorization import Owner
from api.errors import invalid
from api.routes.experiments import Submission, found, recorded, store
from api.routes.measurements import all_rows, judged, sparse_series
from api.routes.suites import DatabaseCatalogue
from db.session import open_session
from ucurve.experiments import parse, study
from ucurve.schemas import experiments as schemas
from ucurve.spec import SpecError, Verdict

router = APIRouter(prefix="/v1", tags=["studies"])


class Study(study.Study):
    """As ucurve.experiments.study.Study, with the specs' schema."""

    experiments: list[Submission] = Field(min_length=1, max_length=20)  # type: ignore[assignment]


EXAMPLES: dict[str, Any] = {
    name: {"summary": found.title, "value": found.model_dump(mode="json", exclude_defaults=True)}
    for name, found in study.builtin().items()
}


@router.get("/studies", summary="The studies that come with the package")
def listed() -> list[Study]:
    return [Study.model_validate(one.model_dump()) for one in study.builtin().values()]


@router.post("/studies", status_code=201, summary="Submit all experiments of a study, or none")
def submit(
    submitted: Annotated[Study, Body(openapi_examples=EXAMPLES)], owner: Owner, request: Request
) -> list[schemas.Experiment]:
    """One transaction. Every experiment gets the study's name as a tag. What was measured before is there at once. Its suites and
    evaluation sets have to be registered: the answer says which are not.
    """
    with open_session() as session:
        catalogue, asked = DatabaseCatalogue(session), []
        for position, one in enumerate(submitted.experiments):
            tagged = one.model_copy(
                update={"tags": list(dict.fromkeys([submitted.name, *one.tags]))}
            )
            try:
                asked.append(recorded(tagged, catalogue))
            except SpecError as error:
                raise invalid(
                    f"/experiments/{position}/spec/{error.field}".rstrip("/"), error.message
                ) from error
        return store(session, owner, asked, request)


@router.get("/studies/verdicts", summary="What experiments say together")
async def verdicts(
    experiment: Annotated[list[int], Query(min_length=1, max_length=20)],
) -> list[Verdict]:
    """Claims side by side, inflection points compared, growth as a ratio, published numbers."""
    return await run_in_threadpool(
        _together, {id: await judged(id) for id in dict.fromkeys(experiment)}
    )


def _together(verdicts: Mapping[int, list[Verdict]]) -> list[Verdict]:
    parts = []
    for id, said in verdicts.items():
        with open_session() as session:
            row = found(session, id)
            table = schemas.frame(all_rows(session, id, sparse_series(row)))
        parts.append(study.Part(row.name, parse(row.spec), table, said))
    return study.verdicts(parts)
