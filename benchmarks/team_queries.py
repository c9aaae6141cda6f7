"""Query latency on a full database: `python benchmarks/team_queries.py --data DIR`.

DIR is a data folder filled by team_database.py. The API runs in a process of its own on its own
Postgres and gets randomised requests one after another over one connection. Reported are the
latency, from the request to the last byte of the response, and the CPU time of the API and all of
Postgres. On a shared machine only CPU time is meaningful: with two free cores the latency is about
the same, or less where Postgres reads in parallel.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ucurve.lab.embedded import Engines
from ucurve.lab.launch import answers, api, environment, free_port, wait_for

WORDS = (
    "noise",
    "bottom moves",
    "verdict late",
    "rebuttal",
    "initialisation",
    "fine tuning",
    "olmo",
    "zzz",
)
Request = tuple[str, dict[str, Any]]


@contextmanager
def served(data: Path) -> Iterator[tuple[httpx.Client, Processor]]:
    """Run the API on the database in this folder."""
    with Engines(data) as engines:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        child = api(
            environment(engines.database_url, engines.broker_url, url, data),
            "127.0.0.1",
            port,
            data / "logs",
        )
        child.start()
        try:
            wait_for(child, lambda: answers(f"{url}/health/ready"))
            with httpx.Client(base_url=url, timeout=120) as http:
                yield http, Processor(child.pid, engines.postgres.pid)
        finally:
            child.stop()


class Processor:
    """CPU time of processes and their children, in milliseconds."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids

    def used(self) -> float:
        return sum(self._of(pid) for pid in self.pids)

    def _of(self, pid: int) -> float:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            ran = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6
            # Ticks of children that have exited.
            ended = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[13:15]
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        return (
            ran
            + 1000 * sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")
            + sum(self._of(int(child)) for child in children)
        )


class RandomRequests:
    """Random requests of each sort, as people and pages send them."""

    def __init__(self, http: httpx.Client, seed: int) -> None:
        self.rng = random.Random(seed)
        self.facets = http.get("/v1/explorer/facets").raise_for_status().json()
        page = (
            http.get("/v1/experiments", params={"sort": "progress", "limit": 1})
            .raise_for_status()
            .json()
        )
        self.num_experiments = page["total"]
        self.largest = self._largest(http)

    def _largest(self, http: httpx.Client) -> int:
        middle = {"limit": 500, "offset": self.num_experiments // 2 - 250}
        page = http.get("/v1/experiments", params=middle).raise_for_status().json()
        largest = max(page["experiments"], key=lambda experiment: experiment["progress"]["total"])
        return int(largest["id"])

    def list(self) -> Request:
        sort = self.rng.choice(
            ["newest", "oldest", "name", "owner", "state", "progress", "finished"]
        )
        return "/v1/experiments", {
            "sort": sort,
            "limit": 20,
            "offset": 20 * self.rng.randrange(self.num_experiments // 20),
        }

    def search(self) -> Request:
        params: dict[str, Any] = {"text": self.rng.choice(WORDS), "limit": 20}
        filters = {
            "state": self.rng.choice(["running", "queued", "done", "failed"]),
            "suite": self.rng.choice(self.facets["suites"]),
            "owner": self.rng.choice(["ada", "ben", "chen"]),
            "tag": "paper",
            "created_after": "2026-03-01T00:00:00Z",
        }
        return "/v1/experiments", params | {
            name: filters[name] for name in self.rng.sample(list(filters), self.rng.randrange(3))
        }

    def _place(self) -> dict[str, Any]:
        kind = self.rng.choice(["gaussian_perturbation", "fine_tuning"])
        return {
            "suite": self.rng.sample(self.facets["suites"], self.rng.choice([1, 1, 2, 3])),
            "kind": [kind],
        }

    def pivot(self) -> Request:
        params = self._place()
        gaussian = params["kind"] == ["gaussian_perturbation"]
        params |= {"rows": "tokens", "metric": self.rng.choice(["nll_mean", "perplexity"])}
        params |= {
            "columns": self.rng.choice(
                ["gamma", "scale", "suite"] if gaussian else ["learning_rate", "method", "suite"]
            )
        }
        params["aggregate"] = self.rng.choice(["mean", "mean", "median", "max", "count"])
        if self.rng.random() < 0.5:
            params["where"] = [
                self.rng.choice(["gamma=0.1", "scale=init_std"])
                if gaussian
                else "learning_rate>=0.001"
            ]
        return "/v1/explorer/pivot", params

    def facets_of(self) -> Request:
        return "/v1/explorer/facets", self._place() if self.rng.random() < 0.7 else {}

    def points(self) -> Request:
        return "/v1/explorer/points", self._place() | {"limit": 100}

    def everything(self) -> Request:
        """A pivot without a filter: reads every finished point of the database."""
        return "/v1/explorer/pivot", {"rows": "suite", "columns": "kind", "metric": "nll_mean"}


Times = list[tuple[float, float]]  # latency and CPU time, ms


def timed(
    http: httpx.Client, processor: Processor, request: Request
) -> tuple[tuple[float, float], httpx.Response]:
    used, began = processor.used(), time.perf_counter()
    answer = http.get(request[0], params=request[1]).raise_for_status()
    return (1000 * (time.perf_counter() - began), processor.used() - used), answer


def figure(http: httpx.Client, processor: Processor, experiment: int) -> tuple[Times, int, int]:
    """Read all pages of the largest experiment; return times, number of rows, bytes."""
    times, cursor, more, rows, size = [], 0, True, 0, 0
    while more:
        took, answer = timed(
            http, processor, (f"/v1/experiments/{experiment}/measurements", {"after": cursor})
        )
        times.append(took)
        page = answer.json()
        cursor, more, rows, size = (
            page["cursor"],
            page["more"],
            rows + len(page["rows"]),
            size + len(answer.content),
        )
    return times, rows, size


def print_times(name: str, times: Times) -> None:
    columns = [sorted(column) for column in zip(*times, strict=True)]
    quantiles = [
        column[min(len(column) - 1, int(q * len(column)))]
        for column in columns
        for q in (0.5, 0.95)
    ]
    print(
        f"{name:32} {len(times):5}" + "".join(f"{value:10.0f}" for value in quantiles), flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=200, help="of each sort")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with served(args.data) as (http, processor):
        requests = RandomRequests(http, args.seed)
        sorts: list[tuple[str, Callable[[], Request], int]] = [
            ("list", requests.list, args.requests),
            ("search", requests.search, args.requests),
            ("facets", requests.facets_of, args.requests),
            ("pivot", requests.pivot, args.requests),
            ("points", requests.points, args.requests),
            ("pivot over everything", requests.everything, 5),
        ]
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(
            f"{'milliseconds':32} {'n':>5}{'median':>10}{'95%':>10}{'cpu med.':>10}{'cpu 95%':>10}"
        )
        for name, make, num in sorts:
            timed(http, processor, make())  # the first answer of a process loads what it needs
            print_times(name, [timed(http, processor, make())[0] for _ in range(num)])
        times, rows, size = figure(http, processor, requests.largest)
        print_times(f"figure, a page of {rows // len(times)} rows", times)
        seconds, cpu = (sum(column) / 1000 for column in zip(*times, strict=True))
        print(
            f"figure, all {rows:,} rows: {seconds:.1f} s ({cpu:.1f} s cpu) in {len(times)} pages, "
            f"{size / 1e6:.0f} MB"
        )
        print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
