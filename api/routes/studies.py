"""Studies: those of the package, submitting one as a whole, and combined verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from api.auth.authorization import Owner
from api.catalogue import DatabaseCatalogue
from api.errors import invalid
from api.experiment_results import all_rows, needed_series, verdicts_for
from api.experiment_store import Submission, get_or_404, prepare, submit_all
from api.planning import MAX_POINTS_PER_REQUEST, check_size, planning
from db.session import open_session
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import parse, study
from ucurve.schemas import experiments as schemas
from ucurve.spec import SpecError, Verdict

router = APIRouter(prefix="/v1", tags=["studies"])


class Study(study.Study):
    """As ucurve.experiments.study.Study, with the schema of every experiment type."""

    experiments: list[Submission] = Field(  # type: ignore[assignment]
        min_length=1, max_length=20, description="The experiments, submitted together."
    )


EXAMPLES: dict[str, Any] = {
    name: {
        "summary": builtin.title,
        "value": builtin.model_dump(mode="json", exclude_defaults=True),
    }
    for name, builtin in study.builtin().items()
}


@router.get("/studies", summary="List built-in studies")
def list_studies() -> list[Study]:
    """The studies that come with the package; POST one of them to run it."""
    return [Study.model_validate(builtin.model_dump()) for builtin in study.builtin().values()]


@router.post("/studies", status_code=201, summary="Submit all experiments of a study, or none")
def submit_study(
    submission: Annotated[Study, Body(openapi_examples=EXAMPLES)], owner: Owner, request: Request
) -> list[schemas.Experiment]:
    """All experiments in one transaction, tagged with the study's name. Cached results are
    available at once. Its suites and evaluation sets must be registered; a 422 names those that are
    not.
    """
    _check_sizes(submission)
    specs = [experiment.spec for experiment in submission.experiments]
    with planning(owner, *specs, submits=True) as (session, catalogue):
        rows = []
        for position, experiment in enumerate(submission.experiments):
            tags = list(dict.fromkeys([submission.name, *experiment.tags]))
            with _located(position):
                rows.append(prepare(experiment.model_copy(update={"tags": tags}), catalogue))
        return submit_all(session, owner, rows, request)


def _check_sizes(submission: Study) -> None:
    """Answer 422 where one experiment or all of them are too large, before a point is built."""
    total = 0
    with open_session() as session:
        catalogue = DatabaseCatalogue(session)
        for position, experiment in enumerate(submission.experiments):
            with _located(position):
                total += check_size(experiment.spec, catalogue) or 0
    if total > MAX_POINTS_PER_REQUEST:
        raise invalid(
            "/experiments",
            f"This would be {total:,} points; a study has at most {MAX_POINTS_PER_REQUEST:,}: "
            "submit its experiments one by one.",
        )


@contextmanager
def _located(position: int) -> Iterator[None]:
    """Say which experiment of the study an error is about."""
    try:
        yield
    except SpecError as error:
        pointer = f"/experiments/{position}/spec/{error.field}".rstrip("/")
        raise invalid(pointer, error.message) from error


@router.get("/studies/verdicts", summary="Get combined verdicts of several experiments")
async def combined_verdicts(
    experiment: Annotated[
        list[int],
        Query(min_length=1, max_length=20, description="Ids of the experiments to combine."),
    ],
) -> list[Verdict]:
    """Claims side by side, inflection points compared, growth as a ratio, published results."""
    verdicts = {id: await verdicts_for(id) for id in dict.fromkeys(experiment)}
    return await run_in_threadpool(_combine, verdicts)


def _combine(verdicts: Mapping[int, list[Verdict]]) -> list[Verdict]:
    parts = []
    for id, of_experiment in verdicts.items():
        with open_session() as session:
            row = get_or_404(session, id)
            table = to_frame(all_rows(session, id, needed_series(row)))
        parts.append(study.StudyExperiment(row.name, parse(row.spec), table, of_experiment))
    caveats = dict.fromkeys(c for part in verdicts.values() for v in part for c in v.caveats)
    return [v.model_copy(update={"caveats": list(caveats)}) for v in study.verdicts(parts)]
