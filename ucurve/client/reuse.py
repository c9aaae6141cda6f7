"""Calls about what happens to an experiment later: extended, edited, starred, deleted, compared with the first numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ucurve.client.http import Wire, list_of
from ucurve.schemas import experiments as schemas
from ucurve.schemas.editing import Edit, Extension
from ucurve.schemas.point_file import PointFile
from ucurve.schemas.reproducibility import Agreement


class ReuseCalls(Wire):
    def extend(
        self, id: int, draws: int | None = None, changes: Mapping[str, Any] | None = None
    ) -> schemas.Experiment:
        """The same experiment with so many more draws or seeds, or with other values of its fields, as a new one that reuses what
        is measured: extend(7, changes={"gammas": [0.1, 0.2, 0.4]}).
        """
        sent = Extension(draws=draws, changes=dict(changes or {}))
        answer = self._request(
            "POST", f"/v1/experiments/{id}/extend", json=sent.model_dump(mode="json")
        )
        return schemas.Experiment.model_validate(answer)

    def edit(self, id: int, **fields: Any) -> schemas.Experiment:
        """Change name, tags, notes, priority, archived or webhook; what is not given stays."""
        sent = Edit(**fields).model_dump(mode="json", exclude_unset=True)
        return schemas.Experiment.model_validate(
            self._request("PATCH", f"/v1/experiments/{id}", repeat=True, json=sent)
        )

    def star(self, id: int, starred: bool = True) -> schemas.Experiment:
        """Put your own star on an experiment, or take it off."""
        method = "PUT" if starred else "DELETE"
        return schemas.Experiment.model_validate(
            self._request(method, f"/v1/experiments/{id}/star", repeat=True)
        )

    def stars(self) -> list[int]:
        """The numbers of the experiments that carry your star."""
        return list_of(int, self._request("GET", "/v1/stars"))

    def delete(self, id: int) -> None:
        """Remove the experiment; what it measured stays and is found again by whoever plans it."""
        self._send("DELETE", f"/v1/experiments/{id}", repeat=False)

    def agreement(self, id: int, limit: int = 50) -> Agreement:
        """How far the numbers of a fresh experiment agree with the first ones."""
        found = self._request("GET", f"/v1/experiments/{id}/agreement", params={"limit": limit})
        return Agreement.model_validate(found)

    def point(self, measurement: int) -> PointFile:
        """A number as the file that repeats it on another machine."""
        return PointFile.model_validate(
            self._request("GET", f"/v1/measurements/{measurement}/point.json")
        )
