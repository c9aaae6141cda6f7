"""Calls about what is registered: suites, evaluation sets, workers, and the studies that need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ucurve.client.http import Wire, checked, list_of
from ucurve.experiments.study import Study
from ucurve.registry.suites import PENDING, Dataset, Suite
from ucurve.schemas import experiments as schemas
from ucurve.spec import Verdict


class CatalogueCalls(Wire):
    def suites(self) -> list[Suite]:
        return list_of(Suite, self._request("GET", "/v1/suites"))

    def add_suite(
        self, name: str, path: str | None = None, hub: str | None = None, **more: Any
    ) -> Suite:
        """Register a folder of checkpoints, or a hub repository whose refs are listed."""
        body = checked(
            schemas.SuiteSubmission, {"name": name, "path": path, "hub": hub, **more}
        ).model_dump(mode="json")
        return Suite.model_validate(self._request("POST", "/v1/suites", json=body, timeout=600.0))

    def datasets(self) -> list[Dataset]:
        return list_of(Dataset, self._request("GET", "/v1/datasets"))

    def add_dataset(
        self,
        name: str,
        text: str | None = None,
        preset: Literal["wikitext-2", "sst2"] | None = None,
        description: str = "",
        *,
        train: str | None = None,
        validation: str | None = None,
    ) -> Dataset:
        """Register a UTF-8 text file, two files of examples to fine-tune on, or a preset of the hub."""
        given = {
            "name": name,
            "text": text,
            "train": train,
            "validation": validation,
            "preset": preset,
            "description": description,
        }
        sent = checked(schemas.DatasetSubmission, given)
        return Dataset.model_validate(
            self._request("POST", "/v1/datasets", json=sent.model_dump(mode="json"), timeout=600.0)
        )

    def workers(self) -> list[schemas.WorkerInfo]:
        return list_of(schemas.WorkerInfo, self._request("GET", "/v1/workers"))

    def studies(self) -> list[Study]:
        return list_of(Study, self._request("GET", "/v1/studies"))

    def prepare(self, study: Study) -> str | None:
        """Register what the study needs and is missing; what is still being looked up, None once it can be submitted."""
        suites = {suite.name: suite for suite in self.suites()} if study.suites else {}
        names = {dataset.name for dataset in self.datasets()} if study.datasets else set()
        for dataset in (one for one in study.datasets if one.name not in names):
            self.add_dataset(**dataset.model_dump())
        for suite in study.suites:
            found = suites.get(suite.name) or self.add_suite(**suite.model_dump())
            if pending := sum(
                (checkpoint.unresolved or "").startswith(PENDING)
                for checkpoint in found.checkpoints
            ):
                return f"{pending} of {len(found.checkpoints)} checkpoints of {suite.name} are being looked up"
        return None

    def submit_study(self, study: Study) -> list[schemas.Experiment]:
        """All experiments of the study, or none: RefusedError names the one and its field."""
        return list_of(
            schemas.Experiment,
            self._request("POST", "/v1/studies", json=study.model_dump(mode="json")),
        )

    def study_verdicts(self, ids: Sequence[int]) -> list[Verdict]:
        """What these experiments say together."""
        return list_of(
            Verdict,
            self._request(
                "GET", "/v1/studies/verdicts", params={"experiment": list(ids)}, timeout=120.0
            ),
        )
