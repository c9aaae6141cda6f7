"""Turn specs into rows of points: counted before they are built, and built in bounded memory.

    with planning(owner, spec) as (session, catalogue):
        for row in rows_of(spec, catalogue): ...

A large plan takes seconds of processor time. Each user may have two of them at once and the lab
runs two; some more wait, and all others are answered 429 with Retry-After.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from sqlalchemy.orm import Session

from api.auth.quotas import check_planned
from api.catalogue import DatabaseCatalogue
from api.errors import ApiError
from api.plan_texts import PlanTexts
from db.session import open_session
from ucurve.spec import Catalogue, Point, Spec, SpecError

MAX_POINTS = 50_000  # of one experiment
MAX_POINTS_PER_REQUEST = 100_000  # of all experiments of a study
LARGE = 2_000  # points from which a plan needs a slot
PER_USER, RUNNING, ENTERED = 2, 1, 10  # large plans: of a user, running, and waiting or running
RETRY_SECONDS = 2


def check_size(spec: Spec, catalogue: Catalogue) -> int | None:
    """Return the number of points, None where the experiment type does not know it.

    Raises SpecError where they are too many or none, before any of them is built.
    """
    num_points = spec.count(catalogue)
    if num_points is not None and num_points > MAX_POINTS:
        raise SpecError(
            "",
            f"This would be {num_points:,} points; an experiment has at most {MAX_POINTS:,}. Use "
            "fewer values, or split the experiment.",
        )
    if num_points == 0:
        raise _empty()
    return num_points


def rows_of(
    spec: Spec, catalogue: Catalogue, texts: PlanTexts | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the columns of every point's measurement, each identity once.

    texts: collects what the plan says about its texts. Raises SpecError where the spec cannot be
    planned here, or has too many points.
    """
    check_size(spec, catalogue)
    texts = texts or PlanTexts(spec)
    existing: set[str] = set()
    for position, point in enumerate(spec.plan(catalogue)):
        if position == MAX_POINTS:
            raise SpecError(
                "",
                f"This would be more than {MAX_POINTS:,} points: use fewer values, or split the "
                "experiment.",
            )
        row = point_row(point)
        texts.look_at(row)
        if row["identity"] not in existing:
            existing.add(row["identity"])
            yield row
    if not existing:
        raise _empty()


def _empty() -> SpecError:
    return SpecError("", "This spec plans no measurement: give at least one value in every list.")


def point_row(point: Point) -> dict[str, Any]:
    """Return the columns of a point's measurement; `inputs` and the like are shared, not copied."""
    return {
        "identity": point.identity,
        "inputs": point.inputs,
        "source": point.artifacts,
        "labels": point.labels,
        "group_key": point.affinity,
        "stage": point.priority_stage,
        "seconds": point.estimated_seconds,
        "requires_device": point.resources.device,
        "requires_memory_gb": point.resources.memory_gb,
    }


class Slots:
    """Counts large plans; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered: Counter[str] = Counter()
        self._running = threading.Semaphore(RUNNING)

    @contextmanager
    def of(self, user: str, patience: float) -> Iterator[None]:
        """Wait until the plan may run; answer 429 where the user or the lab has too many."""
        self._enter(user)
        try:
            if not self._running.acquire(timeout=patience):
                raise _too_many()
            try:
                yield
            finally:
                self._running.release()
        finally:
            with self._lock:
                self._entered[user] -= 1
                self._entered += Counter()  # drops users without a plan

    def _enter(self, user: str) -> None:
        with self._lock:
            if self._entered[user] >= PER_USER:
                raise ApiError(
                    429,
                    f"{user} has {PER_USER} large plans in progress: repeat this one when they "
                    "have ended.",
                    retry_after=RETRY_SECONDS,
                )
            if self._entered.total() >= ENTERED:
                raise _too_many()
            self._entered[user] += 1


def _too_many() -> ApiError:
    return ApiError(
        429,
        "The lab has too many large plans in progress: repeat this one later.",
        retry_after=RETRY_SECONDS,
    )


slots = Slots()


@contextmanager
def planning(
    owner: str, *specs: Spec, submits: bool = False
) -> Iterator[tuple[Session, DatabaseCatalogue]]:
    """Open a session to plan these specs in, once it is the turn of a plan of their size.

    Raises SpecError where one of them is too large; submits: also where the owner's quota is less.
    """
    with open_session() as session:
        catalogue = DatabaseCatalogue(session)
        sizes = [check_size(spec, catalogue) for spec in specs]
        if submits:
            check_planned(session, owner, *(size or 0 for size in sizes))
    large = None in sizes or sum(size or 0 for size in sizes) > LARGE
    # A submission holds its transaction while it waits, and idle transactions are ended.
    turn = slots.of(owner, 2.0 if submits else 60.0) if large else nullcontext()
    with turn, open_session() as session:
        yield session, DatabaseCatalogue(session)
