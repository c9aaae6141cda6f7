"""Suites and datasets in the database; errors about missing ones say how to register them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.trials import with_live_reasons
from api.weights import remarks_of
from db import layouts
from db.models import Checkpoint as CheckpointRow
from db.models import Dataset as DatasetRow
from db.models import Layout as LayoutRow
from db.models import Suite as SuiteRow
from ucurve.registry import presets
from ucurve.registry.file_remarks import file_remarks
from ucurve.registry.suite_warnings import suite_warnings
from ucurve.registry.suites import Checkpoint, Dataset, Suite, sort_checkpoints
from ucurve.registry.tensors.tensor_layout import Layout
from ucurve.schemas.validation_messages import suggest
from ucurve.spec import SpecError


class DatabaseCatalogue:
    """The catalogue of Spec.plan(), which collects warnings about the suites it returns.

    A lookup ends its transaction, because planning thousands of points takes longer than a
    transaction may be idle: plan before writing anything.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.warnings: list[str] = []

    def find_suite(self, name: str) -> Suite | None:
        return find_suite(self.session, name)

    def suite(self, name: str, field: str = "suite") -> Suite:
        suite = self.find_suite(name)
        if suite is None:
            raise SpecError(field, self._no_suite(name))
        suite = with_layouts(self.session, suite)
        self.session.commit()
        self.warnings += [f"{name}: {warning}" for warning in suite.warnings]
        return suite

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        row = self.session.get(DatasetRow, name)
        if row is None:
            raise SpecError(field, self.no_dataset(name))
        if row.unresolved:
            raise SpecError(field, f"Dataset {name}: {row.unresolved}.")
        self.session.commit()
        return as_dataset(row)

    def _no_suite(self, name: str) -> str:
        preset = {preset.name: preset for preset in presets.suites()}.get(name)
        if preset:
            return (
                f"Suite {name!r} is not registered yet: "
                f"`ucurve suites add {name} --hub {preset.hub}`."
            )
        if name in [group.name for group in presets.replicated()]:
            return (
                f"Suite {name!r} is not registered yet: `ucurve suites add {name} --preset {name}`."
            )
        similar = suggest(name, self.session.scalars(select(SuiteRow.name)))
        return (
            f"There is no suite {name!r}. {similar} Register one: "
            "`ucurve suites add NAME --path DIR` or `--hub OWNER/NAME`."
        )

    def no_dataset(self, name: str) -> str:
        """Return the error for a dataset that does not exist, with the remedy."""
        if name in [preset.name for preset in presets.datasets()]:
            return (
                f"Dataset {name!r} is not registered yet: "
                f"`ucurve datasets add {name} --preset {name}`."
            )
        similar = suggest(name, self.session.scalars(select(DatasetRow.name)))
        return (
            f"There is no dataset {name!r}. {similar} Register one: "
            "`ucurve datasets add NAME --text FILE`."
        )


def find_suite(session: Session, name: str) -> Suite | None:
    """Return the suite of a name with its checkpoints; None when there is none."""
    suites = suites_of(session, [name])
    return suites[0] if suites else None


def suites_of(session: Session, names: Sequence[str] | None = None) -> list[Suite]:
    """Return suites by name (all when None) with their checkpoints in order and warnings."""
    query = select(SuiteRow).order_by(SuiteRow.name)
    rows = list(session.scalars(query if names is None else query.where(SuiteRow.name.in_(names))))
    checkpoints: dict[str, list[Checkpoint]] = {row.name: [] for row in rows}
    for checkpoint in session.scalars(
        select(CheckpointRow).where(CheckpointRow.suite.in_(checkpoints))
    ):
        checkpoints[checkpoint.suite].append(as_checkpoint(checkpoint))
    remarks = {
        name: [*of_weights, *file_remarks(checkpoints[name])]
        for name, of_weights in remarks_of(session, checkpoints).items()
    }
    listed = {
        name: sort_checkpoints(with_live_reasons(session, entries))
        for name, entries in checkpoints.items()
    }
    return [
        Suite(
            name=row.name,
            description=row.description,
            checkpoints=listed[row.name],
            evaluation=row.evaluation,
            recipe=row.recipe,
            warnings=suite_warnings(listed[row.name], remarks[row.name]),
            remarks=remarks[row.name],
        )
        for row in rows
    ]


def with_layouts(session: Session, suite: Suite) -> Suite:
    """Return the suite with the stored layouts of its checkpoints."""
    hashes = {c.layout_sha256 for c in suite.checkpoints if c.layout_sha256}
    rows = layouts.find(session, hashes)
    parameters = layouts.loaded_names(session, {c.structure for c in suite.checkpoints} - {None})
    return suite.with_layouts({row.sha256: as_layout(row) for row in rows}, parameters)


def as_layout(row: LayoutRow) -> Layout:
    """Return the record of a row."""
    return Layout(architecture=row.architecture, tied=row.tied, tensors=row.tensors)


def as_checkpoint(row: CheckpointRow) -> Checkpoint:
    """Return the record of a row."""
    return Checkpoint.model_validate(_columns(row, Checkpoint.model_fields))


def as_dataset(row: DatasetRow) -> Dataset:
    """Return the record of a row."""
    return Dataset.model_validate(_columns(row, Dataset.model_fields))


def _columns(row: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
