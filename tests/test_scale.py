"""Search in a team's database: correct answers, and query plans that use indexes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from conftest import Lab
from sqlalchemy import event, text
from team_database import fill

from db.session import engine, open_session
from ucurve.client import Client, RequestRejectedError

NUM_WORKERS = 0
EXPERIMENTS, MEASUREMENTS, LARGEST = 200, 20_000, 3_000
BIG = ("measurements", "experiment_points", "attempts")


@pytest.fixture(scope="module")
def filled(lab: Lab) -> Client:
    from urllib.parse import unquote

    address = lab.database_url.removeprefix("postgresql+psycopg://")
    database, host = address.split("/", 1)[1].split("?host=")
    with psycopg.connect(
        host=unquote(host), user=address.split("@")[0], dbname=database
    ) as connection:
        fill(connection, EXPERIMENTS, MEASUREMENTS, LARGEST)
    return lab.client


def rows(sql: str, **given: Any) -> list[Any]:
    with open_session() as session:
        return list(session.execute(text(sql), given))


def test_a_pivot_counts_every_point_and_means_include_nonfinite_values(
    filled: Client,
) -> None:
    [(suite,)] = rows(
        "SELECT suite FROM measurements WHERE kind = 'gaussian_perturbation' "
        "GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    )
    sought: dict[str, Any] = {
        "suite": [suite],
        "kind": ["gaussian_perturbation"],
        "where": ["gamma>=0.1"],
    }
    found = filled.pivot(**sought, rows="gamma", columns="scale")
    expected = rows(
        """SELECT labels ->> 'gamma', labels ->> 'scale',
                  array_agg(CAST(metrics ->> 'nll_mean' AS float)), count(*)
           FROM measurements
           WHERE state = 'done' AND suite = :suite AND kind = 'gaussian_perturbation'
           AND CAST(labels ->> 'gamma' AS float) >= 0.1 GROUP BY 1, 2""",
        suite=suite,
    )
    assert found.num_points == sum(row[3] for row in expected)
    by_place = {(float(row[0]), row[1]): row for row in expected}
    assert {(cell.row, cell.column) for cell in found.cells} == set(by_place)
    for cell in found.cells:
        numbers = [value for value in by_place[cell.row, cell.column][2] if value is not None]
        lost = by_place[cell.row, cell.column][3] - len(numbers)
        assert (cell.num, cell.pos_inf + cell.nan, cell.missing) == (len(numbers), lost, 0)
        if lost:
            assert cell.value is None
            assert cell.low is None
            continue
        mean = sum(numbers) / len(numbers)
        assert cell.value == pytest.approx(mean)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in numbers) / (len(numbers) - 1))
        assert cell.high is not None
        assert cell.high - mean == pytest.approx(deviation / math.sqrt(len(numbers)), rel=1e-6)
    perplexity = filled.pivot(**sought, rows="gamma", columns="scale", metric="perplexity")
    of_means = [
        None if cell.value is None else pytest.approx(math.exp(cell.value)) for cell in found.cells
    ]
    assert [cell.value for cell in perplexity.cells] == of_means
    for cell in filled.pivot(**sought, rows="gamma", columns="scale", aggregate="median").cells:
        ranked = sorted(
            math.inf if value is None else value for value in by_place[cell.row, cell.column][2]
        )
        middle = (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2
        assert cell.value == (pytest.approx(middle) if math.isfinite(middle) else None)
    assert {"tokens"} <= set(found.averaged_over)
    assert "draw" in found.repeated_over


def test_pages_and_files_contain_every_point_once(filled: Client) -> None:
    import pandas as pd

    sought: dict[str, Any] = {
        "kind": ["gaussian_perturbation"],
        "where": ["gamma=0.5"],
        "state": ["done", "failed"],
    }
    points = list(filled.find_all(**sought))
    [(expected,)] = rows(
        """SELECT count(*) FROM measurements
           WHERE kind = 'gaussian_perturbation' AND labels ->> 'gamma' = '0.5'
           AND state IN ('done', 'failed')"""
    )
    assert len(points) == len({point.id for point in points}) == expected
    csv = pd.read_csv(io.BytesIO(filled.export_points("csv", **sought)))
    parquet = pd.read_parquet(io.BytesIO(filled.export_points("parquet", **sought)))
    assert sorted(csv["id"]) == sorted(parquet["id"]) == sorted(point.id for point in points)
    assert list(csv.columns) == list(parquet.columns)
    lost = [point.id for point in points if point.nonfinite.get("nll_mean") == "pos_inf"]
    assert (
        sorted(parquet["id"][parquet["nll_mean"] == math.inf])
        == sorted(csv["id"][csv["nll_mean"] == math.inf])
        == sorted(lost)
    )
    assert lost


def test_facets_list_every_label(filled: Client) -> None:
    found = filled.facets(kind=["gaussian_perturbation"])
    gammas = next(label for label in found.labels if label.name == "gamma")
    expected = rows(
        "SELECT DISTINCT labels -> 'gamma' FROM measurements WHERE kind = 'gaussian_perturbation'"
    )
    assert sorted(gammas.values) == sorted(row[0] for row in expected)
    assert set(found.metrics) == {
        "perplexity",
        "bits_per_byte",
        "nll_mean",
        "num_tokens",
        "relative_change",
    }
    with pytest.raises(RequestRejectedError, match="is not a condition"):
        filled.pivot(where=["gamma"])


def test_the_list_of_experiments_filters_sorts_and_pages_without_repeats(filled: Client) -> None:
    everything = filled.experiments(archived="also", limit=500)
    assert everything.total == EXPERIMENTS
    for order in ("oldest", "name", "owner", "state", "progress", "finished"):
        pages = [
            filled.experiments(archived="also", sort=order, limit=60, offset=offset).experiments
            for offset in range(0, 200, 60)
        ]
        ids = [one.id for page in pages for one in page]
        assert sorted(ids) == sorted(one.id for one in everything.experiments), order
    first = everything.experiments[0]
    found = filled.experiments(
        suite=[first.spec.get("suite", "none")],
        owner=[first.owner],
        kind=[first.kind],
        archived="also",
    )
    assert first.id in [one.id for one in found.experiments]
    assert all(one.owner == first.owner and one.kind == first.kind for one in found.experiments)
    middle = everything.experiments[100].created_at.isoformat()
    after, before = (
        filled.experiments(archived="also", limit=1, **{name: middle}).total
        for name in ("created_after", "created_before")
    )
    assert (after, before) == (101, 99)
    assert filled.experiments(text="fine tuning NOISE", archived="also").total < EXPERIMENTS
    assert filled.experiments(archived="only").total + filled.experiments().total == EXPERIMENTS


@pytest.fixture
def statements() -> Iterator[list[tuple[str, Any]]]:
    """What this process asks of the database from here on."""
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine(), "before_cursor_execute", note)
    yield asked
    event.remove(engine(), "before_cursor_execute", note)


def sequential(statement: str, parameters: Any) -> list[str]:
    """Tables that a statement would read from end to end, though an index serves."""
    with engine().connect() as connection:
        found = connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON) {statement}", parameters
        ).scalar_one()[0]["Plan"]

    def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for inner in node.get("Plans", []):
            yield from nodes(inner)

    return [
        node["Relation Name"]
        for node in nodes(found)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG
    ]


def test_common_queries_use_indexes(filled: Client, statements: list[tuple[str, Any]]) -> None:
    from sqlalchemy import select

    from db import changes, explorer
    from db.eta import estimates
    from db.models import Experiment

    suite = filled.facets().suites[0]
    sought = explorer.MeasurementFilter(suite=[suite], kind=["gaussian_perturbation"])
    with open_session() as session:
        explorer.pivot(session, sought, "tokens", "gamma", "nll_mean", False, 1000)
        explorer.points(session, sought, None, 50)
        explorer.labels(session, sought)
        explorer.metrics(session, ["gaussian_perturbation"])
        explorer.places(session)
        changes.changes_after(session, EXPERIMENTS // 2 + 1, 0, 500, {})
        active = session.scalars(select(Experiment).where(Experiment.state == "active")).all()
        assert active
        estimates(session, active[:20])
    assert len(statements) > 8
    reads = [(sql, given) for sql, given in statements if not sql.startswith("SET")]
    assert not [(found, sql) for sql, given in reads if (found := sequential(sql, given))]
