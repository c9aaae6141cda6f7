"""The explorer: pivots, points and tables over all measurements of the lab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from ucurve.client.deprecation import deprecated_method
from ucurve.client.http import HttpClient, checked
from ucurve.schemas.explorer import (
    Facets,
    Pivot,
    PivotQuery,
    PointFilter,
    PointPage,
    PointPageQuery,
    PointRow,
    TableQuery,
)


class ExplorerResource(HttpClient):
    def facets(self, **filters: Any) -> Facets:
        """Return suites, experiment types, datasets, metrics, and labels with their values."""
        params = _query(PointFilter, filters)
        return Facets.model_validate(self._request("GET", "/v1/explorer/facets", params=params))

    def pivot(self, **query: Any) -> Pivot:
        """Aggregate a metric: client.pivot(suite=["tiny"], rows="tokens", columns="gamma")."""
        params = _query(PivotQuery, query)
        return Pivot.model_validate(self._request("GET", "/v1/explorer/pivot", params=params))

    def find(self, before: int | None = None, limit: int = 100, **filters: Any) -> PointPage:
        """Return a page of matching points, newest first."""
        params = _query(PointPageQuery, {"before": before, "limit": limit, **filters})
        return PointPage.model_validate(self._request("GET", "/v1/explorer/points", params=params))

    def find_all(self, **filters: Any) -> Iterator[PointRow]:
        """Yield all matching points, newest first."""
        before: int | None = None
        while True:
            page = self.find(before, 500, **filters)
            yield from page.points
            if page.next is None:
                return
            before = page.next

    def export_points(self, format: Literal["csv", "parquet"] = "csv", **filters: Any) -> bytes:
        """Return all matching points as a file: a column per label and metric, inf and NaN kept."""
        params = _query(TableQuery, {"format": format, **filters})
        return self._send("GET", "/v1/explorer/table", params=params, timeout=600.0).content

    found_table = deprecated_method("found_table", "export_points")


def _query(model: type[PointFilter], fields: dict[str, Any]) -> dict[str, Any]:
    return checked(model, fields).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
