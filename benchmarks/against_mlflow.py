"""Comparison with MLflow's tracking server.

    python benchmarks/against_mlflow.py --data DIR --mlflow VENV/bin/mlflow

Both run on this machine and on one Postgres, with the same number of experiments (runs) and one
of 20,000 points (steps of a metric), and get requests in turns over one connection each:

- one point: ucurve's worker begins and finishes a measurement in the database (two commits:
  attempt, number, counters of all experiments that show it); MLflow's client logs one metric over
  REST (one commit).
- a batch: ucurve plans and records an experiment of 984 points over REST; MLflow logs 984 metrics
  by log-batch.
- history: all pages over REST. ucurve's rows carry labels, state and metrics, MLflow's a step, a
  time and a value.
- list: the newest 20. filter: the newest 20 of one suite, of many owners. ucurve's records hold
  spec and progress, MLflow's params, tags and latest metrics.

CPU time is that of the client, the servers and Postgres together. Each server is one process.
MLflow and psycopg2 need an environment of their own.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
from team_database import PEOPLE, fill
from team_queries import Processor, Times, print_times

from ucurve.lab.embedded import DATABASE, Engines
from ucurve.lab.launch import answers, api, environment, free_port, migrate, wait_for
from ucurve.lab.processes import ChildProcess

EXPERIMENTS, POINTS, BATCH = 300, 20_000, 984


class Mlflow:
    """MLflow's REST API."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.step = 0
        self.experiment = self.post("experiments/create", name="team")["experiment_id"]
        rng = random.Random(0)
        for number in range(EXPERIMENTS):
            tags = [
                {"key": "owner", "value": rng.choice(PEOPLE)},
                {"key": "suite", "value": f"suite-{number % 20}"},
            ]
            run = self.post(
                "runs/create",
                experiment_id=self.experiment,
                start_time=number,
                tags=tags,
                run_name=f"run {number}",
            )
            self.run = run["run"]["info"]["run_id"]
            self.post(
                "runs/log-batch",
                run_id=self.run,
                params=[{"key": f"p{i}", "value": "1"} for i in range(8)],
            )
        for start in range(0, POINTS, 1000):
            self.batch("history", range(start, start + 1000))

    def post(self, path: str, **body: Any) -> Any:
        return self.http.post(f"/api/2.0/mlflow/{path}", json=body).raise_for_status().json()

    def batch(self, key: str, steps: range) -> None:
        metrics = [
            {"key": key, "value": 1 / (step + 1), "timestamp": step, "step": step} for step in steps
        ]
        self.post("runs/log-batch", run_id=self.run, metrics=metrics)

    def write_one(self) -> None:
        self.step += 1
        self.post(
            "runs/log-metric",
            run_id=self.run,
            key="one",
            value=1.0,
            timestamp=self.step,
            step=self.step,
        )

    def write_batch(self) -> None:
        self.step += BATCH
        self.batch("batch", range(self.step, self.step + BATCH))

    def history(self) -> None:
        num, token = 0, ""
        while True:
            params = {
                "run_id": self.run,
                "metric_key": "history",
                "max_results": POINTS,
                "page_token": token,
            }
            page = (
                self.http.get("/api/2.0/mlflow/metrics/get-history", params=params)
                .raise_for_status()
                .json()
            )
            num, token = num + len(page["metrics"]), page.get("next_page_token", "")
            if not token:
                break
        assert num == POINTS, num

    def search(self, filter: str = "") -> None:
        query = {
            "experiment_ids": [self.experiment],
            "max_results": 20,
            "filter": filter,
            "order_by": ["start_time DESC"],
        }
        assert self.post("runs/search", **query)["runs"]

    def filtered(self) -> None:
        self.search("tags.suite = 'suite-3' and tags.owner != 'nobody'")


class Ucurve:
    """Ucurve's REST API, and the database transitions of a worker."""

    def __init__(self, http: httpx.Client) -> None:
        from db.session import open_session

        self.http = http
        self.open_session = open_session
        self.seed = 0
        page = (
            http.get("/v1/experiments", params={"limit": 500, "archived": "also"})
            .raise_for_status()
            .json()
        )
        self.largest = max(
            page["experiments"], key=lambda experiment: experiment["progress"]["total"]
        )["id"]
        self.suite = next(
            experiment["spec"]["suite"]
            for experiment in page["experiments"]
            if "suite" in experiment["spec"]
        )
        self.claimed: list[tuple[str, int]] = []

    def claim(self) -> None:
        """Claim a slice of points, as a worker does; not timed."""
        from db import leases

        while not self.claimed:
            with self.open_session() as session:
                token, points = leases.claim(
                    session, "bench", "cpu", 64.0, None, 1.0, slice_seconds=60.0
                )
                session.commit()
            assert points, "nothing is open"
            self.claimed = [(token, point.id) for point in points]

    def write_one(self) -> None:
        from db import leases

        token, point = self.claimed.pop()
        with self.open_session() as session:
            attempt = leases.begin(session, point, token, "bench", "cpu", {"torch": "2.13.0"})
            session.commit()
        assert attempt is not None
        with self.open_session() as session:
            assert leases.finish(
                session, point, token, attempt, {"metrics": {"nll_mean": 1.0, "num_tokens": 2048.0}}
            )
            session.commit()

    def write_batch(self) -> None:
        self.seed += 1
        gammas = [round(0.01 * (k + 1), 3) for k in range(12)]
        spec = {
            "kind": "linear_model",
            "width": 40,
            "num_features": 40,
            "fixed_gammas": gammas,
            "relative_gammas": gammas,
        }
        answer = self.http.post(
            "/v1/experiments",
            json={"name": "batch", "spec": spec | {"l2_sp": [], "seed": self.seed}},
        ).raise_for_status()
        assert answer.json()["progress"]["total"] == BATCH, answer.json()["progress"]

    def history(self) -> None:
        num, cursor, more = 0, 0, True
        while more:
            answer = self.http.get(
                f"/v1/experiments/{self.largest}/measurements", params={"after": cursor}
            ).raise_for_status()
            page = answer.json()
            num, cursor, more = num + len(page["rows"]), page["cursor"], page["more"]
        assert num >= POINTS, num

    def search(self, **filters: Any) -> None:
        assert (
            self.http.get("/v1/experiments", params={"limit": 20, **filters})
            .raise_for_status()
            .json()["experiments"]
        )

    def filtered(self) -> None:
        self.search(suite=self.suite, owner=list(PEOPLE), archived="also")


def mlflow_server(
    command: Path, database: str, sockets: Path, port: int, logs: Path
) -> ChildProcess:
    store = f"postgresql+psycopg2://{DATABASE}@/{database}?host={sockets}"
    options = [
        "--backend-store-uri",
        store,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--no-serve-artifacts",
    ]
    return ChildProcess(
        "mlflow", [str(command), "server", *options], logs / "mlflow.log", env=dict(os.environ)
    )


def timed(processor: Processor, act: Callable[[], None]) -> tuple[float, float]:
    used, began = processor.used(), time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began), processor.used() - used


def compare(ours: Ucurve, theirs: Mlflow, processor: Processor, rounds: int) -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'milliseconds':32} {'n':>5}{'median':>10}{'95%':>10}{'cpu med.':>10}{'cpu 95%':>10}")
    for name, times in (
        ("write_one", 4),
        ("write_batch", 1),
        ("history", 1),
        ("search", 4),
        ("filtered", 4),
    ):
        taken: tuple[Times, Times] = ([], [])
        for number in range(rounds * times + 1):
            for server, times_of in zip((ours, theirs), taken, strict=True):
                if name == "write_one":
                    ours.claim()
                took = timed(processor, getattr(server, name))
                if number:  # the first of each warms caches
                    times_of.append(took)
        print_times(f"{name}, ucurve", taken[0])
        print_times(f"{name}, MLflow", taken[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a new data folder")
    parser.add_argument("--mlflow", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    with Engines(args.data) as engines:
        port, other = free_port(), free_port()
        url = f"http://127.0.0.1:{port}"
        env = environment(engines.database_url, engines.broker_url, url, args.data)
        os.environ["UCURVE_DATABASE_URL"] = engines.database_url
        migrate(env)
        with psycopg.connect(
            host=str(engines.sockets), user=DATABASE, dbname=DATABASE
        ) as connection:
            fill(connection, EXPERIMENTS, 2 * POINTS, POINTS)
            connection.execute("CREATE DATABASE mlflow")
        children = (
            api(env, "127.0.0.1", port, args.data / "logs"),
            mlflow_server(args.mlflow, "mlflow", engines.sockets, other, args.data / "logs"),
        )
        try:
            for child in children:
                child.start()
            wait_for(children[0], lambda: answers(f"{url}/health/ready"))
            wait_for(children[1], lambda: answers(f"http://127.0.0.1:{other}/health"), 300)
            first = httpx.Client(base_url=url, timeout=300)
            second = httpx.Client(base_url=f"http://127.0.0.1:{other}", timeout=300)
            processor = Processor(os.getpid())  # with children: client, both servers, Postgres
            compare(Ucurve(first), Mlflow(second), processor, args.rounds)
        finally:
            for child in children:
                child.stop()


if __name__ == "__main__":
    main()
