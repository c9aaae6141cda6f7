"""Only needed series are sent, and concurrent requests share one computation."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import event_loops
import httpx
import pytest
from conftest import Lab
from sqlalchemy import text

from api.single_flight import SingleFlightCache
from db import changes, submissions
from db.session import open_session
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import parse
from ucurve.experiments.evaluation_points import WINDOWS

SHARED_LAB = True

GAUSSIAN = {"kind": "gaussian_perturbation", "gammas": [0.1, 0.2], "draws": 2, "scale": "init_std"}


@pytest.fixture(scope="module")
def measured(lab: Lab) -> int:
    id = lab.client.submit(GAUSSIAN).id
    lab.client.wait(id, timeout=120)
    return id


def test_losses_per_window_are_sent_for_unperturbed_rows_only_without_changing_figures_or_verdicts(
    lab: Lab, measured: int
) -> None:
    needed, everything = lab.client.rows(measured), lab.client.rows(measured, series="all")
    assert all(set(WINDOWS) <= set(row.series) for row in everything)
    assert [WINDOWS[0] in row.series for row in needed] == [
        row.labels["gamma"] == 0 for row in needed
    ]
    assert not any(row.series for row in lab.client.rows(measured, series="none"))
    spec = parse(lab.client.experiment(measured).spec)
    tables = [to_frame(rows) for rows in (needed, everything)]
    first, second = (spec.figures(table) for table in tables)
    assert {name: figure.datasets for name, figure in first.items()} == {
        name: figure.datasets for name, figure in second.items()
    }
    verdicts = [spec.verdicts(table) for table in tables]
    assert verdicts[0] == verdicts[1]
    from_server = [verdict.model_dump() for verdict in lab.client.verdicts(measured)]
    assert [verdict.model_dump() for verdict in verdicts[0]] == from_server
    size = len(httpx.get(f"{lab.url}/v1/experiments/{measured}/measurements").content)
    assert (
        size
        < len(httpx.get(f"{lab.url}/v1/experiments/{measured}/measurements?series=all").content) / 3
    )


def test_concurrent_clients_get_the_same_events_and_verdicts(lab: Lab, measured: int) -> None:
    with ThreadPoolExecutor(8) as many:
        asked = [
            many.submit(httpx.get, f"{lab.url}/v1/experiments/{measured}/{what}")
            for what in ["events", "verdicts"] * 4
        ]
    answers = [one.result().text for one in asked]
    assert set(answers[::2]) == {answers[0]}
    assert answers[0].count("event: rows") == 1
    assert answers[0].count("event: experiment") == 1
    assert set(answers[1::2]) == {answers[1]}
    assert httpx.get(f"{lab.url}/v1/experiments/999999/verdicts").status_code == 404


def test_an_answer_is_computed_once_for_concurrent_callers_and_failures_are_not_cached() -> None:
    made: list[str] = []
    open_now = threading.Event()

    def make() -> str:
        made.append("answer")
        open_now.wait(10)
        if len(made) == 1:
            raise ValueError("the first one fails")
        return f"number {len(made)}"

    async def ask() -> list[object]:
        shared = SingleFlightCache[str]("test", size=2)
        first = asyncio.gather(*(shared.get("key", make) for _ in range(5)), return_exceptions=True)
        gone = asyncio.create_task(shared.get("key", make))
        await asyncio.sleep(0.1)
        gone.cancel()  # stops nobody else's
        open_now.set()
        failed = await first
        again = await asyncio.gather(*(shared.get("key", make) for _ in range(5)))
        for key in "abc":
            await shared.get(key, lambda: "other")
        return [*map(str, failed), *again, await shared.get("key", make)]

    answers = event_loops.run(ask())
    assert answers == [*["the first one fails"] * 5, *["number 2"] * 5, "number 3"]


def test_reopened_points_are_read_in_small_pages(database_url: str) -> None:
    points = [
        {
            "identity": f"again {number}",
            "inputs": {},
            "source": {},
            "labels": {"number": number},
            "group_key": "",
            "stage": 0,
            "seconds": 1.0, "requires_device": "cuda", "requires_memory_gb": 0.0,
        }
        for number in range(600)
    ]  # fmt: skip
    with open_session() as session:
        made = submissions.submit(
            session, "ana", {"name": "", "kind": "linear_model", "spec": {}}, points
        )
        ids = list(
            session.scalars(
                text(
                    "UPDATE measurements SET state = 'failed' "
                    "WHERE identity LIKE 'again %' RETURNING id"
                )
            )
        )
        cursor = made.version
        submissions.reopen(session, ids)
        session.refresh(made)
        pages = []
        while rows := changes.changes_after(
            session, made.id, cursor, limit=submissions.PER_VERSION
        ):
            pages.append([row.position for row in rows])
            cursor = rows[-1].version
        session.rollback()
    assert [len(page) for page in pages] == [250, 250, 100]
    assert [position for page in pages for position in page] == list(range(600))
    assert cursor == made.version
