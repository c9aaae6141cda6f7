"""Another lab's rows join ours, by identity: nothing here is overwritten, and what is here already is recognised.

A measurement is its identity and repeat, an attempt its measurement, worker and moment of starting, an experiment its
moment of submission and spec; so an export may come twice, in parts, or home again over a third lab. Each function is one
transaction's work; the caller commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, bindparam, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.explorer import record_labels
from db.leases import publish
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
from db.submissions import link
from db.users import add_user

IMPORT_LOCK = 0x696D7074  # "impt": one batch at a time, or two of the same would both find nothing
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
    """An experiment points at measurements that are not here; import these first."""


@dataclass
class MergeResult:
    """What became of a batch of measurements."""

    new: int = 0
    completed: int = 0  # were open or failed here, and are done now
    gained: int = 0  # are done here and have a further attempt now
    known: int = 0
    compared: list[tuple[Key, str, Json, Json]] = field(
        default_factory=list
    )  # of those done on both sides: shown here, shown there


def _lock(session: Session) -> None:
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": IMPORT_LOCK})


def merge_measurements(session: Session, rows: Sequence[Json], origin: str) -> MergeResult:
    """rows: PLANNED, state, error, finished_at, and attempts (TRIED, origin, `shown`: its numbers are the measurement's)."""
    _lock(session)
    asked = {
        (row["identity"], row["repeat"]): row
        for row in sorted(rows, key=lambda row: (row["identity"], row["repeat"]))
    }
    mine, made = _measurements_for(session, asked)
    added = _add_attempts(
        session,
        [(mine[key].id, attempt) for key, row in asked.items() for attempt in row["attempts"]],
        origin,
    )
    merged = MergeResult()
    settled: list[tuple[Row[Any], Json, Json | None, Added | None]] = []
    for key, row in asked.items():
        found, shown = mine[key], next((one for one in row["attempts"] if one["shown"]), None)
        attempt = added.get((found.id, shown["worker"], shown["started_at"])) if shown else None
        is_new, done_there = found.id in made, row["state"] == "done"
        if is_new or (found.state in ("open", "failed") and done_there):
            settled.append((found, row, shown, attempt))
            merged.new += is_new
            merged.completed += not is_new
        elif attempt is not None and attempt.fresh:
            merged.gained += 1
        else:
            merged.known += 1
        if (
            found.state == "done"
            and done_there
            and shown
            and attempt
            and attempt.id != found.attempt_id
        ):
            merged.compared.append((key, row["kind"], found.metrics, shown["metrics"]))
    _settle(session, [one for one in settled if one[1]["state"] != "open"], made)
    record_labels(session, sorted(made))  # after the experiments' locks, as submissions do
    return merged


def _measurements_for(
    session: Session, asked: dict[Key, Json]
) -> tuple[dict[Key, Row[Any]], set[int]]:
    """The rows, locked, and the ids of those that had to be made. In the order of submissions: who holds the lock of a first row
    numbers its repeats.
    """
    made: set[int] = set()
    locked = (
        select(
            Measurement.id,
            Measurement.identity,
            Measurement.repeat,
            Measurement.state,
            Measurement.metrics,
            Measurement.attempt_id,
        )
        .where(Measurement.identity.in_(sorted({identity for identity, _ in asked})))
        .order_by(Measurement.identity, Measurement.repeat)
        .with_for_update(key_share=True)
    )
    found: Sequence[Any] = ()
    for repeats in (False, True):
        new = [
            {name: row[name] for name in PLANNED}
            for (_, repeat), row in asked.items()
            if bool(repeat) == repeats
        ]
        if new:
            planned = insert(Measurement).on_conflict_do_nothing(
                index_elements=["identity", "repeat"]
            )
            made |= set(session.scalars(planned.returning(Measurement.id), new))
        if new or not repeats:
            found = session.execute(locked).all()
    return {
        (row.identity, row.repeat): row for row in found if (row.identity, row.repeat) in asked
    }, made


@dataclass(frozen=True)
class Added:
    """An attempt that is here now; `fresh`: it was not before."""

    id: int
    fresh: bool


def _add_attempts(
    session: Session, attempts: Sequence[tuple[int, Json]], origin: str
) -> dict[tuple[int, str, Any], Added]:
    ids = sorted({measurement for measurement, _ in attempts})
    known = select(Attempt.id, Attempt.measurement_id, Attempt.worker, Attempt.started_at).where(
        Attempt.measurement_id.in_(ids)
    )
    found = {
        (row.measurement_id, row.worker, row.started_at): Added(row.id, False)
        for row in session.execute(known)
    }
    missing = {(id, one["worker"], one["started_at"]): one for id, one in attempts}
    rows = [
        {
            **{name: one[name] for name in TRIED},
            "measurement_id": id,
            "origin": one["origin"] or origin,
        }
        for (id, _, _), one in missing.items()
        if (id, one["worker"], one["started_at"]) not in found
    ]
    if rows:
        returned = (Attempt.id, Attempt.measurement_id, Attempt.worker, Attempt.started_at)
        for row in session.execute(insert(Attempt).returning(*returned), rows):
            found[row.measurement_id, row.worker, row.started_at] = Added(row.id, True)
    return found


def _settle(
    session: Session,
    settled: Sequence[tuple[Row[Any], Json, Json | None, Added | None]],
    made: set[int],
) -> None:
    """Give measurements the foreign number or failure, and tell the experiments that were waiting for it."""
    waiting = [found for found, *_ in settled if found.id not in made]
    ids = [found.id for found in waiting]
    affected = text("""
        SELECT id FROM experiments WHERE id IN (SELECT experiment_id FROM experiment_points WHERE measurement_id = ANY(:ids))
        ORDER BY id FOR UPDATE""")
    experiments = list(
        session.scalars(affected, {"ids": ids})
    )  # all of them first, in their order: publish takes them one by one
    values = [
        {
            "row": found.id,
            "attempt": attempt and attempt.id,
            "finished": row["finished_at"],
            **{name: row[name] for name in ("state", "error")},
            **{name: shown[name] if shown else {} for name in ("metrics", "nonfinite")},
        }
        for found, row, shown, attempt in settled
    ]
    if values:
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
            values,
        )
    for found in waiting:
        publish(session, [found.id], done=1, failed=-1 if found.state == "failed" else 0)
    session.execute(
        text(
            "UPDATE experiments SET state = 'done' WHERE id = ANY(:ids) AND state = 'failed' AND num_done > 0"
        ),
        {"ids": experiments},
    )


def merge_experiment(
    session: Session, owner: str, fields: Json, points: Sequence[Json]
) -> tuple[Experiment, bool]:
    """Record another lab's experiment as ours, and whether that was new. Raises MissingError.

    fields: name, kind, spec, tags, notes, priority, archived, created_at, started_at, finished_at. points: identity, repeat, stage,
    labels, in the plan's order. It is done (or failed); cancelled where points are unmeasured, so that nobody measures them
    before somebody asks for it.
    """
    _lock(session)
    add_user(session, owner, "submitter")
    same = select(Experiment).where(
        *(getattr(Experiment, name) == fields[name] for name in ("created_at", "kind", "spec"))
    )
    known = session.scalar(same.limit(1))
    if known is not None:
        return known, False
    asked = {f"{point['identity']}/{point['repeat']}": point for point in points}
    found: Iterable[Any] = session.execute(
        select(Measurement.id, Measurement.identity, Measurement.repeat, Measurement.state)
        .where(Measurement.identity.in_(sorted({point["identity"] for point in points})))
        .order_by(Measurement.identity, Measurement.repeat)
        .with_for_update(key_share=True)
    )
    here: dict[str, Row[Any]] = {f"{row.identity}/{row.repeat}": row for row in found}
    if missing := asked.keys() - here.keys():
        raise MissingError(
            f"{len(missing)} of its {len(asked)} measurements are not here; the first is {min(missing)}"
        )
    states = [here[name].state for name in asked]
    num_done, num_failed = states.count("done"), states.count("failed")
    state = "cancelled" if num_done + num_failed < len(asked) else "done" if num_done else "failed"
    experiment = Experiment(**fields, owner=owner, state=state)
    session.add(experiment)
    session.flush()
    link(session, experiment, asked, here)
    experiment.num_failed = num_failed
    session.flush()
    return experiment, True


def merge_catalogue(session: Session, rows: Json, owner: str) -> dict[str, list[str]]:
    """Add suites (with checkpoints), datasets and reference curves of unknown names; the names that were added, kept, or differ.

    A name that is taken keeps what it means here, also where it means something else there.
    """
    _lock(session)
    add_user(session, owner, "submitter")
    said: dict[str, list[str]] = {"added": [], "kept": [], "differ": []}
    for suite in rows["suites"]:
        checkpoints = suite.pop("checkpoints")
        here = session.get(Suite, suite["name"])
        if here is None:
            session.add(Suite(**suite, owner=owner))
            session.flush()
            session.add_all(Checkpoint(**one, suite=suite["name"]) for one in checkpoints)
            said["added"].append(f"suite {suite['name']}")
            continue
        hashes = select(Checkpoint.revision, Checkpoint.weights_sha256).where(
            Checkpoint.suite == here.name
        )
        mine: dict[str, str | None] = {
            row.revision: row.weights_sha256 for row in session.execute(hashes)
        }
        theirs = {one["revision"]: one["weights_sha256"] for one in checkpoints}
        differ = any(
            mine[name] and theirs[name] and mine[name] != theirs[name]
            for name in mine.keys() & theirs.keys()
        )
        said["differ" if differ else "kept"].append(f"suite {here.name}")
    for dataset in rows["datasets"]:
        known = session.get(Dataset, dataset["name"])
        if known is None:
            session.add(Dataset(**dataset, owner=owner))
        word = (
            "added" if known is None else "differ" if known.sha256 != dataset["sha256"] else "kept"
        )
        said[word].append(f"evaluation set {dataset['name']}")
    for curve in rows["reference_curves"]:
        drawn = session.scalar(select(ReferenceCurve).where(ReferenceCurve.name == curve["name"]))
        if drawn is None:
            session.add(ReferenceCurve(**curve, owner=owner))
        word = "added" if drawn is None else "kept" if drawn.rows == curve["rows"] else "differ"
        said[word].append(f"reference curve {curve['name']}")
    session.flush()
    return said
