"""Find measurements in the whole database: facets, pivots, and matching rows in the order of ids.

The pivot reads finished rows through the index `measurements_found` and takes a few microseconds
per row; facets come from `label_values`, which is written when points are planned
(`record_labels`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db.bits_per_byte import BITS_PER_BYTE, evaluated, value_of
from db.models import Json

# Columns of measurements; every other name is a label.
COLUMNS = ("suite", "kind", "evaluation", "tokens", "state")
NUM_LATEST = 100  # points of each experiment type whose metrics are listed
WHEN_NONFINITE = """
    WHEN 'pos_inf' THEN float8 'Infinity' WHEN 'neg_inf' THEN float8 '-Infinity'
    WHEN 'nan' THEN float8 'NaN'"""
SCALE = (
    1e160  # Postgres fails where a sum of squares leaves the doubles: sums of such values / SCALE
)
HUGE = 1e150
MODERATE = f"FILTER (WHERE abs(value) <= {HUGE})"
SCALED = f"CASE WHEN abs(value) > {HUGE / 1e50} THEN value / {SCALE} ELSE value * 0 END"
MOMENTS = f"""
    avg(value) {MODERATE} AS mean, stddev_samp(value) {MODERATE} AS deviation,
    avg({SCALED}) AS huge_mean, stddev_samp({SCALED}) AS huge_deviation"""
MAX_VALUES = 200  # values of a label with more are not listed
ROW = """
    m.id, m.identity, m.repeat, m.kind, m.suite, m.tokens, m.evaluation, m.labels, m.state,
    m.metrics, m.nonfinite, m.error, m.finished_at, evaluated.tokens_per_byte"""


@dataclass(frozen=True)
class Condition:
    """A condition on a label: `values` are alternatives; null matches a null or missing label."""

    name: str
    comparison: Literal["=", ">=", "<="]
    values: tuple[Any, ...]


@dataclass(frozen=True)
class MeasurementFilter:
    """Which measurements; an empty sequence does not restrict. Repeats are re-measurements."""

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
        """Return the WHERE clause on `m`, and its parameters."""
        chosen = sorted(set(self.state if states is None else states)) or [
            "done",
            "failed",
            "open",
            "running",
        ]
        quoted = ", ".join(f"'{state}'" for state in chosen if state.isalpha())
        # A literal: with a parameter the planner would not use the index of finished rows.
        parts = [f"m.state = {quoted}" if len(chosen) == 1 else f"m.state IN ({quoted})"]
        params: Json = {}
        for name in ("suite", "kind", "evaluation"):
            if values := list(getattr(self, name)):
                parts.append(f"m.{name} = ANY(:{name})")
                params[name] = values
        bounds = {"m.tokens >=": "tokens_from", "m.tokens <=": "tokens_to"}
        bounds |= {"m.finished_at >=": "finished_after", "m.finished_at <": "finished_before"}
        for comparison, name in bounds.items():
            if (value := getattr(self, name)) is not None:
                parts.append(f"{comparison} :{name}")
                params[name] = value
        if not self.repeats:
            parts.append("m.repeat = 0")
        for number, condition in enumerate(self.conditions):
            sql, more = _condition(condition, number)
            parts.append(sql)
            params |= more
        return " AND ".join(parts), params


def _condition(condition: Condition, number: int) -> tuple[str, Json]:
    label = f"(m.labels -> :name{number})"
    params: Json = {f"name{number}": condition.name}
    if condition.comparison == "=":
        params[f"values{number}"] = [json.dumps(value) for value in condition.values]
        return f"coalesce({label}, 'null') = ANY(CAST(:values{number} AS jsonb[]))", params
    params[f"bound{number}"] = float(condition.values[0])
    value = f"CASE WHEN jsonb_typeof({label}) = 'number' THEN CAST({label} AS float) END"
    return f"{value} {condition.comparison} :bound{number}", params


def record_labels(session: Session, measurements: Sequence[int]) -> None:
    """Add the labels of these new rows to the facets.

    Call it once after all of them are written: a single statement inserts in one order.
    """
    session.execute(
        text("""
            INSERT INTO label_values (suite, kind, evaluation, name, value)
            SELECT DISTINCT coalesce(m.suite, ''), m.kind, coalesce(m.evaluation, ''), l.key,
                l.value
            FROM measurements m, jsonb_each(m.labels) l
            WHERE m.id = ANY(:ids) AND jsonb_typeof(l.value) NOT IN ('array', 'object')
                AND length(l.value::text) <= 200
            ORDER BY 1, 2, 3, 4, 5 ON CONFLICT DO NOTHING"""),
        {"ids": list(measurements)},
    )


def places(session: Session) -> list[Row[Any]]:
    """Return every (suite, kind, evaluation) with planned points; '' where there is none.

    Jumps from one to the next in the index: there are few of them among very many values.
    """
    return list(
        session.execute(
            text("""
                WITH RECURSIVE place AS (
                    (SELECT suite, kind, evaluation FROM label_values ORDER BY 1, 2, 3 LIMIT 1)
                    UNION ALL
                    SELECT following.* FROM place, LATERAL (
                        SELECT suite, kind, evaluation FROM label_values v
                        WHERE (v.suite, v.kind, v.evaluation)
                            > (place.suite, place.kind, place.evaluation)
                        ORDER BY 1, 2, 3 LIMIT 1) following)
                SELECT * FROM place""")
        )
    )


def labels(session: Session, where: MeasurementFilter) -> list[Row[Any]]:
    """Return labels of the filter's suites, types and evaluation sets, with their values.

    Of a label with more than MAX_VALUES only the number of values is returned.
    """
    parts, params = ["true"], Json()
    for name in ("suite", "kind", "evaluation"):
        if values := list(getattr(where, name)):
            parts.append(f"{name} = ANY(:{name})")
            params[name] = values
    return list(
        session.execute(
            text(f"""
                WITH existing AS MATERIALIZED (
                    SELECT DISTINCT name, value FROM label_values WHERE {" AND ".join(parts)})
                SELECT name, num_values, CASE WHEN num_values <= {MAX_VALUES} THEN
                    (SELECT jsonb_agg(value ORDER BY value) FROM existing
                        WHERE existing.name = counted.name)
                    ELSE '[]' END AS values
                FROM (SELECT name, count(*) AS num_values FROM existing GROUP BY name) counted
                ORDER BY name"""),
            params,
        )
    )


def metrics(session: Session, kinds: Sequence[str]) -> list[str]:
    """Return the metrics of the latest points of these experiment types, derived ones too."""
    return list(
        session.scalars(
            text(f"""
                WITH m AS (
                    SELECT latest.* FROM unnest(CAST(:kinds AS text[])) AS k(kind), LATERAL (
                        SELECT m.metrics, m.source, m.inputs, m.evaluation
                        FROM measurements m
                        WHERE m.kind = k.kind AND m.state = 'done'
                        ORDER BY m.finished_at DESC LIMIT {NUM_LATEST}) latest)
                SELECT jsonb_object_keys(m.metrics) AS name FROM m
                UNION SELECT '{BITS_PER_BYTE}' FROM m {evaluated()}
                    WHERE evaluated.tokens_per_byte IS NOT NULL
                ORDER BY name"""),
            {"kinds": list(kinds)},
        )
    )


def pivot(
    session: Session,
    where: MeasurementFilter,
    row: str,
    column: str | None,
    metric: str,
    median: bool,
    limit: int,
) -> list[Row[Any]]:
    """Return a row per cell with the counts of finite and other values.

    Mean, deviation, least and greatest are of the finite values, the median is of all (NaN as the
    greatest). Where a value is beyond HUGE, mean and deviation are `huge_mean` and
    `huge_deviation`, in units of SCALE.
    """
    condition, params = where.sql(("done",))
    stored, value, nonfinite, join = value_of(metric)
    params |= {"metric": stored, "limit": limit}
    params |= {
        name: label
        for name, label in (("row", row), ("column", column))
        if label is not None and label not in COLUMNS
    }
    # The planner expects nearly as many cells as points, which do not fit into the default memory,
    # and would sort them all.
    session.execute(text("SET LOCAL work_mem = '64MB'"))
    any_value = f"coalesce(value, CASE nonfinite {WHEN_NONFINITE} END)"
    middle = (
        f"percentile_cont(0.5) WITHIN GROUP (ORDER BY {any_value})"
        if median
        else "CAST(NULL AS float)"
    )
    return list(
        session.execute(
            text(f"""
                SELECT "row", "column", count(*) AS num_points, count(value) AS num_finite,
                    {MOMENTS},
                    min(value) AS least, max(value) AS greatest, {middle} AS median,
                    count(*) FILTER (WHERE nonfinite = 'pos_inf') AS pos_inf,
                    count(*) FILTER (WHERE nonfinite = 'neg_inf') AS neg_inf,
                    count(*) FILTER (WHERE nonfinite = 'nan') AS nan
                FROM (SELECT {_axis(row, "row")} AS "row", {_axis(column, "column")} AS "column",
                        {value} AS value, {nonfinite} AS nonfinite
                    FROM measurements m {join} WHERE {condition}) points
                GROUP BY "row", "column" LIMIT :limit"""),
            params,
        )
    )


def _axis(name: str | None, parameter: str) -> str:
    if name is None:
        return "CAST(NULL AS text)"
    return f"m.{name}" if name in COLUMNS else f"m.labels -> :{parameter}"


def points(
    session: Session, where: MeasurementFilter, before: int | None, limit: int
) -> list[Row[Any]]:
    """Return matching rows with ids below `before`, newest first."""
    condition, params = where.sql()
    if before is not None:
        condition += " AND m.id < :before"
    return list(
        session.execute(
            text(
                f"SELECT {ROW} FROM measurements m {evaluated()} WHERE {condition} "
                "ORDER BY m.id DESC LIMIT :limit"
            ),
            {**params, "before": before, "limit": limit},
        )
    )


def names(session: Session, where: MeasurementFilter) -> list[Row[Any]]:
    """Return labels (with the type of their values) and metrics of all matching points."""
    condition, params = where.sql()
    return list(
        session.execute(
            text(f"""
                SELECT source, name, CASE
                    WHEN count(DISTINCT type) > 1 OR min(type) IN ('array', 'object') THEN 'json'
                    WHEN min(type) = 'number' AND bool_and(integral) THEN 'integer'
                    ELSE coalesce(min(type), 'string') END AS type
                FROM (
                    SELECT DISTINCT 'label' AS source, l.key AS name,
                        nullif(jsonb_typeof(l.value), 'null') AS type,
                        l.value::text ~ '^-?[0-9]{{1,18}}$'
                            OR jsonb_typeof(l.value) <> 'number' AS integral
                    FROM measurements m, jsonb_each(m.labels) l WHERE {condition}
                    UNION ALL
                    SELECT DISTINCT 'metric', name, 'number', false
                    FROM measurements m, jsonb_object_keys(m.metrics) name
                    WHERE {condition}
                    UNION ALL
                    SELECT 'metric', '{BITS_PER_BYTE}', 'number', false
                    FROM (SELECT DISTINCT ON (m.evaluation) m.evaluation, m.metrics, m.source,
                            m.inputs
                        FROM measurements m WHERE {condition} AND m.metrics ? 'num_tokens'
                        ORDER BY m.evaluation) m {evaluated()}
                    WHERE evaluated.tokens_per_byte IS NOT NULL) columns
                GROUP BY source, name ORDER BY source, name"""),
            params,
        )
    )


def all_points(
    session: Session, where: MeasurementFilter, chunk: int
) -> Iterator[Sequence[Row[Any]]]:
    """Yield all matching rows in the order of ids, `chunk` at a time, from a server-side cursor."""
    condition, params = where.sql()
    streamed = text(
        f"SELECT {ROW} FROM measurements m {evaluated()} WHERE {condition} ORDER BY m.id"
    ).execution_options(yield_per=chunk)
    yield from session.execute(streamed, params).partitions()
