"""How much one person may ask for: points of one experiment, and points that wait in all their unfinished ones.

A person's own limits (`ucurve users set`) go before the lab's: UCURVE_MOST_PLANNED and UCURVE_MOST_QUEUED.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.errors import ProblemError, invalid
from db import users
from ucurve.schemas.experiments import FieldProblem
from ucurve.settings import settings


@dataclass(frozen=True)
class Quota:
    owner: str
    most_planned: int
    most_queued: int
    num_queued: int

    def plan_refused(self, num_points: int) -> str | None:
        """Why an experiment of so many points would be refused."""
        if num_points <= self.most_planned:
            return None
        return (
            f"This is {num_points:,} points; {self.owner} may ask for {self.most_planned:,} in one experiment. Use fewer values "
            f"or draws, or ask an admin: ucurve users set {self.owner} --most-planned {num_points}"
        )

    def queue_refused(self, num_new: int) -> str | None:
        """Why so many further points would not be queued."""
        if self.num_queued + num_new <= self.most_queued:
            return None
        return (
            f"{self.num_queued:,} points of {self.owner} are waiting, and {num_new:,} more would be over the limit of "
            f"{self.most_queued:,}. Wait, cancel something, or ask an admin: "
            f"ucurve users set {self.owner} --most-queued {self.num_queued + num_new}"
        )


def quota(session: Session, owner: str) -> Quota:
    """What `owner` may ask for and has queued, as this transaction sees it."""
    [*known] = users.users(session, owner)
    row = known[0] if known else None
    most_planned, most_queued = lab_limits()
    return Quota(
        owner,
        most_planned if row is None or row.most_planned is None else row.most_planned,
        most_queued if row is None or row.most_queued is None else row.most_queued,
        int(row.num_queued) if row else 0,
    )


def lab_limits() -> tuple[int, int]:
    """(most planned, most queued) of whoever has no limits of their own."""
    return settings().most_planned, settings().most_queued


def check_planned(session: Session, owner: str, *sizes: int) -> None:
    """Refuse before anything is written an experiment that is too large."""
    if refusal := quota(session, owner).plan_refused(max(sizes)):
        raise invalid("/spec", refusal)


def check_queued(session: Session, owner: str) -> None:
    """Refuse what was just written and is not committed. The lock of the user's row makes two submissions at once count both."""
    users.lock_user(session, owner)
    now = quota(session, owner)
    if now.num_queued > now.most_queued:
        refusal = (
            f"With this {now.num_queued:,} points of {owner} would be waiting; the limit is {now.most_queued:,}. Wait, cancel "
            f"something, or ask an admin: ucurve users set {owner} --most-queued {now.num_queued}"
        )
        raise ProblemError(
            429, "Too much is queued.", [FieldProblem(pointer="/spec", message=refusal)]
        )
