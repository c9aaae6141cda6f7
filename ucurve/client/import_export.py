"""Import and export: tables page by page, batches of another lab's rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ucurve.client.http import HttpClient
from ucurve.schemas import import_export

EXPORT_TIMEOUT = 300.0  # seconds a page
IMPORT_TIMEOUT = 600.0  # seconds a batch


class ImportExportResource(HttpClient):
    def export_sizes(self, **filters: Any) -> import_export.TableCounts:
        """Return the number of rows of each table of an export.

        filters: experiment (a list of ids), tag, suite, owner.
        """
        params = _without_none(filters)
        return import_export.TableCounts.model_validate(
            self._request("GET", "/v1/export", params=params, timeout=EXPORT_TIMEOUT)
        )

    def export_pages(self, table: str, **filters: Any) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of a table, page by page."""
        cursor: dict[str, str] | None = {}
        while cursor is not None:
            params = {**_without_none(filters), **cursor}
            response = self._send(
                "GET", f"/v1/export/{table}", params=params, timeout=EXPORT_TIMEOUT
            )
            yield [json.loads(line) for line in response.text.split("\n") if line]
            after = response.headers.get("Ucurve-Next")
            cursor = None if after is None else {"after": after}

    # Imports are idempotent: rows are matched by identity, so a batch may be sent again.

    def import_catalogue(
        self, batch: Mapping[str, Any], check: bool = False
    ) -> import_export.ImportCatalogueResult:
        """Add missing suites, checkpoints, datasets and reference curves; check: store nothing."""
        return import_export.ImportCatalogueResult.model_validate(
            self._import("catalogue", batch, check)
        )

    def import_measurements(
        self, origin: str, measurements: Sequence[Mapping[str, Any]], check: bool = False
    ) -> import_export.ImportMeasurementsResult:
        """Merge measurements with their attempts; check: store nothing."""
        batch = {"origin": origin, "measurements": measurements}
        return import_export.ImportMeasurementsResult.model_validate(
            self._import("measurements", batch, check)
        )

    def import_experiment(self, batch: Mapping[str, Any]) -> import_export.ImportExperimentResult:
        """Add an experiment whose measurements have been imported."""
        return import_export.ImportExperimentResult.model_validate(
            self._import("experiments", batch)
        )

    def _import(self, table: str, batch: Mapping[str, Any], check: bool = False) -> Any:
        params = {"check": "true"} if check else {}
        return self._request(
            "POST", f"/v1/import/{table}", json=batch, params=params, timeout=IMPORT_TIMEOUT
        )


def _without_none(filters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in filters.items() if value is not None}
