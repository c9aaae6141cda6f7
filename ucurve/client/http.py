"""One HTTP connection: requests repeated while the API restarts, and refusals that name the field."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from ucurve.schemas import experiments as schemas
from ucurve.schemas import validation_messages
from ucurve.spec import Spec

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

DEFAULT_URL = "http://127.0.0.1:8000"
RETRIES = (0.1, 0.4, 1.0, 2.0)  # seconds between attempts of one request


class ClientError(RuntimeError):
    """A request that brought no answer; the message says what to do."""


class NoAnswerError(ClientError):
    """Nobody answers at the address."""


class RefusedError(ClientError):
    """The server said no: `status`, and `problem` field by field; as text, one line per field."""

    def __init__(self, status: int, problem: schemas.Problem) -> None:
        lines = [
            f"{field_name(found.pointer)}: {found.message}".removeprefix(": ")
            for found in problem.problems
        ]
        super().__init__("\n".join(lines) or problem.title)
        self.status = status
        self.problem = problem


class Wire:
    """Sends requests. Reads are repeated while the API restarts; a submission is never sent twice."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
        retries: Sequence[float] = RETRIES,
    ) -> None:
        self.url = (url or os.environ.get("UCURVE_URL") or DEFAULT_URL).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ClientError(
                f"{self.url!r} is not the address of a lab: it looks like {DEFAULT_URL}"
            )
        token = (
            os.environ.get("UCURVE_TOKEN") if token is None else token
        )  # "" is none, whatever the environment says
        self._retries = retries
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)
        except httpx.InvalidURL as error:
            raise ClientError(f"{self.url!r} is not an address: {error}") from error

    def _request(self, method: str, path: str, repeat: bool = False, **more: Any) -> Any:
        return self._send(method, path, repeat=repeat or method == "GET", **more).json()

    def _send(self, method: str, path: str, repeat: bool, **more: Any) -> httpx.Response:
        """One answer with a 2xx status. `repeat`: the request may be sent again when nobody knows whether it arrived."""
        waits: Iterator[float] = iter(self._retries)
        while True:
            try:
                response = self._http.request(method, path, **more)
                if not (repeat and response.status_code in (502, 503, 504)):
                    break
                trouble = f"{self.url} is not ready: {_problem(response).title}"
            except httpx.TransportError as error:
                trouble = f"no answer from {self.url} ({error or type(error).__name__})"
                if not (repeat or isinstance(error, httpx.ConnectError)):
                    raise NoAnswerError(
                        f"{trouble}; look with `ucurve list` whether the request arrived"
                    ) from error
            wait = next(waits, None)
            if wait is None:
                raise NoAnswerError(
                    f"{trouble}: start the lab with `ucurve up`, or name another address with --url or UCURVE_URL"
                )
            time.sleep(wait)
        if response.is_success:
            return response
        raise RefusedError(response.status_code, _problem(response))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def checked(model: type[Model], sent: Any) -> Model:
    """What is about to be sent; refused as the server would refuse it."""
    try:
        return model.model_validate(sent)
    except ValidationError as error:
        wrong = validation_messages.wrong_in(error.errors(), model.model_json_schema())
        found = [
            schemas.FieldProblem(pointer=validation_messages.pointer_of(path), message=message)
            for path, message in wrong
        ]
        raise RefusedError(
            422, schemas.Problem(title="The input is not valid.", status=422, problems=found)
        ) from error


def as_json(spec: Spec | Mapping[str, Any]) -> dict[str, Any]:
    return spec.model_dump(mode="json") if isinstance(spec, Spec) else dict(spec)


def field_name(pointer: str) -> str:
    """A JSON pointer as people write fields: /spec/gammas/0 -> gammas[0]."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/") if part]
    return validation_messages.field_name(
        parts[1:] if len(parts) > 1 and parts[0] == "spec" else parts
    )


def _problem(response: httpx.Response) -> schemas.Problem:
    try:
        return schemas.Problem.model_validate(response.json())
    except (ValueError, ValidationError):
        title = f"HTTP {response.status_code} {response.reason_phrase} from {response.url}"
        title += "; the log of the API says why" if response.status_code >= 500 else ""
        return schemas.Problem(title=title, status=response.status_code)


def list_of(kind: type[T], found: Any) -> list[T]:
    return TypeAdapter(list[kind]).validate_python(found)  # type: ignore[valid-type]
