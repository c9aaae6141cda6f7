"""Calls over all measurements of the lab: pivots, points, what there is to choose from, and tables as files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from ucurve.client.http import Wire, checked
from ucurve.schemas.explorer import (
    Facets,
    FoundPoint,
    FoundPoints,
    PageAsked,
    Pivot,
    PivotAsked,
    Sought,
    TableAsked,
)


class ExplorerCalls(Wire):
    def facets(self, **sought: Any) -> Facets:
        """Suites, kinds, evaluation sets, labels with their values, and metrics (see ucurve.schemas.explorer)."""
        return Facets.model_validate(
            self._request("GET", "/v1/explorer/facets", params=_given(Sought, sought))
        )

    def pivot(self, **asked: Any) -> Pivot:
        """A metric of everything that was measured: client.pivot(suite=["tiny"], rows="tokens", columns="gamma")."""
        return Pivot.model_validate(
            self._request("GET", "/v1/explorer/pivot", params=_given(PivotAsked, asked))
        )

    def find(self, before: int | None = None, limit: int = 100, **sought: Any) -> FoundPoints:
        """A page of the matching points, the newest first."""
        asked = _given(PageAsked, {"before": before, "limit": limit, **sought})
        return FoundPoints.model_validate(self._request("GET", "/v1/explorer/points", params=asked))

    def find_all(self, **sought: Any) -> Iterator[FoundPoint]:
        """All matching points, page after page."""
        before: int | None = None
        while True:
            page = self.find(before, 500, **sought)
            yield from page.points
            if page.next is None:
                return
            before = page.next

    def found_table(self, format: Literal["csv", "parquet"] = "csv", **sought: Any) -> bytes:
        """All matching points as a file: a column per label and metric, inf and NaN as such."""
        asked = _given(TableAsked, {"format": format, **sought})
        return self._send(
            "GET", "/v1/explorer/table", params=asked, repeat=True, timeout=600.0
        ).content


def _given(asked: type[Sought], sent: dict[str, Any]) -> dict[str, Any]:
    return checked(asked, sent).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
