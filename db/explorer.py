"""Finding measurements over the whole database: which there are, pivots, and the matching rows in the order of their ids.

The pivot reads finished rows through `measurements_found` and needs a few microseconds a row; what may be chosen comes from
`label_values`, which is written when points are planned (`record_labels`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db.models import Json

COLUMNS = (
    "suite",
    "kind",
    "evaluation",
    "tokens",
    "state",
)  # columns of measurements; every other name is a label's
LATEST = 100  # points of each kind that are looked at for its metrics
WHEN_NONFINITE = "WHEN 'pos_inf' THEN float8 'Infinity' WHEN 'neg_inf' THEN float8 '-Infinity' WHEN 'nan' THEN float8 'NaN'"
MOST_VALUES = 200  # a label with more is typed, not chosen
FOUND = """m.id, m.identity, m.repeat, m.kind, m.suite, m.tokens, m.evaluation, m.labels, m.state, m.metrics, m.nonfinite,
    m.error, m.finished_at"""


@dataclass(frozen=True)
class Condition:
    """On a label: `values` are alternatives; null stands for a label that is null or missing."""

    name: str
    comparison: Literal["=", ">=", "<="]
    values: tuple[Any, ...]


@dataclass(frozen=True)
class MeasurementFilter:
    """What is looked for; an empty sequence means anything. Repeats are numbers asked for afresh."""

    suite: Sequence[str] = ()
    kind: Sequence[str] = ()
    evaluation: Sequence[str] = ()
    tokens_from: int | None = None
    tokens_to: int | None = None
    state: Sequence[str] = ("done",)
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    repeats: bool = False
    conditions: Sequence[Condition] = field(default=())

    def sql(self, states: Sequence[str] | None = None) -> tuple[str, Json]:
        """The WHERE clause on `m`, and its parameters."""
        chosen = sorted(set(self.state if states is None else states)) or [
            "done",
            "failed",
            "open",
            "running",
        ]
        quoted = ", ".join(f"'{state}'" for state in chosen if state.isalpha())
        # Written out: a parameter would hide from the planner that the index of finished rows serves.
        parts = [f"m.state = {quoted}" if len(chosen) == 1 else f"m.state IN ({quoted})"]
        given: Json = {}
        for name in ("suite", "kind", "evaluation"):
            if values := list(getattr(self, name)):
                parts.append(f"m.{name} = ANY(:{name})")
                given[name] = values
        bounds = {"m.tokens >=": "tokens_from", "m.tokens <=": "tokens_to"}
        bounds |= {"m.finished_at >=": "finished_after", "m.finished_at <": "finished_before"}
        for comparison, name in bounds.items():
            if (value := getattr(self, name)) is not None:
                parts.append(f"{comparison} :{name}")
                given[name] = value
        if not self.repeats:
            parts.append("m.repeat = 0")
        for number, condition in enumerate(self.conditions):
            sql, more = _condition(condition, number)
            parts.append(sql)
            given |= more
        return " AND ".join(parts), given


def _condition(condition: Condition, number: int) -> tuple[str, Json]:
    label = f"(m.labels -> :name{number})"
    given: Json = {f"name{number}": condition.name}
    if condition.comparison == "=":
        given[f"values{number}"] = [json.dumps(value) for value in condition.values]
        return f"coalesce({label}, 'null') = ANY(CAST(:values{number} AS jsonb[]))", given
    given[f"bound{number}"] = float(condition.values[0])
    value = f"CASE WHEN jsonb_typeof({label}) = 'number' THEN CAST({label} AS float) END"
    return f"{value} {condition.comparison} :bound{number}", given


def record_labels(session: Session, measurements: Sequence[int]) -> None:
    """Offer the labels of these new rows to who explores. Call it after all of them are written: one statement, in one order."""
    session.execute(
        text("""
            INSERT INTO label_values (suite, kind, evaluation, name, value)
            SELECT DISTINCT coalesce(m.suite, ''), m.kind, coalesce(m.evaluation, ''), l.key, l.value
            FROM measurements m, jsonb_each(m.labels) l
            WHERE m.id = ANY(:ids) AND jsonb_typeof(l.value) NOT IN ('array', 'object') AND length(l.value::text) <= 200
            ORDER BY 1, 2, 3, 4, 5 ON CONFLICT DO NOTHING"""),
        {"ids": list(measurements)},
    )


def places(session: Session) -> list[Row[Any]]:
    """Every (suite, kind, evaluation) that anything was planned for; '' where there is none.

    Found by jumping from one to the next in the index: there are few of them among very many values.
    """
    return list(
        session.execute(
            text("""
                WITH RECURSIVE found AS (
                    (SELECT suite, kind, evaluation FROM label_values ORDER BY 1, 2, 3 LIMIT 1)
                    UNION ALL
                    SELECT following.* FROM found, LATERAL (
                        SELECT suite, kind, evaluation FROM label_values v
                        WHERE (v.suite, v.kind, v.evaluation) > (found.suite, found.kind, found.evaluation)
                        ORDER BY 1, 2, 3 LIMIT 1) following)
                SELECT * FROM found""")
        )
    )


def labels(session: Session, sought: MeasurementFilter) -> list[Row[Any]]:
    """Per label of what is sought (its suites, kinds and evaluation sets): how many values it has, and which, if these are few."""
    parts, given = ["true"], Json()
    for name in ("suite", "kind", "evaluation"):
        if values := list(getattr(sought, name)):
            parts.append(f"{name} = ANY(:{name})")
            given[name] = values
    return list(
        session.execute(
            text(f"""
                WITH known AS MATERIALIZED (SELECT DISTINCT name, value FROM label_values WHERE {" AND ".join(parts)})
                SELECT name, num_values, CASE WHEN num_values <= {MOST_VALUES} THEN
                    (SELECT jsonb_agg(value ORDER BY value) FROM known WHERE known.name = counted.name) ELSE '[]' END AS values
                FROM (SELECT name, count(*) AS num_values FROM known GROUP BY name) counted ORDER BY name"""),
            given,
        )
    )


def metrics(session: Session, kinds: Sequence[str]) -> list[str]:
    """Names of the metrics that the latest points of these kinds have."""
    return list(
        session.scalars(
            text(f"""
                SELECT DISTINCT name FROM unnest(CAST(:kinds AS text[])) AS asked(kind), LATERAL (
                    SELECT m.metrics FROM measurements m WHERE m.kind = asked.kind AND m.state = 'done'
                    ORDER BY m.finished_at DESC LIMIT {LATEST}) latest, jsonb_object_keys(latest.metrics) name
                ORDER BY name"""),
            {"kinds": list(kinds)},
        )
    )


def pivot(
    session: Session,
    sought: MeasurementFilter,
    row: str,
    column: str | None,
    metric: str,
    median: bool,
    most: int,
) -> list[Row[Any]]:
    """A row per cell: how many values are finite, which not, or missing; mean, deviation, least and greatest of the finite ones,
    and the median of all (NaN as the greatest).
    """
    where, given = sought.sql(("done",))
    given |= {"metric": metric, "most": most}
    given |= {
        name: label
        for name, label in (("row", row), ("column", column))
        if label is not None and label not in COLUMNS
    }
    # The planner expects nearly as many cells as points, which would not fit into its usual memory, and sorts them all.
    session.execute(text("SET LOCAL work_mem = '64MB'"))
    known = f"coalesce(value, CASE nonfinite {WHEN_NONFINITE} END)"
    middle = (
        f"percentile_cont(0.5) WITHIN GROUP (ORDER BY {known})" if median else "CAST(NULL AS float)"
    )
    return list(
        session.execute(
            text(f"""
                SELECT "row", "column", count(*) AS num_points, count(value) AS num_finite, avg(value) AS mean,
                    stddev_samp(value) AS deviation, min(value) AS least, max(value) AS greatest, {middle} AS median,
                    count(*) FILTER (WHERE nonfinite = 'pos_inf') AS pos_inf,
                    count(*) FILTER (WHERE nonfinite = 'neg_inf') AS neg_inf, count(*) FILTER (WHERE nonfinite = 'nan') AS nan
                FROM (SELECT {_axis(row, "row")} AS "row", {_axis(column, "column")} AS "column",
                        CAST(m.metrics ->> :metric AS float) AS value, m.nonfinite ->> :metric AS nonfinite
                    FROM measurements m WHERE {where}) found
                GROUP BY "row", "column" LIMIT :most"""),
            given,
        )
    )


def _axis(name: str | None, parameter: str) -> str:
    if name is None:
        return "CAST(NULL AS text)"
    return f"m.{name}" if name in COLUMNS else f"m.labels -> :{parameter}"


def points(
    session: Session, sought: MeasurementFilter, before: int | None, limit: int
) -> list[Row[Any]]:
    """Matching rows, the newest ids first, below `before`."""
    where, given = sought.sql()
    if before is not None:
        where += " AND m.id < :before"
    return list(
        session.execute(
            text(
                f"SELECT {FOUND} FROM measurements m WHERE {where} ORDER BY m.id DESC LIMIT :limit"
            ),
            {**given, "before": before, "limit": limit},
        )
    )


def names(session: Session, sought: MeasurementFilter) -> list[Row[Any]]:
    """Every label (with the type of its values) and metric of the matching points: reads all of them."""
    where, given = sought.sql()
    return list(
        session.execute(
            text(f"""
                SELECT source, name, CASE
                    WHEN count(DISTINCT type) > 1 OR min(type) IN ('array', 'object') THEN 'json'
                    WHEN min(type) = 'number' AND bool_and(whole) THEN 'integer'
                    ELSE coalesce(min(type), 'string') END AS type
                FROM (
                    SELECT DISTINCT 'label' AS source, l.key AS name, nullif(jsonb_typeof(l.value), 'null') AS type,
                        l.value::text ~ '^-?[0-9]{{1,18}}$' OR jsonb_typeof(l.value) <> 'number' AS whole
                    FROM measurements m, jsonb_each(m.labels) l WHERE {where}
                    UNION ALL
                    SELECT DISTINCT 'metric', name, 'number', false
                    FROM measurements m, jsonb_object_keys(m.metrics) name WHERE {where}) found
                GROUP BY source, name ORDER BY source, name"""),
            given,
        )
    )


def all_points(
    session: Session, sought: MeasurementFilter, chunk: int
) -> Iterator[Sequence[Row[Any]]]:
    """All matching rows in the order of their ids, so many at a time, held by the server meanwhile."""
    where, given = sought.sql()
    streamed = text(
        f"SELECT {FOUND} FROM measurements m WHERE {where} ORDER BY m.id"
    ).execution_options(yield_per=chunk)
    yield from session.execute(streamed, given).partitions()
