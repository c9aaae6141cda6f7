"""Calls about experiments: plan, submit, list, steer, wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ucurve.client.http import NoAnswerError, Wire, as_json
from ucurve.schemas import experiments as schemas
from ucurve.schemas.search import Choices
from ucurve.spec import Spec

RESTART = 60.0  # seconds for which wait() bears an API that is away
ENDED = ("done", "failed", "cancelled")


class ExperimentCalls(Wire):
    def plan(self, spec: Spec | Mapping[str, Any], fresh: bool = False) -> schemas.PlanPreview:
        """What submitting would measure, and about how long it would take."""
        body = schemas.Submission(spec=as_json(spec), fresh=fresh).model_dump(mode="json")
        return schemas.PlanPreview.model_validate(
            self._request("POST", "/v1/plan", json=body, repeat=True)
        )

    def submit(
        self,
        spec: Spec | Mapping[str, Any],
        name: str = "",
        tags: Sequence[str] = (),
        notes: str = "",
        priority: int = 0,
        fresh: bool = False,
        webhook: str | None = None,
    ) -> schemas.Experiment:
        """Ask for an experiment; fresh: measure again what exists, and compare. Raises RefusedError naming the field to mend."""
        sent = schemas.Submission(
            name=name,
            tags=list(tags),
            notes=notes,
            priority=priority,
            fresh=fresh,
            webhook=webhook,
            spec=as_json(spec),
        )
        return schemas.Experiment.model_validate(
            self._request("POST", "/v1/experiments", json=sent.model_dump(mode="json"))
        )

    def experiments(self, **filters: Any) -> schemas.ExperimentPage:
        """A page of experiments, newest first; filters and order are those of ucurve.schemas.search."""
        return schemas.ExperimentPage.model_validate(
            self._request("GET", "/v1/experiments", params=filters)
        )

    def choices(self) -> Choices:
        """What experiments can be filtered by."""
        return Choices.model_validate(self._request("GET", "/v1/choices"))

    def experiment(self, id: int) -> schemas.Experiment:
        return schemas.Experiment.model_validate(self._request("GET", f"/v1/experiments/{id}"))

    def cancel(self, id: int) -> schemas.Experiment:
        return self._act(id, "cancel")

    def pause(self, id: int) -> schemas.Experiment:
        return self._act(id, "pause")

    def resume(self, id: int) -> schemas.Experiment:
        return self._act(id, "resume")

    def retry(self, id: int) -> schemas.Experiment:
        """Measure the failed points once more."""
        return self._act(id, "retry")

    def wait(
        self,
        id: int,
        on_progress: Callable[[schemas.Experiment], None] | None = None,
        timeout: float | None = None,
        poll: float = 0.5,
    ) -> schemas.Experiment:
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
                raise TimeoutError(
                    f"experiment {id} is {experiment.state} at {now.done} of {now.total} points"
                )
            time.sleep(poll)

    def _act(self, id: int, verb: str) -> schemas.Experiment:
        return schemas.Experiment.model_validate(
            self._request("POST", f"/v1/experiments/{id}/{verb}")
        )
