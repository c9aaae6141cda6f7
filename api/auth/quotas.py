"""Quotas: points of one experiment, and queued points of all unfinished experiments of a user.

A user's own limits (`ucurve users set`) take precedence over the lab's: UCURVE_MOST_PLANNED and
UCURVE_MOST_QUEUED.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.errors import ApiError, invalid
from db import users
from ucurve.schemas.problems import FieldError
from ucurve.settings import settings


@dataclass(frozen=True)
class Quota:
    """A user's limits, and how many of their points are queued."""

    owner: str
    max_points_per_experiment: int
    max_queued_points: int
    num_queued: int

    def plan_refusal(self, num_points: int) -> str | None:
        """Return why an experiment of this size would be refused, None where it would not."""
        if num_points <= self.max_points_per_experiment:
            return None
        return (
            f"This experiment has {num_points:,} points; the limit of {self.owner} is "
            f"{self.max_points_per_experiment:,}. Use fewer values or draws, or ask an admin: "
            f"ucurve users set {self.owner} --most-planned {num_points}"
        )

    def queue_refusal(self, num_new: int) -> str | None:
        """Return why that many more points would not be queued, None where they would."""
        if self.num_queued + num_new <= self.max_queued_points:
            return None
        return (
            f"{self.num_queued:,} points of {self.owner} are queued; {num_new:,} more would exceed "
            f"the limit of {self.max_queued_points:,}. {self._remedy(self.num_queued + num_new)}"
        )

    def overflow(self) -> str | None:
        """Return why what is queued already is too much, None where it is not."""
        if self.num_queued <= self.max_queued_points:
            return None
        return (
            f"{self.num_queued:,} points of {self.owner} would be queued; the limit is "
            f"{self.max_queued_points:,}. {self._remedy(self.num_queued)}"
        )

    def _remedy(self, num_points: int) -> str:
        return (
            "Wait, cancel an experiment, or ask an admin: "
            f"ucurve users set {self.owner} --most-queued {num_points}"
        )


def quota(session: Session, owner: str) -> Quota:
    """Return the limits of a user and what they have queued, as this transaction sees it."""
    rows = users.users(session, owner)
    max_planned, max_queued = lab_limits()
    if not rows:
        return Quota(owner, max_planned, max_queued, 0)
    row = rows[0]
    return Quota(
        owner,
        max_planned if row.most_planned is None else row.most_planned,
        max_queued if row.most_queued is None else row.most_queued,
        int(row.num_queued),
    )


def lab_limits() -> tuple[int, int]:
    """Return the lab's limits: (points per experiment, queued points)."""
    return settings().most_planned, settings().most_queued


def check_planned(session: Session, owner: str, *sizes: int) -> None:
    """Answer 422 for an experiment that is too large, before anything is written."""
    if refusal := quota(session, owner).plan_refusal(max(sizes)):
        raise invalid("/spec", refusal)


def check_queued(session: Session, owner: str) -> None:
    """Answer 429 where the uncommitted rows exceed the user's limit.

    Locks the user's row, so that concurrent submissions count each other.
    """
    users.lock_user(session, owner)
    if refusal := quota(session, owner).overflow():
        raise ApiError(
            429, "Too many points are queued.", [FieldError(pointer="/spec", detail=refusal)]
        )
