"""The Python client: everything over the REST API, rows as records and tables as pandas frames.

client = Client()                                         # UCURVE_URL, or http://127.0.0.1:8000
experiment = client.submit({"kind": "linear_model"}, name="first")
client.wait(experiment.id, lambda now: print(now.progress.done, "of", now.progress.total))
client.table(experiment.id).groupby("k")["mse"].mean()    # a frame: one row per measured point
client.figures(experiment.id)["8_loss_fixed_noise"].vega_lite()  # data included
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from ucurve import records
from ucurve.spec import Figure, Spec, Verdict
from ucurve.study import Study
from ucurve.suites import PENDING, Dataset, Suite

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
RETRIES = (0.1, 0.4, 1.0, 2.0)  # seconds between attempts of one request
RESTART = 60.0  # seconds for which wait() bears an API that is away
ENDED = ("done", "failed", "cancelled")


class ClientError(RuntimeError):
    """A request that brought no answer; the message says what to do."""


class NoAnswerError(ClientError):
    """Nobody answers at the address."""


class RefusedError(ClientError):
    """The server said no: `status`, and `problem` field by field; as text, one line per field."""

    def __init__(self, status: int, problem: records.Problem) -> None:
        lines = [f"{field_name(found.pointer)}: {found.message}".removeprefix(": ") for found in problem.problems]
        super().__init__("\n".join(lines) or problem.title)
        self.status = status
        self.problem = problem


class Client:
    """A connection to one lab. Reads are repeated while the API restarts; a submission is never sent twice."""

    def __init__(
        self, url: str | None = None, token: str | None = None, timeout: float = 30.0, retries: Sequence[float] = RETRIES
    ) -> None:
        self.url = (url or os.environ.get("UCURVE_URL") or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get("UCURVE_TOKEN")
        self._retries = retries
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)
        except httpx.InvalidURL as error:
            raise ClientError(f"{self.url!r} is not an address: {error}") from error

    # Experiments

    def plan(self, spec: Spec | Mapping[str, Any]) -> records.PlanPreview:
        """What submitting would measure, and about how long it would take."""
        body = records.Submission(spec=as_json(spec)).model_dump(mode="json")
        return records.PlanPreview.model_validate(self._request("POST", "/v1/plan", json=body, repeat=True))

    def submit(
        self,
        spec: Spec | Mapping[str, Any],
        name: str = "",
        tags: Sequence[str] = (),
        notes: str = "",
        priority: int = 0,
    ) -> records.Experiment:
        """Ask for an experiment. Raises RefusedError naming the field to mend."""
        sent = records.Submission(name=name, tags=list(tags), notes=notes, priority=priority, spec=as_json(spec))
        return records.Experiment.model_validate(self._request("POST", "/v1/experiments", json=sent.model_dump(mode="json")))

    def experiments(self, **filters: Any) -> records.ExperimentPage:
        """A page of experiments, newest first; `limit`, `offset` and whatever else the API filters by."""
        return records.ExperimentPage.model_validate(self._request("GET", "/v1/experiments", params=filters))

    def experiment(self, id: int) -> records.Experiment:
        return records.Experiment.model_validate(self._request("GET", f"/v1/experiments/{id}"))

    def cancel(self, id: int) -> records.Experiment:
        return self._act(id, "cancel")

    def pause(self, id: int) -> records.Experiment:
        return self._act(id, "pause")

    def resume(self, id: int) -> records.Experiment:
        return self._act(id, "resume")

    def retry(self, id: int) -> records.Experiment:
        """Measure the failed points once more."""
        return self._act(id, "retry")

    def extend(self, id: int, draws: int) -> records.Experiment:
        """The same experiment with so many more draws or seeds, as a new one that reuses what is measured."""
        return records.Experiment.model_validate(self._request("POST", f"/v1/experiments/{id}/extend", json={"draws": draws}))

    def wait(
        self,
        id: int,
        on_progress: Callable[[records.Experiment], None] | None = None,
        timeout: float | None = None,
        poll: float = 0.5,
    ) -> records.Experiment:
        """Return the experiment once it is done, failed or cancelled. Raises TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        heard = time.monotonic()
        while True:
            try:
                experiment = self.experiment(id)
            except NoAnswerError:
                if time.monotonic() > heard + RESTART:
                    raise
                continue
            heard = time.monotonic()
            if on_progress is not None:
                on_progress(experiment)
            if experiment.state in ENDED:
                return experiment
            if deadline is not None and time.monotonic() > deadline:
                now = experiment.progress
                raise TimeoutError(f"experiment {id} is {experiment.state} at {now.done} of {now.total} points")
            time.sleep(poll)

    # Results

    def measurements(self, id: int, after: int = 0) -> records.MeasurementPage:
        """Rows that changed after a cursor; ask again with the page's cursor."""
        found = self._request("GET", f"/v1/experiments/{id}/measurements", params={"after": after})
        return records.MeasurementPage.model_validate(found)

    def rows(self, id: int) -> list[records.MeasurementRow]:
        """All rows as they are now, in the plan's order."""
        latest: dict[int, records.MeasurementRow] = {}
        cursor, more = 0, True
        while more:
            page = self.measurements(id, cursor)
            latest.update({row.id: row for row in page.rows})
            cursor, more = page.cursor, page.more
        return sorted(latest.values(), key=lambda row: row.position)

    def table(self, id: int) -> pd.DataFrame:
        """The experiment's table: a row per point, a column per label and metric (see records.frame)."""
        return records.frame(self.rows(id))

    def csv(self, id: int) -> str:
        """The table as the API writes it."""
        return self._send("GET", f"/v1/experiments/{id}/measurements", params={"format": "csv"}, repeat=True).text

    def figures(self, id: int) -> dict[str, Figure]:
        """The figures by short name, drawn here from the rows there are."""
        from ucurve.experiments import parse

        return parse(self.experiment(id).spec).figures(self.table(id))

    def verdicts(self, id: int) -> list[Verdict]:
        """What the data supports, claim by claim."""
        return _list_of(Verdict, self._request("GET", f"/v1/experiments/{id}/verdicts"))

    def provenance(self, measurement: int) -> records.Provenance:
        """What determined a number, and every attempt at it."""
        return records.Provenance.model_validate(self._request("GET", f"/v1/measurements/{measurement}"))

    def origins(self, id: int) -> records.Origins:
        """Where all numbers of an experiment come from."""
        return records.Origins.model_validate(self._request("GET", f"/v1/experiments/{id}/origins"))

    # Studies

    def studies(self) -> list[Study]:
        return _list_of(Study, self._request("GET", "/v1/studies"))

    def prepare(self, study: Study) -> str | None:
        """Register what the study needs and is missing; what is still being looked up, None once it can be submitted."""
        suites = {suite.name: suite for suite in self.suites()} if study.suites else {}
        names = {dataset.name for dataset in self.datasets()} if study.datasets else set()
        for dataset in (one for one in study.datasets if one.name not in names):
            self.add_dataset(**dataset.model_dump())
        for suite in study.suites:
            found = suites.get(suite.name) or self.add_suite(**suite.model_dump())
            if pending := sum((checkpoint.unresolved or "").startswith(PENDING) for checkpoint in found.checkpoints):
                return f"{pending} of {len(found.checkpoints)} checkpoints of {suite.name} are being looked up"
        return None

    def submit_study(self, study: Study) -> list[records.Experiment]:
        """All experiments of the study, or none: RefusedError names the one and its field."""
        return _list_of(records.Experiment, self._request("POST", "/v1/studies", json=study.model_dump(mode="json")))

    def study_verdicts(self, ids: Sequence[int]) -> list[Verdict]:
        """What these experiments say together."""
        return _list_of(Verdict, self._request("GET", "/v1/studies/verdicts", params={"experiment": list(ids)}, timeout=120.0))

    # Suites, evaluation sets, workers

    def suites(self) -> list[Suite]:
        return _list_of(Suite, self._request("GET", "/v1/suites"))

    def add_suite(self, name: str, path: str | None = None, hub: str | None = None, **more: Any) -> Suite:
        """Register a folder of checkpoints, or a hub repository whose refs are listed."""
        body = records.SuiteSubmission(name=name, path=path, hub=hub, **more).model_dump(mode="json")
        return Suite.model_validate(self._request("POST", "/v1/suites", json=body, timeout=600.0))

    def datasets(self) -> list[Dataset]:
        return _list_of(Dataset, self._request("GET", "/v1/datasets"))

    def add_dataset(
        self,
        name: str,
        text: str | None = None,
        preset: Literal["wikitext-2", "sst2"] | None = None,
        description: str = "",
        *,
        train: str | None = None,
        validation: str | None = None,
    ) -> Dataset:
        """Register a UTF-8 text file, two files of examples to fine-tune on, or a preset of the hub."""
        sent = records.DatasetSubmission(
            name=name, text=text, train=train, validation=validation, preset=preset, description=description
        )
        return Dataset.model_validate(self._request("POST", "/v1/datasets", json=sent.model_dump(mode="json"), timeout=600.0))

    def workers(self) -> list[records.WorkerInfo]:
        return _list_of(records.WorkerInfo, self._request("GET", "/v1/workers"))

    # The wire

    def _act(self, id: int, verb: str) -> records.Experiment:
        return records.Experiment.model_validate(self._request("POST", f"/v1/experiments/{id}/{verb}"))

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
                    raise NoAnswerError(f"{trouble}; look with `ucurve list` whether the request arrived") from error
            wait = next(waits, None)
            if wait is None:
                raise NoAnswerError(f"{trouble}: start the lab with `ucurve up`, or name another address with --url or UCURVE_URL")
            time.sleep(wait)
        if response.is_success:
            return response
        raise RefusedError(response.status_code, _problem(response))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def as_json(spec: Spec | Mapping[str, Any]) -> dict[str, Any]:
    return spec.model_dump(mode="json") if isinstance(spec, Spec) else dict(spec)


def field_name(pointer: str) -> str:
    """A JSON pointer as people write fields: /spec/gammas/0 -> gammas[0]."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/") if part]
    if len(parts) > 1 and parts[0] in ("spec", "body"):
        parts = parts[1:]
    named = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts)
    return named.removeprefix(".")


def _problem(response: httpx.Response) -> records.Problem:
    try:
        return records.Problem.model_validate(response.json())
    except (ValueError, ValidationError):
        title = f"HTTP {response.status_code} {response.reason_phrase} from {response.url}"
        return records.Problem(title=title, status=response.status_code)


def _list_of(kind: type[T], found: Any) -> list[T]:
    return TypeAdapter(list[kind]).validate_python(found)  # type: ignore[valid-type]
