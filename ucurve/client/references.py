"""Calls about reference curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ucurve.client.http import Wire, list_of
from ucurve.schemas.references import (
    Importer,
    ReferenceCurve,
    ReferenceSubmission,
    SentFile,
    choices,
    drawn_over,
    shown_metrics,
)
from ucurve.spec import Figure, Spec


class ReferenceCalls(Wire):
    def references(self, suite: str | None = None) -> list[ReferenceCurve]:
        """All curves, or those about a suite."""
        return list_of(
            ReferenceCurve,
            self._request("GET", "/v1/references", params={"suite": suite} if suite else {}),
        )

    def add_reference(
        self,
        name: str,
        importer: Importer,
        files: Sequence[SentFile],
        suite: str | None = None,
        citation: str = "",
    ) -> ReferenceCurve:
        """Add a curve from files. Raises RefusedError naming file, line and column."""
        sent = ReferenceSubmission(
            name=name, importer=importer, files=list(files), suite=suite, citation=citation
        )
        return ReferenceCurve.model_validate(
            self._request("POST", "/v1/references", json=sent.model_dump(mode="json"))
        )

    def with_references(self, spec: Spec, figures: Mapping[str, Figure]) -> dict[str, Figure]:
        """The figures of a spec with the curves of its suite on them, those measured on another text left out."""
        suite = getattr(spec, "suite", None)
        curves = self.references(suite) if suite else []
        found = (
            choices(curves, str(suite), shown_metrics(figures), getattr(spec, "evaluation", None))
            if curves
            else {}
        )
        return drawn_over(
            figures, curves, [(id, metric) for id, metric, own in found.values() if own]
        )

    def remove_reference(self, id: int) -> None:
        self._send("DELETE", f"/v1/references/{id}", repeat=False)
