"""Error responses: RFC 9457 problem details (application/problem+json)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field, computed_field, model_validator

MEDIA_TYPE = "application/problem+json"
INVALID_INPUT = "The input is not valid."
TITLES = {
    401: "Not authenticated",
    403: "Not permitted",
    404: "Not found",
    405: "Method not allowed",
    408: "Request too slow",
    409: "Conflict",
    413: "Request too large",
    422: "Invalid input",
    429: "Too many requests",
    431: "Address or headers too large",
    500: "Internal error",
    503: "Temporarily unavailable",
    507: "Disk full",
}


class FieldError(BaseModel):
    """One invalid field of a request."""

    pointer: str = Field(
        description="JSON Pointer to the field, such as /spec/gammas/0; empty: the whole body."
    )
    detail: str = Field(description="What is wrong with the field, and how to correct it.")


class FieldProblem(BaseModel):
    """A field error as releases before 0.2 wrote it."""

    pointer: str = Field(description="As in `errors`.")
    message: str = Field(description="`detail` of the same entry of `errors`.")


class Problem(BaseModel):
    """Body of every error response."""

    type: str = Field(
        "about:blank", description="Identifies the kind of problem: urn:ucurve:problem:STATUS."
    )
    title: str = Field(description="The kind of problem in a few words.")
    status: int = Field(description="HTTP status code.")
    detail: str = Field("", description="What went wrong in this request, and what to do.")
    instance: str | None = Field(None, description="Path of the request.")
    errors: list[FieldError] = Field([], description="The invalid fields, if any.")

    @computed_field(  # type: ignore[prop-decorator]
        description="Deprecated, use `errors`: the invalid fields with `message` for `detail`."
    )
    @property
    def problems(self) -> list[FieldProblem]:
        """Return `errors` under the names of releases before 0.2."""
        return [FieldProblem(pointer=e.pointer, message=e.detail) for e in self.errors]

    @model_validator(mode="before")
    @classmethod
    def _from_older_server(cls, data: Any) -> Any:
        """Read the errors of a server before 0.2: the message in `title`, fields in `problems`."""
        if not isinstance(data, dict) or "problems" not in data or "errors" in data:
            return data
        errors = [
            {"pointer": problem["pointer"], "detail": problem["message"]}
            for problem in data["problems"]
        ]
        return {**data, "detail": data.get("title", ""), "errors": errors}


def problem_of(
    status: int, detail: str, errors: list[FieldError] | None = None, instance: str | None = None
) -> Problem:
    """Return the problem of an HTTP status with its fixed type and title."""
    phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "Error"
    return Problem(
        type=f"urn:ucurve:problem:{status}" if status in TITLES else "about:blank",
        title=TITLES.get(status, phrase),
        status=status,
        detail=detail,
        instance=instance,
        errors=errors or [],
    )
