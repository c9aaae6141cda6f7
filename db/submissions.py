"""Transitions of users: submit, pause, resume, cancel, retry.

Each function is the work of one transaction, which the calling route commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from db.explorer import record_labels
from db.models import Experiment, ExperimentPoint, Json, Measurement
from db.publication import finish_experiments
from db.users import add_user

COLUMNS = (
    "kind",
    "identity",
    "inputs",
    "source",
    "labels",
    "group_key",
    "seconds",
    "requires_device",
    "requires_memory_gb",
)
CHUNK = 2000  # rows of one INSERT
PER_VERSION = 250  # new rows that share a version, so that a reader's pages stay small


class SuiteTakenError(RuntimeError):
    """The name of the suite belongs to another model."""


def submit(session: Session, owner: str, fields: Json, points: Sequence[Json]) -> Experiment:
    """Record an experiment and link it to its measurements, creating those that are new.

    fields: name, kind, spec, tags, notes, priority, fresh. points: in the plan's order, each with
    identity, inputs, source, labels, group_key, stage, seconds, requires_device and
    requires_memory_gb. A finished measurement counts at once (with `fresh` it is re-measured as its
    next repeat); a failed one is reopened.
    """
    return submit_all(session, owner, [(fields, points)])[0]


def submit_all(
    session: Session, owner: str, submissions: Sequence[tuple[Json, Sequence[Json]]]
) -> list[Experiment]:
    """Record several experiments (see `submit`) at once.

    All measurements are locked in one order, or two concurrent calls could deadlock.
    """
    add_user(session, owner, "submitter")
    unique: dict[str, Json] = {}
    for fields, points in submissions:
        unique |= {
            p["identity"]: {"kind": fields["kind"], **p}
            for p in points
            if p["identity"] not in unique
        }
    shared = _measurements_for(session, unique)
    reopen(session, [row.id for row in shared.values() if row.state == "failed"])
    fresh = {p["identity"] for fields, points in submissions if fields.get("fresh") for p in points}
    repeats = _next_repeats(
        session, {name: unique[name] for name in fresh if shared[name].state == "done"}
    )
    experiments = [Experiment(owner=owner, **fields) for fields, _ in submissions]
    session.add_all(experiments)
    session.flush()
    for experiment, (fields, points) in zip(experiments, submissions, strict=True):
        rows = {**shared, **repeats} if fields.get("fresh") else shared
        link(session, experiment, {point["identity"]: point for point in points}, rows)
    session.flush()
    finish_experiments(session, [experiment.id for experiment in experiments])
    record_labels(
        session, [row.id for row in (*shared.values(), *repeats.values()) if row.state == "open"]
    )
    # Last: claims lock the user's row after the measurements'.
    join_queue(session, owner, [experiment.id for experiment in experiments])
    return experiments


def link(
    session: Session, experiment: Experiment, points: dict[str, Json], rows: dict[str, Row[Any]]
) -> None:
    """Link the experiment to the measurements `rows` of its points, and set its counts."""
    links = [
        {
            "experiment_id": experiment.id,
            "measurement_id": rows[identity].id,
            "position": position,
            "stage": point["stage"],
            "labels": point["labels"],
            "reused": rows[identity].state == "done",
            "ended": rows[identity].state == "done",
            "version": 1 + position // PER_VERSION,
        }
        for position, (identity, point) in enumerate(points.items())
    ]
    for start in range(0, len(links), CHUNK):
        session.execute(insert(ExperimentPoint), links[start : start + CHUNK])
    experiment.version = links[-1]["version"]
    experiment.num_points = len(links)
    experiment.num_done = experiment.num_reused = sum(link["reused"] for link in links)


def _measurements_for(session: Session, unique: dict[str, Json]) -> dict[str, Row[Any]]:
    """Return the rows of these identities, created where missing.

    They are locked against finishing until this transaction has linked them.
    """
    chunks = _chunks(unique)
    for chunk in chunks:
        _insert_missing(session, [unique[identity] for identity in chunk])
    measurements: dict[str, Row[Any]] = {}
    for chunk in chunks:
        while missing := [identity for identity in chunk if identity not in measurements]:
            # Not a plain read: a worker that finishes one of these now would not see our links, nor
            # we its result.
            locked = session.execute(
                select(Measurement.id, Measurement.identity, Measurement.state)
                .where(Measurement.identity.in_(missing), Measurement.repeat == 0)
                .order_by(Measurement.identity)
                .with_for_update(key_share=True)
            )
            measurements |= {row.identity: row for row in locked}
            # Deleted since they were inserted, with the only experiment that waited for them.
            _insert_missing(session, [unique[i] for i in chunk if i not in measurements])
    _refresh(
        session,
        [
            {"id": row.id, **unique[row.identity]}
            for row in measurements.values()
            if row.state == "failed"
        ],
    )
    return measurements


def _insert_missing(session: Session, points: Sequence[Json]) -> None:
    if points:
        session.execute(
            insert(Measurement).on_conflict_do_nothing(index_elements=["identity", "repeat"]),
            [{column: point[column] for column in COLUMNS} for point in points],
        )


def _next_repeats(session: Session, unique: dict[str, Json]) -> dict[str, Row[Any]]:
    """Create rows that re-measure these identities.

    Their first rows are locked, so that no other transaction numbers repeats meanwhile.
    """
    repeats: dict[str, Row[Any]] = {}
    for chunk in _chunks(unique):
        highest = session.execute(
            select(Measurement.identity, func.max(Measurement.repeat))
            .where(Measurement.identity.in_(chunk))
            .group_by(Measurement.identity)
        )
        last = {row[0]: row[1] for row in highest}
        rows = [
            {**{column: unique[name][column] for column in COLUMNS}, "repeat": last[name] + 1}
            for name in chunk
        ]
        returned = (Measurement.id, Measurement.identity, Measurement.state)
        repeats |= {
            row.identity: row
            for row in session.execute(insert(Measurement).returning(*returned), rows)
        }
    return repeats


def _chunks(unique: dict[str, Json]) -> list[list[str]]:
    ordered = sorted(unique)
    return [ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK)]


def _refresh(session: Session, failed: list[Json]) -> None:
    """Update failed points to how they are planned now: their files may have moved."""
    if failed:
        names = ("source", "kind", "group_key", "seconds", "requires_device", "requires_memory_gb")
        session.execute(
            text(
                "UPDATE measurements SET "
                f"{', '.join(f'{name} = :{name}' for name in names)} WHERE id = :id"
            ).bindparams(bindparam("source", type_=JSONB)),
            [{name: point[name] for name in ("id", *names)} for point in failed],
        )


def reopen(session: Session, measurements: list[int]) -> None:
    """Reopen failed measurements, and the finished experiments that they belong to."""
    if not measurements:
        return
    session.execute(
        text("""
            UPDATE measurements SET state = 'open', error = NULL, num_lost = 0,
                finished_at = NULL
            WHERE id = ANY(:ids) AND state = 'failed'"""),
        {"ids": measurements},
    )
    experiments = session.execute(
        text("""
            SELECT id FROM experiments WHERE id IN (
                SELECT experiment_id FROM experiment_points WHERE measurement_id = ANY(:ids))
            ORDER BY id FOR UPDATE"""),
        {"ids": measurements},
    )
    affected = [row.id for row in experiments]
    session.execute(
        text("""
            WITH numbered AS (
                SELECT experiment_id, measurement_id,
                    (row_number() OVER (PARTITION BY experiment_id ORDER BY position) - 1)
                        / :per_version AS step
                FROM experiment_points
                WHERE experiment_id = ANY(:experiments) AND measurement_id = ANY(:ids)),
            steps AS (
                SELECT experiment_id, max(step) AS last FROM numbered GROUP BY experiment_id),
            counted AS (
                UPDATE experiments e SET finished_at = NULL,
                    version = version + 1
                        + (SELECT last FROM steps WHERE steps.experiment_id = e.id),
                    state = CASE WHEN state IN ('done', 'failed') THEN 'active' ELSE state END,
                    num_failed = (
                        SELECT count(*) FROM experiment_points p
                        JOIN measurements m ON m.id = p.measurement_id
                        WHERE p.experiment_id = e.id AND m.state = 'failed')
                WHERE id = ANY(:experiments) RETURNING id, version)
            UPDATE experiment_points p
            SET version = counted.version - steps.last + numbered.step, ended = false
            FROM counted JOIN steps ON steps.experiment_id = counted.id
            JOIN numbered ON numbered.experiment_id = counted.id
            WHERE p.experiment_id = counted.id
                AND p.measurement_id = numbered.measurement_id"""),
        {"experiments": affected, "ids": measurements, "per_version": PER_VERSION},
    )


def join_queue(session: Session, owner: str, joined: list[int]) -> None:
    """Let a user who was idle start with the least served user: idle time earns no credit."""
    session.execute(
        text("""
            UPDATE users SET turn = greatest(turn, (
                SELECT min(u.turn) FROM users u JOIN experiments e ON e.owner = u.name
                WHERE e.state = 'active' AND u.name <> :owner))
            WHERE name = :owner AND NOT EXISTS (
                SELECT FROM experiments
                WHERE owner = :owner AND state = 'active' AND id <> ALL(:joined))"""),
        {"owner": owner, "joined": joined},
    )


def change_state(session: Session, experiment: Experiment, action: str) -> bool:
    """Pause, resume, cancel or retry; False when the experiment's state does not allow it.

    Only retry writes to measurements: a running point stops when its worker sees that no experiment
    wants it.
    """
    before = {"pause": ["active"], "resume": ["paused"], "cancel": ["active", "paused"]}
    after = {"pause": "paused", "resume": "active", "cancel": "cancelled"}
    if action == "retry":
        return _retry(session, experiment)
    changed = session.execute(
        text("""
            UPDATE experiments SET state = :after, version = version + 1,
                finished_at = CASE WHEN :after = 'cancelled' THEN clock_timestamp() END
            WHERE id = :id AND state = ANY(:before) RETURNING id"""),
        {"id": experiment.id, "after": after[action], "before": before[action]},
    ).first()
    if changed is not None and action == "resume":
        join_queue(session, experiment.owner, [experiment.id])
    return changed is not None


def _retry(session: Session, experiment: Experiment) -> bool:
    """Reopen failed points, and resume a cancelled experiment."""
    failed = list(
        session.scalars(
            text("""
                SELECT m.id FROM measurements m
                JOIN experiment_points p ON p.measurement_id = m.id
                WHERE p.experiment_id = :id AND m.state = 'failed'
                ORDER BY m.identity, m.repeat FOR NO KEY UPDATE OF m"""),
            {"id": experiment.id},
        )
    )
    if not failed and experiment.state != "cancelled":
        return False
    reopen(session, failed)
    session.execute(
        text("""
            UPDATE experiments SET state = 'active', version = version + 1, finished_at = NULL
            WHERE id = :id AND state = 'cancelled'"""),
        {"id": experiment.id},
    )
    finish_experiments(session, [experiment.id])
    join_queue(session, experiment.owner, [experiment.id])
    return True


def existing_states(session: Session, identities: Sequence[str]) -> dict[str, str]:
    """Return {identity: state} of the measurements that exist and are finished or wanted."""
    rows = session.execute(  # one array: as a list of parameters it takes ten times as long
        text("""
            SELECT identity, state FROM measurements m
            WHERE identity = ANY(:identities) AND repeat = 0 AND (
                state IN ('done', 'failed') OR EXISTS (
                    SELECT FROM experiment_points p JOIN experiments e ON e.id = p.experiment_id
                    WHERE p.measurement_id = m.id AND e.state = 'active'))"""),
        {"identities": list(identities)},
    )
    return {row.identity: row.state for row in rows}


def register_suite(session: Session, suite: Json, checkpoints: Sequence[Json]) -> None:
    """Add checkpoints to a suite, created where missing; existing revisions get the new values.

    Raises SuiteTakenError where a suite of that name has another recipe: two models must not share
    a curve.
    """
    same = session.scalar(
        text("""
            INSERT INTO suites (name, description, evaluation, recipe, owner)
            VALUES (:name, :description, :evaluation, :recipe, :owner)
            ON CONFLICT (name) DO UPDATE SET name = excluded.name
                WHERE suites.recipe IS NOT DISTINCT FROM excluded.recipe
            RETURNING name"""),
        {"owner": "", **suite},
    )
    if same is None:
        raise SuiteTakenError(
            f"there is already another suite {suite['name']!r}: choose another name"
        )
    for checkpoint in sorted(checkpoints, key=lambda c: str(c["revision"])):
        names = list(checkpoint)
        json_columns = [name for name in ("location", "remarks") if name in names]
        updates = [f"{n} = excluded.{n}" for n in names if n not in ("suite", "revision")]
        session.execute(
            text(f"""
                INSERT INTO checkpoints ({", ".join(names)})
                VALUES ({", ".join(":" + name for name in names)})
                ON CONFLICT (suite, revision) DO UPDATE SET {", ".join(updates)}
            """).bindparams(*(bindparam(name, type_=JSONB) for name in json_columns)),
            checkpoint,
        )
