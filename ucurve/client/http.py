"""HTTP transport: retries while the API restarts, errors that name the invalid field.

Every request that changes something carries an `Idempotency-Key`. A repetition with the same key
changes nothing twice, so that requests are repeated whose answers were lost.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from ucurve.client.api_keys import TokenFileError, default_token
from ucurve.experiments import kinds
from ucurve.schemas import validation_messages
from ucurve.schemas.audit import SOURCE_HEADER, Source
from ucurve.schemas.error_location import Step
from ucurve.schemas.problems import INVALID_INPUT, FieldError, Problem, problem_of
from ucurve.settings import settings
from ucurve.spec import Spec

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

DEFAULT_URL = "http://127.0.0.1:8000"
RETRIES = (0.1, 0.4, 1.0, 2.0)  # seconds to wait before each retry of a request
PATIENCE = 120.0
READ_METHODS = frozenset({"GET", "HEAD"})
NOT_READY = frozenset({502, 503, 504})
IN_PROGRESS_SECONDS = 0.5  # to wait while the first request with the same key is processed


class ClientError(RuntimeError):
    """A request failed; the message says what to do."""


class ApiUnavailableError(ClientError):
    """The API cannot be reached or is not ready."""


class RequestRejectedError(ClientError):
    """The API rejected the request: `status`, `problem`, and a message with a line per field."""

    def __init__(self, status: int, problem: Problem) -> None:
        self.status = status
        self.problem = problem
        lines = validation_messages.lines(self.fields())
        super().__init__(lines or problem.detail or problem.title)

    def fields(self) -> list[validation_messages.FieldMessage]:
        """Return what is wrong with each field; those of a spec by their names in the spec."""
        return [
            validation_messages.FieldMessage(field_path(error.pointer), error.detail)
            for error in self.problem.errors
        ]


class HttpClient:
    """A connection to the API. Requests are retried while the API restarts.

    url: defaults to UCURVE_URL, then http://127.0.0.1:8000. token: defaults to UCURVE_TOKEN, then
    to the key in UCURVE_TOKEN_FILE; "" sends none. timeout: seconds per request. retries: seconds
    to wait before each retry. source: what the audit trail calls this client. patience: seconds to
    repeat what the API answers with 429, "too many requests". agent: the User-Agent.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
        retries: Sequence[float] = RETRIES,
        source: Source = "python",
        patience: float = PATIENCE,
        agent: str = "ucurve",
    ) -> None:
        self.url = (url or settings().url).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ClientError(f"invalid URL {self.url!r}: use one such as {DEFAULT_URL}")
        if token is None:  # "" means no token, whatever the environment says
            try:
                token = default_token()
            except TokenFileError as error:
                raise ClientError(str(error)) from error
        self._retries, self._patience = retries, patience
        headers = {"User-Agent": agent, SOURCE_HEADER: source}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)
        except httpx.InvalidURL as error:
            raise ClientError(f"invalid URL {self.url!r}: {error}") from error

    def _request(self, method: str, path: str, **options: Any) -> Any:
        """Send a request and return the decoded JSON."""
        return self._send(method, path, **options).json()

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request, repeat it when its answer is lost, and return the 2xx response."""
        if method not in READ_METHODS:
            options["headers"] = {"Idempotency-Key": uuid.uuid4().hex, **options.get("headers", {})}
        waits: Iterator[float] = iter(self._retries)
        deadline = time.monotonic() + max(self._patience, options.get("timeout", 0.0))
        may_have_arrived = False
        while True:
            try:
                response = self._http.request(method, path, **options)
                if response.status_code not in NOT_READY:
                    pause = _seconds_to_wait(response)
                    if pause is None or time.monotonic() + pause > deadline:
                        break
                    time.sleep(pause)
                    continue
                reason = f"{self.url} is not ready: {_problem(response).detail}"
            except httpx.TransportError as error:
                reason = _transport_problem(self.url, error)
                may_have_arrived |= not isinstance(error, httpx.ConnectError)
            wait = next(waits, None)
            if wait is None:
                raise self._unavailable(method, reason, may_have_arrived)
            time.sleep(wait)
        if response.is_success:
            return response
        raise RequestRejectedError(response.status_code, _problem(response))

    def _unavailable(self, method: str, reason: str, may_have_arrived: bool) -> ApiUnavailableError:
        if may_have_arrived and method not in READ_METHODS:
            return ApiUnavailableError(
                f"{reason}; run `ucurve list` to see whether the request arrived"
            )
        return ApiUnavailableError(
            f"{reason}: start the lab with `ucurve up`, "
            "or set the API's address with --url or UCURVE_URL"
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def checked(model: type[Model], fields: Any) -> Model:
    """Validate a request before it is sent. Raises RequestRejectedError as the API would."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        schema = model.model_json_schema()
        # With the specs' schemas, a field on the wrong level is recognized.
        specs = {name: kind.model_json_schema() for name, kind in kinds().items()}
        schema["$defs"] = {**specs, **schema.get("$defs", {})}
        wrong = validation_messages.field_messages(error.errors(), schema)
        errors = [
            FieldError(pointer=validation_messages.pointer_of(path), detail=message)
            for path, message in wrong
        ]
        raise RequestRejectedError(422, problem_of(422, INVALID_INPUT, errors)) from error


def as_json(spec: Spec | Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec as a JSON object."""
    return spec.model_dump(mode="json") if isinstance(spec, Spec) else dict(spec)


def field_name(pointer: str) -> str:
    """Format a JSON pointer as a field name: /spec/gammas/0 -> gammas[0]."""
    return validation_messages.field_name(field_path(pointer))


def field_path(pointer: str) -> tuple[Step, ...]:
    """Return the path of a JSON pointer, within the spec: /spec/gammas/0 -> ("gammas", 0)."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/") if part]
    path = parts[1:] if len(parts) > 1 and parts[0] == "spec" else parts
    return tuple(int(part) if part.isascii() and part.isdigit() else part for part in path)


def _transport_problem(url: str, error: httpx.TransportError) -> str:
    cut_off = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
    problem = f"the answer of {url} was cut off" if cut_off else f"cannot reach {url}"
    return f"{problem} ({error or type(error).__name__})"


def _seconds_to_wait(response: httpx.Response) -> float | None:
    """Return when to repeat a request that was not processed; None where that is no use."""
    if response.status_code == 409 and "Retry-After" in response.headers:
        return IN_PROGRESS_SECONDS  # the first request with the same key is being processed
    if response.status_code == 429:
        seconds = response.headers.get("Retry-After", "")
        return float(seconds) if seconds.isdigit() else None  # a quota: waiting does not help
    return None


def _problem(response: httpx.Response) -> Problem:
    try:
        return Problem.model_validate(response.json())
    except (ValueError, ValidationError):
        detail = f"HTTP {response.status_code} {response.reason_phrase} from {response.url}"
        detail += "; see the API's log" if response.status_code >= 500 else ""
        return problem_of(response.status_code, detail)


def list_of(model: type[T], rows: Any) -> list[T]:
    """Validate a JSON array."""
    return TypeAdapter(list[model]).validate_python(rows)  # type: ignore[valid-type]
