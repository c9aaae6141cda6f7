"""The catalogue: suites, datasets, reference curves, and the studies that use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ucurve.client.display import Experiment, Figures, Verdict, Verdicts
from ucurve.client.http import HttpClient, checked, list_of
from ucurve.experiments.study import Study
from ucurve.registry.suites import PENDING, Dataset, Suite
from ucurve.schemas.catalogue import (
    FORMATS,
    PACKINGS,
    DatasetSubmission,
    SuitePreview,
    SuiteSubmission,
    UploadedFile,
)
from ucurve.schemas.disks import DiskInfo
from ucurve.schemas.references import Importer, ReferenceCurve, ReferenceSubmission, SentFile
from ucurve.spec import Figure, Spec

REGISTRATION_TIMEOUT = 600.0  # seconds: large checkpoints are hashed, hub refs are listed


class CatalogueResource(HttpClient):
    def suites(self) -> list[Suite]:
        """Return all suites with their checkpoints."""
        return list_of(Suite, self._request("GET", "/v1/suites"))

    def add_suite(
        self, name: str, path: str | None = None, hub: str | None = None, **options: Any
    ) -> Suite:
        """Register a suite from a folder of checkpoints or a Hugging Face repository.

        options: further fields of ucurve.schemas.catalogue.SuiteSubmission.
        """
        return Suite.model_validate(self._send_suite("/v1/suites", name, path, hub, options))

    def preview_suite(
        self, name: str, path: str | None = None, hub: str | None = None, **options: Any
    ) -> SuitePreview:
        """Return what `add_suite` would register: the position of each revision, and from where.

        To correct it, edit `table` (CSV) and pass it to both as `positions`.
        """
        return SuitePreview.model_validate(
            self._send_suite("/v1/suites/preview", name, path, hub, options)
        )

    def _send_suite(
        self, route: str, name: str, path: str | None, hub: str | None, options: Mapping[str, Any]
    ) -> Any:
        fields = {"name": name, "path": path, "hub": hub, **options}
        sent = checked(SuiteSubmission, fields).model_dump(mode="json", exclude_none=True)
        return self._request("POST", route, json=sent, timeout=REGISTRATION_TIMEOUT)

    def datasets(self) -> list[Dataset]:
        """Return all datasets."""
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
        column: str | None = None,
    ) -> Dataset:
        """Register a text, two files of fine-tuning examples, or a preset of the hub.

        Files are named by paths below a folder that the lab reads, or as `upload` returns them.
        column: that of the documents of a data file, where it is not called text.
        """
        fields = {
            "name": name,
            "text": text,
            "train": train,
            "validation": validation,
            "preset": preset,
            "description": description,
            "column": column,
        }
        sent = checked(DatasetSubmission, fields).model_dump(mode="json")
        return Dataset.model_validate(
            self._request("POST", "/v1/datasets", json=sent, timeout=REGISTRATION_TIMEOUT)
        )

    def upload(self, file: Path | str) -> str:
        """Store a text or a file of examples in the lab; return its name for `add_dataset`."""
        path = Path(file)
        suffixes = [suffix.removeprefix(".").lower() for suffix in path.suffixes]
        packing = suffixes.pop() if suffixes and suffixes[-1] in PACKINGS else None
        form = {"ndjson": "jsonl"}.get(suffixes[-1], suffixes[-1]) if suffixes else "txt"
        params = {"suffix": form if form in FORMATS else "txt"}
        params |= {"packing": packing} if packing else {}
        sent = self._request(
            "POST",
            "/v1/uploads",
            params=params,
            content=path.read_bytes(),
            headers={"Content-Type": "application/octet-stream"},
            timeout=REGISTRATION_TIMEOUT,
        )
        return UploadedFile.model_validate(sent).file

    def references(self, suite: str | None = None, text: str = "") -> list[ReferenceCurve]:
        """Return all reference curves, or those of one suite or with these words."""
        params = {"suite": suite} if suite else {}
        params |= {"text": text} if text else {}
        return list_of(ReferenceCurve, self._request("GET", "/v1/references", params=params))

    def add_reference(
        self,
        name: str,
        importer: Importer,
        files: Sequence[SentFile],
        suite: str | None = None,
        citation: str = "",
        same_model: str = "",
    ) -> ReferenceCurve:
        """Add a reference curve from files.

        same_model: how the files call the model, where the suite has it under another name.

        Raises RequestRejectedError naming file, line and column.
        """
        sent = ReferenceSubmission(
            name=name,
            importer=importer,
            files=list(files),
            suite=suite,
            citation=citation,
            same_model=same_model,
        )
        return ReferenceCurve.model_validate(
            self._request("POST", "/v1/references", json=sent.model_dump(mode="json"))
        )

    def remove_reference(self, id: int) -> None:
        """Delete a reference curve."""
        self._send("DELETE", f"/v1/references/{id}")

    def with_references(self, spec: Spec, figures: Mapping[str, Figure]) -> Figures:
        """Draw the reference curves of the spec's suite over its figures.

        Curves measured on another dataset are left out.
        """
        from ucurve.figures.published import available_curves, metrics_of, with_curves

        suite = getattr(spec, "suite", None)
        curves = self.references(suite) if suite else []
        if not curves:
            return Figures.of(figures)
        evaluation = getattr(spec, "evaluation", None)
        options = available_curves(curves, str(suite), metrics_of(figures), evaluation)
        same_dataset = [(id, metric) for id, metric, same in options.values() if same]
        return Figures.of(with_curves(figures, curves, same_dataset))

    def disks(self) -> list[DiskInfo]:
        """Return the disks that the lab writes to, with their free space."""
        return list_of(DiskInfo, self._request("GET", "/v1/disks"))

    def studies(self) -> list[Study]:
        """Return the built-in studies."""
        return list_of(Study, self._request("GET", "/v1/studies"))

    def prepare(self, study: Study) -> str | None:
        """Register the study's missing suites and datasets.

        Returns None when the study can be submitted, else the pending work: "3 of 8 checkpoints of
        tiny are being hashed" or tried. Call it again until it returns None.
        """
        registered = {suite.name: suite for suite in self.suites()} if study.suites else {}
        names = {dataset.name for dataset in self.datasets()} if study.datasets else set()
        for dataset in study.datasets:
            if dataset.name not in names:
                self.add_dataset(**dataset.model_dump())
        for needed in study.suites:
            suite = registered.get(needed.name) or self.add_suite(**needed.model_dump())
            pending = [checkpoint for checkpoint in suite.checkpoints if checkpoint.is_pending]
            if pending:
                hashed = any((c.unresolved or "").startswith(PENDING) for c in pending)
                are = "are being hashed" if hashed else f"are {pending[0].unresolved}"
                return (
                    f"{len(pending)} of {len(suite.checkpoints)} checkpoints of {suite.name} {are}"
                )
        return None

    def submit_study(self, study: Study) -> list[Experiment]:
        """Submit all experiments of the study, or none.

        Raises RequestRejectedError naming the experiment and its invalid field.
        """
        sent = study.model_dump(mode="json")
        return list_of(Experiment, self._request("POST", "/v1/studies", json=sent))

    def study_verdicts(self, ids: Sequence[int]) -> Verdicts:
        """Return the combined verdicts of several experiments."""
        params = {"experiment": list(ids)}
        rows = self._request("GET", "/v1/studies/verdicts", params=params, timeout=120.0)
        return Verdicts(list_of(Verdict, rows))
