"""Error responses: every 4xx and 5xx is a Problem that names the field and how to correct it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter
from sqlalchemy.exc import DataError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.storage import database_space, full_database_disk
from ucurve.disk_space import Disk, is_disk_full
from ucurve.schemas.problems import INVALID_INPUT, MEDIA_TYPE, FieldError, Problem, problem_of
from ucurve.schemas.validation_messages import (
    FieldMessage,
    field_messages,
    not_json,
    pointer_of,
)
from ucurve.spec import SpecError

DATABASE_DOWN = "The database does not respond; nothing was changed. Try again soon."
UNREADABLE_BODY = "There was an error parsing the body"  # FastAPI's detail for a body without text

log = logging.getLogger(__name__)


class ApiError(Exception):
    """Raised by a route to respond with `status` and a Problem.

    retry_after: seconds after which the same request may succeed, for the header Retry-After.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


class ProblemResponse(JSONResponse):
    """A Problem as application/problem+json."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.model_dump(), problem.status, headers)


def invalid(pointer: str, detail: str) -> ApiError:
    """Return a 422 about one field."""
    return ApiError(422, INVALID_INPUT, [FieldError(pointer=pointer, detail=detail)])


def not_found(noun: str) -> ApiError:
    """Return a 404; noun: "experiment 7"."""
    return ApiError(404, f"There is no {noun}.")


def respond(
    request: Request, status: int, detail: str, errors: Sequence[FieldError] = ()
) -> ProblemResponse:
    """Return the Problem of a request."""
    return ProblemResponse(problem_of(status, detail, list(errors), request.url.path))


def database_problem(error: Exception) -> tuple[int, str]:
    """Return status and detail of a request whose transaction failed: a full disk is named."""
    if is_disk_full(error):
        database_space.record_refusal()
        return 507, f"Nothing was changed. {Disk('database', None, 'full').message}"
    disk = full_database_disk()
    return 503, f"{DATABASE_DOWN} {disk.message}" if disk else DATABASE_DOWN


def install(app: FastAPI) -> None:
    """Respond to our errors, those of specs, of FastAPI and of the database with Problems."""
    _install_for_outages(app)

    @app.exception_handler(ApiError)
    def _api_error(request: Request, error: ApiError) -> ProblemResponse:
        problem = problem_of(error.status, error.detail, error.errors, request.url.path)
        return ProblemResponse(problem, error.headers)

    @app.exception_handler(SpecError)
    def _spec_error(request: Request, error: SpecError) -> ProblemResponse:
        pointer = f"/spec/{error.field}" if error.field else "/spec"
        field = FieldError(pointer=pointer, detail=error.message)
        return respond(request, 422, INVALID_INPUT, [field])

    @app.exception_handler(RequestValidationError)
    def _validation_error(request: Request, error: RequestValidationError) -> ProblemResponse:
        errors = [
            FieldError(pointer=pointer_of(path), detail=message)
            for path, message in _field_messages(request, error)
        ]
        return respond(request, 422, INVALID_INPUT, errors)

    @app.exception_handler(DataError)
    def _not_storable(request: Request, error: DataError) -> ProblemResponse:
        detail = "A value cannot be stored: a number is out of range, or a text contains NUL."
        return respond(request, 422, detail)

    @app.exception_handler(HTTPException)
    def _http_error(request: Request, error: HTTPException) -> ProblemResponse:
        if error.detail == UNREADABLE_BODY:
            detail = "The body cannot be read: send JSON in UTF-8 that is not deeply nested."
            return respond(request, 422, detail)
        problem = problem_of(error.status_code, str(error.detail), instance=request.url.path)
        response = ProblemResponse(problem, error.headers)
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(sorted(_allowed_methods(request)))
        return response

    @app.exception_handler(Exception)
    def _internal_error(request: Request, error: Exception) -> ProblemResponse:
        log.error("%s %s failed", request.method, request.url.path)  # uvicorn logs the traceback
        return respond(
            request, 500, "The server failed to process the request; its log has the traceback."
        )


def _allowed_methods(request: Request) -> set[str]:
    """Return the methods of all routes at the request's path: a router knows those of the first."""
    methods: set[str] = set()
    pending: list[Any] = list(request.app.routes)
    while pending:
        route = pending.pop()
        if hasattr(route, "original_router"):  # FastAPI keeps included routers as they are
            pending += route.original_router.routes
        elif hasattr(route, "methods") and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return methods


def _install_for_outages(app: FastAPI) -> None:
    """Respond to a database that is away or was too slow, and to full disks."""

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeoutError)
    def _database_down(request: Request, error: Exception) -> ProblemResponse:
        return respond(request, *database_problem(error))

    @app.exception_handler(OSError)
    def _file_problem(request: Request, error: OSError) -> ProblemResponse:
        if not is_disk_full(error):
            raise error
        return respond(request, 507, f"{Disk('artefacts', None, 'full').message}")

    @app.exception_handler(InternalError)
    def _cut_off(request: Request, error: InternalError) -> ProblemResponse:
        if not error.connection_invalidated:  # the database has no such excuse
            raise error
        return respond(request, 503, DATABASE_DOWN)


def _field_messages(request: Request, error: RequestValidationError) -> list[FieldMessage]:
    """Return what is wrong with the body, the query and the path."""
    errors = error.errors()
    first = errors[0]
    if first["type"] == "json_invalid":
        stop = json.JSONDecodeError(first["ctx"]["error"], str(error.body), int(first["loc"][-1]))
        return [FieldMessage((), f"The body is {not_json(stop)}.")]
    if isinstance(error.body, bytes):
        content_type = request.headers.get("content-type", "nothing")
        return [
            FieldMessage(
                (),
                f"The body came with the content type {content_type[:80]}: send JSON, with "
                '"Content-Type: application/json".',
            )
        ]
    if any(item["loc"] == ("body",) and item["type"] == "missing" for item in errors):
        return [FieldMessage((), "The body is missing: send JSON, as in the examples of /docs.")]
    in_body = [{**e, "loc": e["loc"][1:]} for e in errors if e["loc"][0] == "body"]
    elsewhere = [{**e, "loc": e["loc"][1:]} for e in errors if e["loc"][0] != "body"]
    return [*field_messages(elsewhere, {}), *field_messages(in_body, _body_schema(request))]


def _body_schema(request: Request) -> dict[str, Any]:
    """Return the JSON schema of the body that the route takes."""
    body = request.scope["route"].body_field
    return _schema_of(body.field_info.annotation) if body else {}


@lru_cache(maxsize=200)
def _schema_of(model: Any) -> dict[str, Any]:
    return TypeAdapter(model).json_schema()
