"""Errors as answers: every 4xx body is a Problem that names the field (JSON pointer) and the remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from ucurve.schemas.experiments import FieldProblem, Problem
from ucurve.schemas.validation_messages import Wrong, not_json, pointer_of, wrong_in
from ucurve.spec import SpecError


class ProblemError(Exception):
    """Raised by a route to answer `status` with a Problem."""

    def __init__(self, status: int, title: str, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(title)
        self.problem = Problem(title=title, status=status, problems=list(problems))


def invalid(pointer: str, message: str) -> ProblemError:
    """A 422 about one field."""
    return ProblemError(
        422, "The input is not valid.", [FieldProblem(pointer=pointer, message=message)]
    )


def not_found(what: str) -> ProblemError:
    return ProblemError(404, f"There is no {what}.")


def install(app: FastAPI) -> None:
    """Make the app answer its own, the specs' and FastAPI's errors as Problems."""

    @app.exception_handler(ProblemError)
    def _problem(request: Request, error: ProblemError) -> JSONResponse:
        return JSONResponse(error.problem.model_dump(), error.problem.status)

    @app.exception_handler(SpecError)
    def _unplannable(request: Request, error: SpecError) -> JSONResponse:
        return _problem(
            request, invalid(f"/spec/{error.field}" if error.field else "/spec", error.message)
        )

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [
            FieldProblem(pointer=pointer_of(path), message=message)
            for path, message in _told(request, error)
        ]
        return _problem(request, ProblemError(422, "The input is not valid.", found))

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeoutError)
    def _no_database(request: Request, error: Exception) -> JSONResponse:
        return _problem(
            request,
            ProblemError(503, "The database does not answer; nothing was changed. Try again soon."),
        )

    @app.exception_handler(DataError)
    def _not_storable(request: Request, error: DataError) -> JSONResponse:
        return _problem(
            request,
            ProblemError(
                422, "A value cannot be stored: a number out of range, or a NUL in a text."
            ),
        )

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        if (
            error.detail == "There was an error parsing the body"
        ):  # FastAPI's, where it is not even text
            return _problem(
                request, ProblemError(422, "The body cannot be read: send JSON in UTF-8.")
            )
        return JSONResponse(
            Problem(title=str(error.detail), status=error.status_code).model_dump(),
            error.status_code,
        )


def _told(request: Request, error: RequestValidationError) -> list[Wrong]:
    """What is wrong with the body, the query and the path."""
    found = error.errors()
    first = found[0]
    if first["type"] == "json_invalid":
        stop = json.JSONDecodeError(first["ctx"]["error"], str(error.body), int(first["loc"][-1]))
        return [Wrong((), f"The body is {not_json(stop)}.")]
    if isinstance(error.body, bytes):
        sent = request.headers.get("content-type", "nothing")
        return [
            Wrong(
                (),
                f'The body came with the content type {sent[:80]}: send JSON, with "Content-Type: application/json".',
            )
        ]
    if any(one["loc"] == ("body",) and one["type"] == "missing" for one in found):
        return [Wrong((), "There is no body: send JSON, as in the examples of /docs.")]
    within = [{**one, "loc": one["loc"][1:]} for one in found]
    outside = [one for one, whole in zip(within, found, strict=True) if whole["loc"][0] != "body"]
    return [
        *wrong_in(outside, {}),
        *wrong_in([one for one in within if one not in outside], _schema(request)),
    ]


def _schema(request: Request) -> dict[str, Any]:
    """Of the body that the route takes."""
    body = request.scope["route"].body_field
    return _schema_of(body.field_info.annotation) if body else {}


@cache
def _schema_of(model: Any) -> dict[str, Any]:
    return TypeAdapter(model).json_schema()
