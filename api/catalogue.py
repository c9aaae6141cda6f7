"""Suites and evaluation sets as the database knows them; what is missing is answered with how to get it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Checkpoint as CheckpointRow
from db.models import Dataset as DatasetRow
from db.models import Suite as SuiteRow
from ucurve.registry import presets
from ucurve.registry.suites import Checkpoint, Dataset, Suite, arrange, warnings_of
from ucurve.schemas.validation_messages import near
from ucurve.spec import SpecError


class DatabaseCatalogue:
    """What plan() may ask (ucurve.spec.Catalogue); notes the warnings of what was asked for."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.warnings: list[str] = []

    def find_suite(self, name: str) -> Suite | None:
        found = suites_of(self.session, [name])
        return found[0] if found else None

    def suite(self, name: str, field: str = "suite") -> Suite:
        found = self.find_suite(name)
        if found is None:
            raise SpecError(field, self._no_suite(name))
        self.warnings += [f"{name}: {warning}" for warning in found.warnings]
        return found

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        row = self.session.get(DatasetRow, name)
        if row is None:
            raise SpecError(field, self.no_dataset(name))
        if row.unresolved:
            raise SpecError(field, f"Evaluation set {name}: {row.unresolved}.")
        return as_dataset(row)

    def _no_suite(self, name: str) -> str:
        preset = {preset.name: preset for preset in presets.suites()}.get(name)
        if preset:
            return f"Suite {name!r} is not registered yet: `ucurve suites add {name} --hub {preset.hub}`."
        close = near(name, self.session.scalars(select(SuiteRow.name)))
        return f"There is no suite {name!r}. {close} Register one: `ucurve suites add NAME --path DIR` or `--hub OWNER/NAME`."

    def no_dataset(self, name: str) -> str:
        if name in [preset.name for preset in presets.datasets()]:
            return f"Evaluation set {name!r} is not registered yet: `ucurve datasets add {name} --preset {name}`."
        close = near(name, self.session.scalars(select(DatasetRow.name)))
        return f"There is no evaluation set {name!r}. {close} Register one: `ucurve datasets add NAME --text FILE`."


def suites_of(session: Session, names: Sequence[str] | None = None) -> list[Suite]:
    """Suites by name (all when None), each with its checkpoints in order and its warnings."""
    found = select(SuiteRow).order_by(SuiteRow.name)
    rows = list(session.scalars(found if names is None else found.where(SuiteRow.name.in_(names))))
    checkpoints: dict[str, list[Checkpoint]] = {row.name: [] for row in rows}
    for checkpoint in session.scalars(
        select(CheckpointRow).where(CheckpointRow.suite.in_(checkpoints))
    ):
        checkpoints[checkpoint.suite].append(as_checkpoint(checkpoint))
    return [
        Suite(
            name=row.name,
            description=row.description,
            checkpoints=arrange(checkpoints[row.name]),
            evaluation=row.evaluation,
            recipe=row.recipe,
            warnings=warnings_of(checkpoints[row.name]),
        )
        for row in rows
    ]


def as_checkpoint(row: CheckpointRow) -> Checkpoint:
    return Checkpoint.model_validate(_fields(row, Checkpoint.model_fields))


def as_dataset(row: DatasetRow) -> Dataset:
    return Dataset.model_validate(_fields(row, Dataset.model_fields))


def _fields(row: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
