"""Numbers at the edges of double precision keep their value through every way in and out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Lab
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from db.json_text import to_json
from ucurve.analysis.measurement_table import to_frame
from ucurve.client import Client
from ucurve.import_export.parquet import read_table
from ucurve.import_export.reader import import_folder
from ucurve.import_export.writer import export
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import canonical

SHARED_LAB = True
NUMBERS = (1e15, 1e16, 9.3e18, 1e19, 1e22, 1.7e308, -1.7e308, 5e-324, -0.0, 0.1)
SUITE = "tiny"


def attempt(value: float) -> dict[str, Any]:
    return {
        "worker": "elsewhere",
        "device": "cpu",
        "versions": {},
        "outcome": "done",
        "started_at": "2026-01-02T03:04:05Z",
        "finished_at": "2026-01-02T03:04:06Z",
        "metrics": {"nll_mean": value},
        "series": {"window_nll": [value, 1.0, value], "window_tokens": [8, 8, 8]},
        "shown": True,
    }


def measurement(name: str, value: float) -> dict[str, Any]:
    """A finished row in whose inputs, labels, metrics and series the number stands."""
    inputs = {"test": name, "strength": value}
    return {
        "identity": hashlib.sha256(canonical(inputs).encode()).hexdigest(),
        "repeat": 0,
        "kind": "gaussian_perturbation",
        "inputs": inputs,
        "source": {},
        "labels": {"test": name, "gamma": value, "scale": "init_std", "draw": 0, "group": "all"}
        | {"revision": "r", "tokens": 1000, "replicate": 0, "phase": None},
        "group_key": name,
        "seconds": 1.0,
        "requires_device": "any",
        "requires_memory_gb": 0.1,
        "state": "done",
        "finished_at": "2026-01-02T03:04:06Z",
        "attempts": [attempt(value)],
    }


def add(client: Client, name: str, numbers: Iterable[float]) -> int:
    """Import an experiment with a point per number; return its id."""
    rows = [measurement(f"{name} {place}", value) for place, value in enumerate(numbers)]
    client.import_measurements("elsewhere", rows)
    spec = {"kind": "gaussian_perturbation", "suite": SUITE, "gammas": [0.2], "draws": 1}
    seconds = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10**8
    time = (datetime(2026, 1, 2, tzinfo=UTC) - timedelta(seconds=seconds)).isoformat()
    points = [{**{k: row[k] for k in ("identity", "repeat", "labels")}, "stage": 0} for row in rows]
    fields = {"name": name, "kind": spec["kind"], "owner": "ann", "tags": [], "notes": ""}
    times = {"created_at": time, "started_at": time, "finished_at": time}
    added = client.import_experiment(
        {"origin": "elsewhere", "id": 1, "priority": 0, "spec": spec, "points": points}
        | fields
        | times
    )
    return added.id


def same(found: Any, value: float) -> bool:
    """Whether a number came back as the same double; the sign of zero may be lost."""
    return isinstance(found, float) and found == value


@pytest.fixture(scope="module")
def id(lab: Lab) -> int:
    return add(lab.client, "extremes", NUMBERS)


def test_rows_tables_and_csv_give_the_numbers_back(lab: Lab, id: int) -> None:
    client = lab.client
    rows = client.rows(id, series="all")
    for row, value in zip(rows, NUMBERS, strict=True):
        assert same(row.metrics["nll_mean"], value), value
        assert same(row.labels["gamma"], value), value
        assert row.series["window_nll"] == [value, 1.0, value]
    table = client.table(id)
    assert list(table["nll_mean"]) == list(table["gamma"]) == list(NUMBERS)
    assert table["nll_mean"].dtype == table["gamma"].dtype == float
    [head, *lines] = csv.reader(io.StringIO(client.csv(id)))
    for line, value in zip(lines, NUMBERS, strict=True):
        cells = dict(zip(head, line, strict=True))
        assert len(cells["nll_mean"]) < 30
        assert same(float(cells["nll_mean"]), value)
        assert same(float(cells["gamma"]), value)


def test_a_point_file_and_its_identity_agree(lab: Lab, id: int) -> None:
    for row in lab.client.rows(id):
        point = lab.client.point(row.id)
        digest = hashlib.sha256(canonical(point.inputs).encode()).hexdigest()
        assert digest == row.identity


def test_events_give_the_numbers_back(lab: Lab, id: int) -> None:
    import httpx

    text = httpx.get(f"{lab.url}/v1/experiments/{id}/events", timeout=60).text
    [data] = [
        line.removeprefix("data: ")
        for block in text.split("\n\n")
        if "event: rows" in block
        for line in block.splitlines()
        if line.startswith("data: ")
    ]
    rows = sorted(json.loads(data)["rows"], key=lambda row: row["position"])
    assert [float(row["metrics"]["nll_mean"]) for row in rows] == list(NUMBERS)


def test_the_explorer_gives_the_numbers_back(lab: Lab, id: int) -> None:
    client, where = lab.client, {"finished_before": "2026-01-03T00:00:00Z"}
    own = {row.id: value for row, value in zip(client.rows(id), NUMBERS, strict=True)}
    found = {point.id: point for point in client.find_all(**where) if point.id in own}
    assert {key: point.metrics["nll_mean"] for key, point in found.items()} == own
    lines = csv.DictReader(io.StringIO(client.export_points("csv", **where).decode()))
    assert {int(one["id"]): float(one["nll_mean"]) for one in lines if int(one["id"]) in own} == own
    parquet = pq.read_table(io.BytesIO(client.export_points("parquet", **where))).to_pylist()
    assert {one["id"]: one["nll_mean"] for one in parquet if one["id"] in own} == own
    assert {one["id"]: one["gamma"] for one in parquet if one["id"] in own} == own
    for aggregate in ("mean", "median", "min", "max", "count"):
        client.pivot(rows="tokens", metric="nll_mean", aggregate=aggregate, **where)
    cells = client.pivot(rows="gamma", metric="nll_mean", **where).cells
    assert {cell.row: cell.value for cell in cells}[1e22] == 1e22


def test_an_export_holds_the_numbers_and_is_imported_again(
    lab: Lab, id: int, tmp_path: Path
) -> None:
    client, folder = lab.client, tmp_path / "out"
    export(client, folder, {"experiment": [id]}, "here", quiet, site=True, force=False)
    by_id = {row.id: value for row, value in zip(client.rows(id), NUMBERS, strict=True)}
    for table, key in (("measurements", "id"), ("attempts", "measurement")):
        rows = list(read_table(folder, table))
        assert {row[key]: row["metrics"]["nll_mean"] for row in rows} == by_id
    assert all(row["series"]["window_nll"][0] == by_id[row["measurement"]] for row in rows)
    assert not import_folder(client, folder, quiet).changed


def quiet(*_: object) -> None:
    """Take a report of progress."""


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(numbers=st.lists(FINITE, min_size=20, max_size=20))
@settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_double_survives_the_way_in_and_out(lab: Lab, numbers: list[float]) -> None:
    digest = hashlib.sha256(repr(numbers).encode()).hexdigest()
    rows = lab.client.rows(add(lab.client, digest[:12], numbers), series="all")
    for row, value in zip(rows, numbers, strict=True):
        assert same(row.metrics["nll_mean"], value)
        assert same(row.labels["gamma"], value)
        assert row.series["window_nll"] == [value, 1.0, value]
        inputs = lab.client.provenance(row.id).inputs
        digest = hashlib.sha256(canonical(inputs).encode()).hexdigest()
        assert digest == row.identity, (value, inputs)


@given(value=st.recursive(FINITE | st.text() | st.none(), lambda inner: st.lists(inner)))
def test_json_for_the_database_means_the_same_and_keeps_floats(value: Any) -> None:
    text = to_json({"value": value, "1e+16": "1e+16"})
    assert repr(json.loads(text)) == repr({"value": value, "1e+16": "1e+16"})
    numbers = (part for part in NUMBER.findall(text) if not part.startswith('"'))
    assert not any("e+" in number for number in numbers)


NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\de]+')


def test_integers_that_earlier_releases_stored_for_floats_are_floats_in_tables() -> None:
    row = MeasurementRow(
        id=1, identity="a", position=0, state="done", labels={"strength": 10**22, "draw": 3}
    ).model_copy(update={"metrics": {"nll_mean": 10**22}})
    table = to_frame([row])
    assert table["strength"].dtype == table["nll_mean"].dtype == float
    assert table["draw"].dtype == int


def test_the_explorer_averages_what_no_sum_of_squares_holds(lab: Lab) -> None:
    numbers = [1.6e308, 1.2e308, 1e-300, -3.0]
    add(lab.client, "sums", numbers)
    where = {"finished_before": "2026-01-03T00:00:00Z"}
    cells = lab.client.pivot(rows="test", metric="nll_mean", **where).cells
    own = {cell.row: cell.value for cell in cells if str(cell.row).startswith("sums")}
    assert list(own.values()) == numbers
    [cell] = lab.client.pivot(rows="suite", metric="nll_mean", aggregate="max", **where).cells
    assert cell.value is not None
    assert cell.value >= 1.6e308
    [cell] = lab.client.pivot(rows="kind", metric="nll_mean", **where).cells
    assert cell.value is not None  # a mean of far more than the squares of its values allow


def test_zero_has_no_sign_in_an_identity() -> None:
    assert canonical([-0.0, "-0.0", -0.05, -0.0]) == '[0.0,"-0.0",-0.05,0.0]'
    assert canonical([-1e-07, -10.0]) == "[-1e-07,-10.0]"
