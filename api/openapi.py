"""The OpenAPI document: FastAPI's, with the error responses that each route can give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.auth.authorization import READ_METHODS, required_role
from api.changing_requests import CHANGES_NOTHING
from api.idempotency import HEADER, VALID
from ucurve.schemas.problems import MEDIA_TYPE, TITLES, Problem

REF_TEMPLATE = "#/components/schemas/{model}"
FASTAPI_SCHEMAS = ("HTTPValidationError", "ValidationError")  # of its own 422, which we replace
KEY_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A random value, new for each request. Repeated with it within 24 hours, the "
    "request changes nothing and gets the first answer.",
    "schema": {"type": "string", "pattern": f"^{VALID.pattern}$"},
}
MISSING = frozenset(  # operations that answer 404 although their path names nothing
    {("get", "/v1/studies/verdicts"), ("post", "/v1/sessions")}
)
FILES = {  # operations that answer with other media types than JSON
    ("get", "/v1/explorer/table"): ("text/csv", "application/vnd.apache.parquet"),
    ("get", "/v1/experiments/{id}/measurements"): ("application/json", "text/csv"),
    ("get", "/v1/export/{table}"): ("application/x-ndjson",),
}
OWNED = frozenset(  # operations that answer 403 by ownership alone
    {("post", "/v1/tokens"), ("post", "/v1/sessions")}
)


def install(app: FastAPI) -> None:
    """Make the app describe its error responses."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _describe_errors(app, generate())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def routes_of(app: FastAPI) -> Iterator[APIRoute]:
    """Yield every route of the app, those of included routers too."""
    pending: list[Any] = list(app.routes)
    while pending:
        route = pending.pop(0)
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            pending += route.original_router.routes


def _describe_errors(app: FastAPI, document: dict[str, Any]) -> None:
    schema = Problem.model_json_schema(ref_template=REF_TEMPLATE, mode="serialization")
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {**schema.pop("$defs", {}), "Problem": schema}
    for name in FASTAPI_SCHEMAS:
        schemas.pop(name, None)
    for route in routes_of(app):
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                if changes(route, method):
                    operation.setdefault("parameters", []).append(KEY_PARAMETER)
                if media_types := FILES.get((method.lower(), route.path_format)):
                    documented = operation["responses"]["200"].get("content", {})
                    operation["responses"]["200"]["content"] = {
                        name: documented.get(name, {}) if name == "application/json" else {}
                        for name in media_types
                    }
                for status in _error_statuses(route, method.lower(), operation):
                    operation["responses"][str(status)] = _response(status)


def changes(route: APIRoute, method: str) -> bool:
    """Return whether a request of this method and route changes something."""
    return method.upper() not in READ_METHODS and route.path_format not in CHANGES_NOTHING


def _error_statuses(route: APIRoute, method: str, operation: dict[str, Any]) -> list[int]:
    key, role = (method, route.path_format), required_role(route)
    statuses = {
        401: role != "public" or key in OWNED,
        403: role in ("submitter", "admin") or key in OWNED,
        404: re.search(r"\{(id|name|cause)\}", route.path_format) is not None or key in MISSING,
        409: changes(route, method),  # at least: the first request with its key is in progress
        408: True,
        413: "requestBody" in operation,
        422: "requestBody" in operation or "parameters" in operation,
        429: role != "public",  # an unknown token; a quota, or too many costly requests
        431: True,
        500: True,
        503: True,
        507: True,
    }
    return [status for status, possible in statuses.items() if possible]


def _response(status: int) -> dict[str, Any]:
    reference = {"$ref": REF_TEMPLATE.format(model="Problem")}
    return {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": reference}}}
