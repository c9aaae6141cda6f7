"""Calls about an experiment's results: rows, table, figures, verdicts, provenance."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from ucurve.client.experiments import ExperimentCalls
from ucurve.client.http import list_of
from ucurve.schemas import experiments as schemas
from ucurve.spec import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

Series = Literal["needed", "all", "none"]
Moment = str | datetime | None  # as ISO 8601 writes it; None: now


def moment(at: Moment) -> dict[str, str]:
    """The query's part that asks for the table as it stood then."""
    return {} if at is None else {"at": at if isinstance(at, str) else at.isoformat()}


class ResultCalls(ExperimentCalls):
    def measurements(
        self, id: int, after: int = 0, series: Series = "needed", at: Moment = None
    ) -> schemas.MeasurementPage:
        """Rows that changed after a cursor; ask again with the page's cursor. series: curves with each row, those that figures
        and verdicts read, all (a loss per window of text, say), or none. at: the table as it stood then.
        """
        params = {"after": after, "series": series, **moment(at)}
        found = self._request("GET", f"/v1/experiments/{id}/measurements", params=params)
        return schemas.MeasurementPage.model_validate(found)

    def rows(
        self, id: int, series: Series = "needed", at: Moment = None
    ) -> list[schemas.MeasurementRow]:
        """All rows as they are now, or stood at a moment, in the plan's order."""
        latest: dict[int, schemas.MeasurementRow] = {}
        cursor, more = 0, True
        while more:
            page = self.measurements(id, cursor, series, at)
            latest.update({row.id: row for row in page.rows})
            cursor, more = page.cursor, page.more
        return sorted(latest.values(), key=lambda row: row.position)

    def table(self, id: int, series: Series = "needed", at: Moment = None) -> pd.DataFrame:
        """The experiment's table: a row per point, a column per label and metric (see records.frame)."""
        return schemas.frame(self.rows(id, series, at))

    def csv(self, id: int, at: Moment = None) -> str:
        """The table as the API writes it."""
        return self._send(
            "GET",
            f"/v1/experiments/{id}/measurements",
            params={"format": "csv", **moment(at)},
            repeat=True,
        ).text

    def figures(self, id: int, at: Moment = None) -> dict[str, Figure]:
        """The figures by short name, drawn here from the rows there are."""
        from ucurve.experiments import parse

        return parse(self.experiment(id).spec).figures(self.table(id, at=at))

    def verdicts(self, id: int, at: Moment = None) -> list[Verdict]:
        """What the data supports, or supported at a moment, claim by claim."""
        return list_of(
            Verdict, self._request("GET", f"/v1/experiments/{id}/verdicts", params=moment(at))
        )

    def provenance(self, measurement: int) -> schemas.Provenance:
        """What determined a number, and every attempt at it."""
        return schemas.Provenance.model_validate(
            self._request("GET", f"/v1/measurements/{measurement}")
        )

    def origins(self, id: int) -> schemas.Origins:
        """Where all numbers of an experiment come from."""
        return schemas.Origins.model_validate(self._request("GET", f"/v1/experiments/{id}/origins"))
