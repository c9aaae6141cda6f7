"""What the weights of the measured checkpoints say, for every reader of an experiment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from sys import intern
from threading import Lock
from typing import NamedTuple

from sqlalchemy.orm import Session

from api.catalogue import suites_of
from db.models import Experiment
from db.weights import measured_revisions
from ucurve.registry.suites import Remark
from ucurve.registry.weights_remarks import USED_INSTEAD
from ucurve.schemas.results import Verdict

MAX_EXPERIMENTS = 300  # whose revisions a process keeps


class MeasuredSuite(NamedTuple):
    """What an experiment measures of one suite."""

    suite: str
    revisions: frozenset[str]
    initial: frozenset[str]  # step 0 of which init_std took its scale


_measured: dict[tuple[int, datetime], tuple[MeasuredSuite, ...]] = {}
_lock = Lock()


def experiment_remarks(session: Session, id: int) -> list[Remark]:
    """Return the remarks about the revisions that an experiment measures."""
    measured = {each.suite: each for each in _measured_suites(session, id)}
    return [
        remark
        for suite in suites_of(session, list(measured))
        for each in suite.remarks
        if (remark := _of_experiment(each, measured[suite.name]))
    ]


def _measured_suites(session: Session, id: int) -> tuple[MeasuredSuite, ...]:
    """Return what an experiment measures, which never changes."""
    experiment = session.get(Experiment, id)
    assert experiment is not None, "the experiment exists"
    key = (id, experiment.created_at)
    with _lock:
        if key in _measured:
            return _measured[key]
    measured = _read(session, id)
    with _lock:
        while len(_measured) >= MAX_EXPERIMENTS:
            del _measured[next(iter(_measured))]
        _measured[key] = measured
    return measured


def _read(session: Session, id: int) -> tuple[MeasuredSuite, ...]:
    """Read what an experiment measures; a name is one object in all experiments that have it."""
    revisions: dict[str, set[str]] = defaultdict(set)
    initial: dict[str, set[str]] = defaultdict(set)
    for row in measured_revisions(session, id):
        if row.suite is not None and row.revision is not None:  # not of a model to be trained
            revisions[row.suite].add(intern(row.revision))
            if row.scale == "init_std":
                initial[row.suite].add(intern(row.initial or ""))
    return tuple(
        MeasuredSuite(intern(suite), frozenset(names), frozenset(initial[suite]))
        for suite, names in revisions.items()
    )


def _of_experiment(remark: Remark, measured: MeasuredSuite) -> Remark | None:
    """Return a remark where it is about these revisions, or about the source of their scale."""
    if remark.kind != "initialisation":
        return remark if measured.revisions & set(remark.revisions) else None
    if remark.revisions[0] in measured.initial:
        reason = remark.message.removesuffix(f" {USED_INSTEAD}.")
        message = f"{reason} init_std took sigma from it: submit the experiment again."
        return remark.model_copy(update={"message": message})
    return remark if "" in measured.initial else None


def with_caveats(verdicts: Iterable[Verdict], remarks: Sequence[Remark]) -> list[Verdict]:
    """Return verdicts with the remarks about the weights that they compare."""
    if not remarks:
        return list(verdicts)
    return [
        verdict.model_copy(
            update={
                "caveats": [
                    remark.message
                    for remark in remarks
                    if remark.kind != "initialisation"
                    or verdict.labels.get("scale") in (None, "init_std")
                ]
            }
        )
        for verdict in verdicts
    ]


def remarks_in_words(session: Session, id: int) -> list[str]:
    """Return what an experiment's answer says of the weights."""
    return [remark.message for remark in experiment_remarks(session, id)]
