"""Calls about what leaves and enters the lab: tables of an export, batches of an import, webhook calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ucurve.client.http import Wire, list_of
from ucurve.schemas import import_export
from ucurve.schemas.webhooks import Notice


class ExchangeCalls(Wire):
    def notices(self, id: int) -> list[Notice]:
        """Webhook calls about an experiment, made or due."""
        return list_of(Notice, self._request("GET", f"/v1/experiments/{id}/notices"))

    def export_sizes(self, **filters: Any) -> import_export.Sizes:
        """How many rows each table of an export has; filters: experiment (a list), tag, suite, owner."""
        return import_export.Sizes.model_validate(
            self._request("GET", "/v1/export", params=_given(filters), timeout=300.0)
        )

    def export_pages(self, table: str, **filters: Any) -> Iterator[list[dict[str, Any]]]:
        """The rows of a table, page by page."""
        after: dict[str, str] | None = {}
        while after is not None:
            params = {**_given(filters), **after}
            answer = self._send(
                "GET", f"/v1/export/{table}", params=params, repeat=True, timeout=300.0
            )
            yield [json.loads(line) for line in answer.text.split("\n") if line]
            after = (
                {"after": answer.headers["Ucurve-Next"]}
                if "Ucurve-Next" in answer.headers
                else None
            )

    # An import may be sent again: what is there already is recognised.

    def import_catalogue(self, sent: Mapping[str, Any]) -> import_export.MergedCatalogue:
        return import_export.MergedCatalogue.model_validate(self._import("catalogue", sent))

    def import_measurements(
        self, origin: str, measurements: Sequence[Mapping[str, Any]]
    ) -> import_export.MergedMeasurements:
        found = self._import("measurements", {"origin": origin, "measurements": measurements})
        return import_export.MergedMeasurements.model_validate(found)

    def import_experiment(self, sent: Mapping[str, Any]) -> import_export.MergedExperiment:
        return import_export.MergedExperiment.model_validate(self._import("experiments", sent))

    def _import(self, what: str, sent: Mapping[str, Any]) -> Any:
        return self._request("POST", f"/v1/import/{what}", json=sent, repeat=True, timeout=600.0)


def _given(filters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in filters.items() if value is not None}
