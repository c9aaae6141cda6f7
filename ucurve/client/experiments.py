"""Experiments: plan, submit, list, control, wait, edit, extend, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ucurve.client.deprecation import deprecated_method, warn_renamed
from ucurve.client.display import Experiment, ExperimentPage
from ucurve.client.http import ApiUnavailableError, HttpClient, as_json, list_of
from ucurve.schemas import experiments as schemas
from ucurve.schemas.experiments import Edit, Extension
from ucurve.schemas.search import FilterOptions
from ucurve.schemas.webhooks import WebhookDelivery
from ucurve.spec import Spec

API_RESTART_SECONDS = 60.0  # wait() tolerates an API that is down for this long
FINISHED = ("done", "failed", "cancelled")


class ExperimentResource(HttpClient):
    def plan(
        self, spec: Spec | Mapping[str, Any], remeasure: bool = False, *, fresh: bool | None = None
    ) -> schemas.PlanPreview:
        """Return the number of evaluations that submitting would run, and the estimated time.

        fresh: deprecated name of `remeasure`.
        """
        sent = schemas.Submission(spec=as_json(spec), fresh=_remeasure(remeasure, fresh))
        body = sent.model_dump(mode="json")
        return schemas.PlanPreview.model_validate(self._request("POST", "/v1/plan", json=body))

    def submit(
        self,
        spec: Spec | Mapping[str, Any],
        name: str = "",
        tags: Sequence[str] = (),
        notes: str = "",
        priority: int = 0,
        remeasure: bool = False,
        webhook: str | None = None,
        *,
        fresh: bool | None = None,
    ) -> Experiment:
        """Submit an experiment. Raises RequestRejectedError naming the invalid field.

        remeasure: ignore cached results and compare the new numbers with them (`fresh` is its
        deprecated name). webhook: URL to notify when the experiment finishes or fails.
        """
        sent = schemas.Submission(
            name=name,
            tags=list(tags),
            notes=notes,
            priority=priority,
            fresh=_remeasure(remeasure, fresh),
            webhook=webhook,
            spec=as_json(spec),
        )
        return self._experiment("POST", "/v1/experiments", json=sent.model_dump(mode="json"))

    def experiments(self, **filters: Any) -> ExperimentPage:
        """Return a page of experiments, newest first; see ucurve.schemas.search for the filters."""
        return ExperimentPage.model_validate(
            self._request("GET", "/v1/experiments", params=filters)
        )

    def filter_options(self) -> FilterOptions:
        """Return the values that experiments can be filtered by."""
        return FilterOptions.model_validate(self._request("GET", "/v1/choices"))

    def experiment(self, id: int) -> Experiment:
        """Return one experiment with its progress."""
        return self._experiment("GET", f"/v1/experiments/{id}")

    def cancel(self, id: int) -> Experiment:
        """Stop an experiment; finished evaluations are kept, and `retry` resumes the rest."""
        return self._experiment("POST", f"/v1/experiments/{id}/cancel")

    def pause(self, id: int) -> Experiment:
        """Pause an experiment; `resume` continues it."""
        return self._experiment("POST", f"/v1/experiments/{id}/pause")

    def resume(self, id: int) -> Experiment:
        """Continue a paused experiment."""
        return self._experiment("POST", f"/v1/experiments/{id}/resume")

    def retry(self, id: int) -> Experiment:
        """Run the failed evaluations again, and resume a cancelled experiment."""
        return self._experiment("POST", f"/v1/experiments/{id}/retry")

    def wait(
        self,
        id: int,
        on_progress: Callable[[Experiment], None] | None = None,
        timeout: float | None = None,
        poll: float = 0.5,
    ) -> Experiment:
        """Return the experiment once it is done, failed or cancelled.

        timeout, poll: in seconds. Raises TimeoutError after `timeout`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        last_answer = time.monotonic()
        while True:
            try:
                experiment = self.experiment(id)
            except ApiUnavailableError:
                if time.monotonic() > last_answer + API_RESTART_SECONDS:
                    raise
                continue
            last_answer = time.monotonic()
            if on_progress is not None:
                on_progress(experiment)
            if experiment.state in FINISHED:
                return experiment
            if deadline is not None and time.monotonic() > deadline:
                counts = experiment.progress
                raise TimeoutError(
                    f"experiment {id} is {experiment.state} at {counts.done} of {counts.total} "
                    f"evaluations after {timeout:g} s"
                )
            time.sleep(poll)

    def extend(
        self, id: int, draws: int | None = None, changes: Mapping[str, Any] | None = None
    ) -> Experiment:
        """Submit an experiment again with more seeds or other values; cached results are reused.

        draws: number of seeds to add. changes: field values, such as {"gammas": [0.1, 0.2, 0.4]}.
        """
        sent = Extension(draws=draws, changes=dict(changes or {})).model_dump(mode="json")
        return self._experiment("POST", f"/v1/experiments/{id}/extend", json=sent)

    def edit(self, id: int, **fields: Any) -> Experiment:
        """Set name, tags, notes, priority, archived or webhook; other fields stay as they are."""
        sent = Edit(**fields).model_dump(mode="json", exclude_unset=True)
        return self._experiment("PATCH", f"/v1/experiments/{id}", json=sent)

    def star(self, id: int, starred: bool = True) -> Experiment:
        """Add or remove your star."""
        method = "PUT" if starred else "DELETE"
        return self._experiment(method, f"/v1/experiments/{id}/star")

    def stars(self) -> list[int]:
        """Return the ids of the experiments you starred."""
        return list_of(int, self._request("GET", "/v1/stars"))

    def delete(self, id: int) -> None:
        """Delete an experiment; its measurements stay in the cache."""
        self._send("DELETE", f"/v1/experiments/{id}")

    def webhook_deliveries(self, id: int) -> list[WebhookDelivery]:
        """Return an experiment's webhook calls, sent and scheduled."""
        return list_of(WebhookDelivery, self._request("GET", f"/v1/experiments/{id}/notices"))

    def _experiment(self, method: str, path: str, **options: Any) -> Experiment:
        return Experiment.model_validate(self._request(method, path, **options))

    choices = deprecated_method("choices", "filter_options")
    notices = deprecated_method("notices", "webhook_deliveries")


def _remeasure(remeasure: bool, fresh: bool | None) -> bool:
    if fresh is None:
        return remeasure
    warn_renamed("fresh=", "remeasure=")
    return fresh
