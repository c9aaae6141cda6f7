"""Errors as answers: every 4xx body is a Problem that names the field (JSON pointer) and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from ucurve.experiments import kinds
from ucurve.records import FieldProblem, Problem
from ucurve.spec import SpecError


class ProblemError(Exception):
    """Raised by a route to answer `status` with a Problem."""

    def __init__(self, status: int, title: str, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(title)
        self.problem = Problem(title=title, status=status, problems=list(problems))


def invalid(pointer: str, message: str) -> ProblemError:
    """A 422 about one field."""
    return ProblemError(422, "The input is not valid.", [FieldProblem(pointer=pointer, message=message)])


def not_found(what: str) -> ProblemError:
    return ProblemError(404, f"There is no {what}.")


def pointer_of(location: Sequence[str | int]) -> str:
    """The JSON pointer of pydantic's location: without "body", and without the kind that its union tags a spec with."""
    parts = list(location[1:] if location and location[0] in ("body", "query", "path") else location)
    parts = [part for i, part in enumerate(parts) if not (i and parts[i - 1] == "spec" and part in kinds())]
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def install(app: FastAPI) -> None:
    """Make the app answer its own, the specs' and FastAPI's errors as Problems."""

    @app.exception_handler(ProblemError)
    def _problem(request: Request, error: ProblemError) -> JSONResponse:
        return JSONResponse(error.problem.model_dump(), error.problem.status)

    @app.exception_handler(SpecError)
    def _unplannable(request: Request, error: SpecError) -> JSONResponse:
        return _problem(request, invalid(f"/spec/{error.field}" if error.field else "/spec", error.message))

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [FieldProblem(pointer=pointer_of(found["loc"]), message=_words(found)) for found in error.errors()]
        return _problem(request, ProblemError(422, "The input is not valid.", problems))

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeoutError)
    def _no_database(request: Request, error: Exception) -> JSONResponse:
        return _problem(request, ProblemError(503, "The database does not answer; nothing was changed. Try again soon."))

    @app.exception_handler(DataError)
    def _not_storable(request: Request, error: DataError) -> JSONResponse:
        return _problem(request, ProblemError(422, "A value cannot be stored: a number out of range, or a NUL in a text."))

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(Problem(title=str(error.detail), status=error.status_code).model_dump(), error.status_code)


def _words(found: dict[str, Any]) -> str:
    """Pydantic's message, with the kinds listed where the kind is wrong."""
    if found["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"kind must be one of: {', '.join(kinds())}"
    return str(found["msg"]).removeprefix("Value error, ")
