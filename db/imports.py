"""Merge rows of another lab by identity: existing results are never overwritten.

A measurement is identified by its identity and repeat, an attempt by its measurement, worker and
start time, an experiment by its submission time and spec. So an export can be imported twice, in
parts, or by way of a third lab. Each function is the work of one transaction, which the caller
commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, bindparam, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import trials
from db.explorer import record_labels
from db.models import (
    Attempt,
    Checkpoint,
    Dataset,
    Experiment,
    Json,
    Measurement,
    ReferenceCurve,
    Suite,
)
from db.publication import publish
from db.submissions import link
from db.users import add_user

IMPORT_LOCK = 0x696D7074  # "impt": one batch at a time, or two equal ones would both add rows
PLANNED = (
    "identity",
    "repeat",
    "kind",
    "inputs",
    "source",
    "labels",
    "group_key",
    "seconds",
    "requires_device",
    "requires_memory_gb",
)
TRIED = (
    "worker",
    "device",
    "versions",
    "outcome",
    "started_at",
    "finished_at",
    "metrics",
    "nonfinite",
    "series",
    "traceback",
    "log",
)

Key = tuple[str, int]  # identity, repeat


class MissingError(LookupError):
    """An experiment points at measurements that do not exist here; import them first."""


class ChangedAttemptError(ValueError):
    """A known attempt has other numbers in an import; the message names it."""

    def __init__(self, key: Key, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass
class MergeResult:
    """What an import of measurements changed."""

    new: int = 0
    completed: int = 0  # were open or failed here, and are done now
    gained: int = 0  # were done here, and have another attempt now
    unchanged: int = 0
    # Of those done in both labs: key, kind, metrics here, metrics there.
    compared: list[tuple[Key, str, Json, Json]] = field(default_factory=list)


@dataclass(frozen=True)
class AddedAttempt:
    """An imported attempt; new: it did not exist here before."""

    id: int
    new: bool


@dataclass(frozen=True)
class Change:
    """A measurement that takes the result or failure of an imported row."""

    row: Row[Any]  # here
    imported: Json
    source: Json | None  # the imported attempt that gave the result
    attempt: AddedAttempt | None


def _lock(session: Session) -> None:
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": IMPORT_LOCK})


def merge_measurements(session: Session, rows: Sequence[Json], origin: str) -> MergeResult:
    """Merge measurements of another lab.

    rows: PLANNED, state, error, finished_at, and attempts (TRIED, origin, and `shown`: its result
    is the measurement's). Raises ChangedAttemptError.
    """
    _lock(session)
    imported = {
        (row["identity"], row["repeat"]): row
        for row in sorted(rows, key=lambda row: (row["identity"], row["repeat"]))
    }
    existing, created = _measurements_for(session, imported)
    _expect_unchanged(session, {existing[key].id: (key, row) for key, row in imported.items()})
    attempts = _add_attempts(
        session,
        [(existing[key].id, a) for key, row in imported.items() for a in row["attempts"]],
        origin,
    )
    merged = MergeResult()
    changes: list[Change] = []
    for key, row in imported.items():
        here = existing[key]
        source = next((attempt for attempt in row["attempts"] if attempt["shown"]), None)
        attempt = (
            attempts.get((here.id, source["worker"], source["started_at"])) if source else None
        )
        is_new, done_there = here.id in created, row["state"] == "done"
        if is_new or (here.state in ("open", "failed") and done_there):
            changes.append(Change(here, row, source, attempt))
            merged.new += is_new
            merged.completed += not is_new
        elif attempt is not None and attempt.new:
            merged.gained += 1
        else:
            merged.unchanged += 1
        done_twice = here.state == "done" and done_there
        if done_twice and source and attempt and attempt.id != here.attempt_id:
            merged.compared.append((key, row["kind"], here.metrics, source["metrics"]))
    _apply(session, [c for c in changes if c.imported["state"] != "open"], created)
    record_labels(session, sorted(created))  # after the experiments' locks, as submissions do
    return merged


def _measurements_for(
    session: Session, imported: dict[Key, Json]
) -> tuple[dict[Key, Row[Any]], set[int]]:
    """Return the rows, locked, and the ids of those that were created.

    In the order of submissions: the lock of a first row protects the numbering of its repeats.
    """
    created: set[int] = set()
    locked = (
        select(
            Measurement.id,
            Measurement.identity,
            Measurement.repeat,
            Measurement.state,
            Measurement.metrics,
            Measurement.attempt_id,
        )
        .where(Measurement.identity.in_(sorted({identity for identity, _ in imported})))
        .order_by(Measurement.identity, Measurement.repeat)
        .with_for_update(key_share=True)
    )
    rows: Sequence[Any] = ()
    for repeats in (False, True):
        new = [
            {name: row[name] for name in PLANNED}
            for (_, repeat), row in imported.items()
            if bool(repeat) == repeats
        ]
        if new:
            planned = insert(Measurement).on_conflict_do_nothing(
                index_elements=["identity", "repeat"]
            )
            created |= set(session.scalars(planned.returning(Measurement.id), new))
        if new or not repeats:
            rows = session.execute(locked).all()
    keyed = {(row.identity, row.repeat): row for row in rows}
    return {key: row for key, row in keyed.items() if key in imported}, created


def _expect_unchanged(session: Session, imported: dict[int, tuple[Key, Json]]) -> None:
    """Raise ChangedAttemptError where an attempt that exists here was imported with other numbers.

    imported: by the measurement here. An attempt never changes once it has ended, so one of the two
    was changed by hand.
    """
    numbers = ("outcome", "metrics", "nonfinite", "series")
    columns = (Attempt.measurement_id, Attempt.worker, Attempt.started_at)
    known = session.execute(
        select(*columns, *(getattr(Attempt, name) for name in numbers)).where(
            Attempt.measurement_id.in_(sorted(imported)), Attempt.finished_at.is_not(None)
        )
    )
    here = {(row.measurement_id, row.worker, row.started_at): row for row in known}
    for id, (key, row) in imported.items():
        for attempt in row["attempts"]:
            same = here.get((id, attempt["worker"], attempt["started_at"]))
            changed = [n for n in numbers if same and getattr(same, n) != attempt[n]]
            if same and changed:
                raise ChangedAttemptError(
                    key,
                    f"the attempt of worker {attempt['worker']} at {attempt['started_at']} is "
                    f"known here with other numbers ({_difference(same, attempt, changed[0])}): "
                    "one of the two was changed",
                )


def _difference(here: Row[Any], there: Json, name: str) -> str:
    """Return the first value that differs: "nll_mean 1.5 here, 2.5 there"."""
    ours, theirs = getattr(here, name), there[name]
    if not isinstance(ours, dict):
        return f"{name} {ours} here, {theirs} there"
    label = next(k for k in (*ours, *theirs) if ours.get(k) != theirs.get(k))
    if name == "series":
        return f"the values of {label}"
    return f"{label} {ours.get(label)} here, {theirs.get(label)} there"


def _add_attempts(
    session: Session, attempts: Sequence[tuple[int, Json]], origin: str
) -> dict[tuple[int, str, Any], AddedAttempt]:
    """Store new attempts; return all by (measurement, worker, time of its start)."""
    ids = sorted({measurement for measurement, _ in attempts})
    columns = (Attempt.id, Attempt.measurement_id, Attempt.worker, Attempt.started_at)
    existing = session.execute(select(*columns).where(Attempt.measurement_id.in_(ids)))
    added = {
        (row.measurement_id, row.worker, row.started_at): AddedAttempt(row.id, False)
        for row in existing
    }
    imported = {(id, attempt["worker"], attempt["started_at"]): attempt for id, attempt in attempts}
    rows = [
        {
            **{name: attempt[name] for name in TRIED},
            "measurement_id": id,
            "origin": attempt["origin"] or origin,
        }
        for (id, worker, started_at), attempt in imported.items()
        if (id, worker, started_at) not in added
    ]
    if rows:
        for row in session.execute(insert(Attempt).returning(*columns), rows):
            key = (row.measurement_id, row.worker, row.started_at)
            added[key] = AddedAttempt(row.id, True)
    return added


def _apply(session: Session, changes: Sequence[Change], created: set[int]) -> None:
    """Write imported results and failures, and publish them to the experiments that waited."""
    waiting = [change.row for change in changes if change.row.id not in created]
    affected = text("""
        SELECT id FROM experiments WHERE id IN (
            SELECT experiment_id FROM experiment_points WHERE measurement_id = ANY(:ids))
        ORDER BY id FOR UPDATE""")
    # All of them first, in their order: publish takes them one by one.
    experiments = list(session.scalars(affected, {"ids": [row.id for row in waiting]}))
    if changes:
        table = Measurement.__table__
        session.connection().execute(
            table.update()  # type: ignore[attr-defined]
            .where(table.c.id == bindparam("row"))
            .values(
                **{name: bindparam(name) for name in ("state", "error", "metrics", "nonfinite")},
                attempt_id=bindparam("attempt"),
                finished_at=bindparam("finished"),
                num_lost=0,
            ),
            [_values(change) for change in changes],
        )
    for row in waiting:
        publish(session, [row.id], done=1, failed=-1 if row.state == "failed" else 0)
    session.execute(
        text("""
            UPDATE experiments SET state = 'done'
            WHERE id = ANY(:ids) AND state = 'failed' AND num_done > 0"""),
        {"ids": experiments},
    )


def _values(change: Change) -> Json:
    result = change.source or {"metrics": {}, "nonfinite": {}}
    return {
        "row": change.row.id,
        "attempt": change.attempt and change.attempt.id,
        "finished": change.imported["finished_at"],
        **{name: change.imported[name] for name in ("state", "error")},
        **{name: result[name] for name in ("metrics", "nonfinite")},
    }


def merge_experiment(
    session: Session, owner: str, fields: Json, points: Sequence[Json]
) -> tuple[Experiment, bool]:
    """Record another lab's experiment as ours; return it, and whether it is new.

    fields: name, kind, spec, tags, notes, priority, archived, created_at, started_at, finished_at.
    points: identity, repeat, stage, labels, in the plan's order. It is done (or failed); cancelled
    where points are unmeasured, so that they are measured only on request. Raises MissingError.
    """
    _lock(session)
    add_user(session, owner, "submitter")
    same = select(Experiment).where(
        *(getattr(Experiment, name) == fields[name] for name in ("created_at", "kind", "spec"))
    )
    existing = session.scalar(same.limit(1))
    if existing is not None:
        return existing, False
    planned = {f"{point['identity']}/{point['repeat']}": point for point in points}
    measurements: Iterable[Any] = session.execute(
        select(Measurement.id, Measurement.identity, Measurement.repeat, Measurement.state)
        .where(Measurement.identity.in_(sorted({point["identity"] for point in points})))
        .order_by(Measurement.identity, Measurement.repeat)
        .with_for_update(key_share=True)
    )
    here: dict[str, Row[Any]] = {f"{row.identity}/{row.repeat}": row for row in measurements}
    if missing := planned.keys() - here.keys():
        raise MissingError(
            f"{len(missing)} of its {len(planned)} measurements are not here; the first is "
            f"{min(missing)}"
        )
    states = [here[name].state for name in planned]
    num_done, num_failed = states.count("done"), states.count("failed")
    complete = num_done + num_failed == len(planned)
    state = ("done" if num_done else "failed") if complete else "cancelled"
    experiment = Experiment(**fields, owner=owner, state=state)
    session.add(experiment)
    session.flush()
    link(session, experiment, planned, here)
    experiment.num_failed = num_failed
    session.flush()
    return experiment, True


def merge_catalogue(session: Session, rows: Json, owner: str, waiting: str) -> dict[str, list[str]]:
    """Add suites (with checkpoints), datasets and reference curves that have new names.

    waiting: what models that a worker must try say until then.

    Returns the names that were added, kept, or differ: an existing name keeps what it means here,
    also where it means something else there.
    """
    _lock(session)
    add_user(session, owner, "submitter")
    names: dict[str, list[str]] = {"added": [], "kept": [], "differ": []}
    for suite in rows["suites"]:
        names[_merge_suite(session, suite, owner, waiting)].append(f"suite {suite['name']}")
    for dataset in rows["datasets"]:
        existing = session.get(Dataset, dataset["name"])
        if existing is None:
            session.add(Dataset(**dataset, owner=owner))
        same = existing is not None and existing.sha256 == dataset["sha256"]
        outcome = "added" if existing is None else "kept" if same else "differ"
        names[outcome].append(f"evaluation set {dataset['name']}")
    for curve in rows["reference_curves"]:
        named = select(ReferenceCurve).where(ReferenceCurve.name == curve["name"])
        drawn = session.scalar(named)
        if drawn is None:
            session.add(ReferenceCurve(**curve, owner=owner))
        outcome = "added" if drawn is None else "kept" if drawn.rows == curve["rows"] else "differ"
        names[outcome].append(f"reference curve {curve['name']}")
    session.flush()
    return names


def _merge_suite(session: Session, suite: Json, owner: str, waiting: str) -> str:
    """Add a suite with its checkpoints; return "added", "kept" or "differ"."""
    checkpoints = suite.pop("checkpoints")
    if session.get(Suite, suite["name"]) is None:
        session.add(Suite(**suite, owner=owner))
        session.flush()
        entered = _entered(session, checkpoints, waiting)
        session.add_all(Checkpoint(**row, suite=suite["name"]) for row in entered)
        return "added"
    rows = session.scalars(select(Checkpoint).where(Checkpoint.suite == suite["name"]))
    here = {row.revision: row for row in rows}
    shared = [(here[row["revision"]], row) for row in checkpoints if row["revision"] in here]
    if any(_differ(local.weights_sha256, row["weights_sha256"]) for local, row in shared):
        return "differ"
    found = [(local, row) for local, row in shared if local.structure is None and row["structure"]]
    _try_untried(session, [(local, row) for local, row in found if local.remarks], waiting)
    return "kept"


def _differ(here: str | None, there: str | None) -> bool:
    return bool(here and there and here != there)


def _try_untried(session: Session, found: Sequence[tuple[Checkpoint, Json]], waiting: str) -> None:
    """Let workers try checkpoints of an earlier import whose files are here now.

    The remarks of an import say only that files were not here.
    """
    entered = {row["revision"]: row for row in _entered(session, [r for _, r in found], waiting)}
    for local, row in found:
        for name in ("structure", "architecture", "initializer_std", "unresolved", "remarks"):
            setattr(local, name, entered[row["revision"]][name])


def _entered(session: Session, checkpoints: Sequence[Json], waiting: str) -> list[Json]:
    """Return the columns of checkpoints; those of structures not yet tried wait for a worker."""
    locked_in_order = sorted(checkpoints, key=lambda row: str(row["structure"] or ""))
    return [trials.enter(session, row, waiting) for row in locked_in_order]
