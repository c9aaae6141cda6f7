"""Export tables in pages of JSON lines: all rows, or those of some experiments.

Tables are read in the order of TABLES while the lab keeps running: what a row refers to is in a
later table, so it is exported whenever the row is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

# The selected experiments; a missing filter excludes nothing.
CHOSEN = """
    (CAST(:experiments AS bigint[]) IS NULL OR e.id = ANY(CAST(:experiments AS bigint[])))
    AND (CAST(:tag AS text) IS NULL OR CAST(:tag AS text) = ANY(e.tags))
    AND (CAST(:owner AS text) IS NULL OR e.owner = CAST(:owner AS text))
    AND (CAST(:suite AS text) IS NULL OR EXISTS (
        SELECT FROM experiment_points p JOIN measurements m ON m.id = p.measurement_id
        WHERE p.experiment_id = e.id AND m.suite = CAST(:suite AS text)))
"""
POINTS_OF = f"""
    SELECT p.measurement_id FROM experiment_points p JOIN experiments e ON e.id = p.experiment_id
    WHERE {CHOSEN}"""
SOURCES_OF = (
    f"SELECT s.value FROM measurements m, jsonb_each(m.source) s WHERE m.id IN ({POINTS_OF})"
)


@dataclass(frozen=True)
class Table:
    """A table: its rows, exported columns, page key, and the filter of selected experiments."""

    source: str
    columns: str
    key: tuple[str, ...]
    chosen: str
    page: int = 2000
    exportable: str = "true"  # condition on rows of a complete export, too


TABLES = {
    "experiments": Table(
        "experiments e",
        """e.id, e.name, e.kind, e.owner, e.tags, e.notes, e.priority, e.spec::text AS spec,
        e.state, e.archived, e.num_points, e.num_done, e.num_failed, e.created_at, e.started_at,
        e.finished_at""",
        ("e.id",),
        CHOSEN,
    ),
    "points": Table(
        "experiment_points p JOIN measurements m ON m.id = p.measurement_id",
        """p.experiment_id AS experiment, p.measurement_id AS measurement, m.identity, m.repeat,
        p.position, p.stage, p.labels::text AS labels, p.reused""",
        ("p.experiment_id", "p.measurement_id"),
        f"p.experiment_id IN (SELECT e.id FROM experiments e WHERE {CHOSEN})",
        page=5000,
    ),
    "measurements": Table(
        "measurements m",
        """m.id, m.identity, m.repeat, m.kind, m.inputs::text AS inputs, m.source::text AS source,
        m.labels::text AS labels, m.group_key, m.seconds, m.requires_device, m.requires_memory_gb,
        CASE WHEN m.state = 'running' THEN 'open' ELSE m.state END AS state, m.metrics,
        m.nonfinite, m.error, m.attempt_id AS attempt, m.finished_at""",
        ("m.id",),
        f"m.id IN ({POINTS_OF})",
    ),
    "attempts": Table(
        "attempts a",
        """a.id, a.measurement_id AS measurement, a.worker, a.device, a.versions, a.outcome,
        a.started_at, a.finished_at, a.metrics, a.nonfinite, a.series, a.traceback, a.log,
        a.origin""",
        ("a.measurement_id", "a.id"),
        f"a.measurement_id IN ({POINTS_OF})",
        page=500,  # with losses per window in each
        exportable="a.outcome <> 'running'",
    ),
    "suites": Table(
        "suites s",
        "s.name, s.description, s.evaluation, s.recipe, s.owner, s.created_at",
        ("s.name",),
        f"s.name IN (SELECT value ->> 'suite' FROM ({SOURCES_OF}) AS sources)",
    ),
    "checkpoints": Table(
        "checkpoints c",
        """c.suite, c.revision, c.location::text AS location, c.step, c.tokens, c.replicate,
        c.phase, c.words, c.training_phase, c.replicate_name, c.position_source, c.num_parameters,
        c.context, c.weights_sha256, c.config_sha256, c.tokenizer_sha256, c.size_bytes,
        c.unresolved""",
        ("c.suite", "c.revision"),
        f"c.suite IN (SELECT value ->> 'suite' FROM ({SOURCES_OF}) AS sources)",
    ),
    "datasets": Table(
        "datasets d",
        """d.name, d.description, d.kind, d.parameters::text AS parameters,
        d.location::text AS location, d.sha256, d.size_bytes, d.unresolved, d.owner,
        d.created_at""",
        ("d.name",),
        f"d.name IN (SELECT value ->> 'name' FROM ({SOURCES_OF}) AS sources)",
    ),
    "reference_curves": Table(
        "reference_curves r",
        "r.name, r.suite, r.origin::text AS origin, r.rows::text AS rows, r.owner, r.created_at",
        ("r.name",),
        f"r.suite IN (SELECT value ->> 'suite' FROM ({SOURCES_OF}) AS sources)",
    ),
}
EVERYTHING: dict[str, Any] = {"experiments": None, "tag": None, "suite": None, "owner": None}


def count(session: Session, name: str, chosen: dict[str, Any]) -> int:
    """Return the number of rows of a table; `chosen` has the keys of EVERYTHING."""
    table = TABLES[name]
    return int(
        session.scalar(
            text(f"SELECT count(*) FROM {table.source} WHERE {_wanted(table, chosen)}"), chosen
        )
        or 0
    )


def page(
    session: Session, name: str, chosen: dict[str, Any], after: list[Any] | None
) -> tuple[list[str], list[Any] | None]:
    """Return rows after a key as JSON strings, and the key of the next page (None on the last)."""
    table = TABLES[name]
    keys = {f"key{i}": column for i, column in enumerate(table.key)}
    beyond = ""
    if after is not None:
        values = ", ".join(f"CAST(:{name} AS {_type(column)})" for name, column in keys.items())
        beyond = f" AND ({', '.join(table.key)}) > ({values})"
    rows = session.execute(
        text(f"""
            SELECT {", ".join(f"{column} AS {name}" for name, column in keys.items())},
                (SELECT CAST(row_to_json(r) AS text) FROM (SELECT {table.columns}) r) AS line
            FROM {table.source} WHERE {_wanted(table, chosen)}{beyond}
            ORDER BY {", ".join(table.key)} LIMIT :limit"""),
        {**chosen, **dict(zip(keys, after or [], strict=False)), "limit": table.page},
    ).all()
    last = [getattr(rows[-1], name) for name in keys] if len(rows) == table.page else None
    return [row.line for row in rows], last


def _wanted(table: Table, chosen: dict[str, Any]) -> str:
    everything = all(value is None for value in chosen.values())
    return table.exportable if everything else f"{table.exportable} AND {table.chosen}"


def _type(column: str) -> str:
    return "bigint" if column.endswith("id") else "text"
