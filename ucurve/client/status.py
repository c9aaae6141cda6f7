"""The state of the lab, and retrying what failed for one cause."""

from __future__ import annotations

from ucurve.client.http import HttpClient, list_of
from ucurve.schemas.status import LabStatus, RetriedFailures
from ucurve.schemas.workers import WorkerInfo


class StatusResource(HttpClient):
    def status(self) -> LabStatus:
        """Return workers and what they do now, the queue by user, and recent failures by cause."""
        return LabStatus.model_validate(self._request("GET", "/v1/status"))

    def workers(self) -> list[WorkerInfo]:
        """Return the last reported state of every worker."""
        return list_of(WorkerInfo, self._request("GET", "/v1/workers"))

    def retry_failures(self, cause: str) -> RetriedFailures:
        """Queue failed points of one cause again; `status().failures` lists the causes."""
        return RetriedFailures.model_validate(self._request("POST", f"/v1/failures/{cause}/retry"))
