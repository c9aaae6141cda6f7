"""Results of an experiment: rows, table, figures, verdicts, provenance."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from ucurve.analysis.measurement_table import to_frame
from ucurve.client.deprecation import deprecated_method
from ucurve.client.display import Figures, Verdict, Verdicts
from ucurve.client.experiments import ExperimentResource
from ucurve.client.http import list_of
from ucurve.schemas.measurements import (
    ExperimentProvenance,
    MeasurementPage,
    MeasurementRow,
    Provenance,
)
from ucurve.schemas.point_file import PointFile
from ucurve.schemas.reproducibility import Agreement

if TYPE_CHECKING:
    import pandas as pd

Series = Literal["needed", "all", "none"]
Moment = str | datetime | None  # a time in the past, as ISO 8601 text or datetime; None: now


def moment_params(at: Moment) -> dict[str, str]:
    """Return the query parameters that select the state at a time."""
    return {} if at is None else {"at": at if isinstance(at, str) else at.isoformat()}


class ResultResource(ExperimentResource):
    def measurements(
        self, id: int, after: int = 0, series: Series = "needed", at: Moment = None
    ) -> MeasurementPage:
        """Return the rows that changed after a cursor; pass the page's cursor to the next call.

        series: curves to include per row: "needed" (read by figures and verdicts), "all" (also
        losses per window) or "none". at: return the table as it was at that time.
        """
        params = {"after": after, "series": series, **moment_params(at)}
        return MeasurementPage.model_validate(
            self._request("GET", f"/v1/experiments/{id}/measurements", params=params)
        )

    def rows(self, id: int, series: Series = "needed", at: Moment = None) -> list[MeasurementRow]:
        """Return all rows in the order of the plan."""
        latest: dict[int, MeasurementRow] = {}
        cursor, more = 0, True
        while more:
            page = self.measurements(id, cursor, series, at)
            latest.update({row.id: row for row in page.rows})
            cursor, more = page.cursor, page.more
        return sorted(latest.values(), key=lambda row: row.position)

    def table(self, id: int, series: Series = "needed", at: Moment = None) -> pd.DataFrame:
        """Return a frame with a row per evaluation and a column per label and metric."""
        return to_frame(self.rows(id, series, at))

    def csv(self, id: int, at: Moment = None) -> str:
        """Return the table as CSV text."""
        params = {"format": "csv", **moment_params(at)}
        path = f"/v1/experiments/{id}/measurements"
        return self._send("GET", path, params=params).text

    def figures(self, id: int, at: Moment = None) -> Figures:
        """Draw the figures by name from the results and verdicts so far."""
        from ucurve.experiments import parse
        from ucurve.figures.caveats import with_caveats

        spec = parse(self.experiment(id).spec)
        verdicts = self.verdicts(id, at)
        return Figures.of(with_caveats(spec.figures(self.table(id, at=at), verdicts), verdicts))

    def verdicts(self, id: int, at: Moment = None) -> Verdicts:
        """Return the verdict of every claim, now or at a time in the past."""
        params = moment_params(at)
        rows = self._request("GET", f"/v1/experiments/{id}/verdicts", params=params)
        return Verdicts(list_of(Verdict, rows))

    def provenance(self, measurement: int) -> Provenance:
        """Return the inputs of a measurement and every attempt at it."""
        return Provenance.model_validate(self._request("GET", f"/v1/measurements/{measurement}"))

    def experiment_provenance(self, id: int) -> ExperimentProvenance:
        """Return the checkpoints, datasets, workers and versions behind an experiment."""
        return ExperimentProvenance.model_validate(
            self._request("GET", f"/v1/experiments/{id}/origins")
        )

    def agreement(self, id: int, limit: int = 50) -> Agreement:
        """Compare the numbers of a re-measured experiment with the original ones.

        limit: number of differing points to return, largest difference first.
        """
        params = {"limit": limit}
        return Agreement.model_validate(
            self._request("GET", f"/v1/experiments/{id}/agreement", params=params)
        )

    def point(self, measurement: int) -> PointFile:
        """Return a measurement as a point file, which `ucurve measure` runs on any machine."""
        return PointFile.model_validate(
            self._request("GET", f"/v1/measurements/{measurement}/point.json")
        )

    origins = deprecated_method("origins", "experiment_provenance")
