"""The audit trail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ucurve.client.http import HttpClient
from ucurve.schemas.audit import AuditPage, AuditQuery, AuditRecord


class AuditResource(HttpClient):
    def audit(self, **query: Any) -> AuditPage:
        """Return a page of the audit trail, newest first (admins only).

        query: user, action, object, since, until, before, limit.
        """
        params = AuditQuery(**query).model_dump(mode="json", exclude_none=True)
        return AuditPage.model_validate(self._request("GET", "/v1/audit", params=params))

    def audit_records(self, page_size: int = 1000, **filters: Any) -> Iterator[AuditRecord]:
        """Yield all matching records of the audit trail, newest first (admins only)."""
        before: int | None = None
        while True:
            page = self.audit(**filters, before=before, limit=page_size)
            yield from page.records
            before = page.next
            if before is None:
                return
