"""What a plan says beside its numbers: a preview and a submission say the same."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from api.catalogue import DatabaseCatalogue
from api.plan_counts import PlanCounts
from api.plan_texts import PlanTexts
from db.label_conflicts import label_conflicts
from ucurve.formatting import label_conflict_warning
from ucurve.spec import Spec


class PlanMessages(NamedTuple):
    """What to check before submitting, and what to know of the texts."""

    warnings: list[str]
    notes: list[str]


def plan_messages(
    session: Session,
    catalogue: DatabaseCatalogue,
    spec: Spec,
    counts: PlanCounts,
    texts: PlanTexts,
) -> PlanMessages:
    """Return the messages of a plan whose rows were built with this catalogue and counted."""
    warnings = [
        *catalogue.warnings,
        *spec.warnings(catalogue),
        *_conflict_warnings(session, spec.kind, counts.new_rows),
    ]
    return PlanMessages(list(dict.fromkeys(warnings)), texts.notes)


def _conflict_warnings(session: Session, kind: str, new: list[dict[str, Any]]) -> list[str]:
    """Return warnings about results that exist under the same labels but differ otherwise."""
    conflicts = label_conflicts(session, kind, new) if new else {}
    return [label_conflict_warning(reason, num) for reason, num in conflicts.items()]
