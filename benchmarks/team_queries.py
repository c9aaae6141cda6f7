"""How fast a full database answers: `python benchmarks/team_queries.py --data DIR`, on what team_database.py made.

The real API in a process of its own on its own Postgres; randomised requests one after the other over one connection. Said are
the time of an answer, from the request to its last byte, and the processor time that the API and all of Postgres took for it: on
a machine that others use, only the second means something; with two free cores an answer takes about that long, or less where
Postgres reads in parallel.
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
    """The API on the database in this folder."""
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
    """Milliseconds of processor time that processes and their children have used."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids

    def used(self) -> float:
        return sum(self._of(pid) for pid in self.pids)

    def _of(self, pid: int) -> float:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            ran = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6
            ended = (
                Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[13:15]
            )  # its children that are gone
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        return (
            ran
            + 1000 * sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")
            + sum(self._of(int(child)) for child in children)
        )


class Asked:
    """Makes random requests of each sort, as people and pages do."""

    def __init__(self, http: httpx.Client, seed: int) -> None:
        self.rng = random.Random(seed)
        self.facets = http.get("/v1/explorer/facets").raise_for_status().json()
        found = (
            http.get("/v1/experiments", params={"sort": "progress", "limit": 1})
            .raise_for_status()
            .json()
        )
        self.num_experiments = found["total"]
        self.largest = self._largest(http)

    def _largest(self, http: httpx.Client) -> int:
        middle = {"limit": 500, "offset": self.num_experiments // 2 - 250}
        found = http.get("/v1/experiments", params=middle).raise_for_status().json()["experiments"]
        return int(max(found, key=lambda one: one["progress"]["total"])["id"])

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
        asked: dict[str, Any] = {"text": self.rng.choice(WORDS), "limit": 20}
        more = {
            "state": self.rng.choice(["running", "queued", "done", "failed"]),
            "suite": self.rng.choice(self.facets["suites"]),
            "owner": self.rng.choice(["ada", "ben", "chen"]),
            "tag": "paper",
            "created_after": "2026-03-01T00:00:00Z",
        }
        return "/v1/experiments", asked | {
            name: more[name] for name in self.rng.sample(list(more), self.rng.randrange(3))
        }

    def _place(self) -> dict[str, Any]:
        kind = self.rng.choice(["gaussian_perturbation", "fine_tuning"])
        return {
            "suite": self.rng.sample(self.facets["suites"], self.rng.choice([1, 1, 2, 3])),
            "kind": [kind],
        }

    def pivot(self) -> Request:
        asked = self._place()
        gaussian = asked["kind"] == ["gaussian_perturbation"]
        asked |= {"rows": "tokens", "metric": self.rng.choice(["nll_mean", "perplexity"])}
        asked |= {
            "columns": self.rng.choice(
                ["gamma", "scale", "suite"] if gaussian else ["learning_rate", "method", "suite"]
            )
        }
        asked["aggregate"] = self.rng.choice(["mean", "mean", "median", "max", "count"])
        if self.rng.random() < 0.5:
            asked["where"] = [
                self.rng.choice(["gamma=0.1", "scale=init_std"])
                if gaussian
                else "learning_rate>=0.001"
            ]
        return "/v1/explorer/pivot", asked

    def facets_of(self) -> Request:
        return "/v1/explorer/facets", self._place() if self.rng.random() < 0.7 else {}

    def points(self) -> Request:
        return "/v1/explorer/points", self._place() | {"limit": 100}

    def everything(self) -> Request:
        """No filter at all: reads every finished point of the database."""
        return "/v1/explorer/pivot", {"rows": "suite", "columns": "kind", "metric": "nll_mean"}


Times = list[tuple[float, float]]  # of an answer, and of processors


def timed(
    http: httpx.Client, processor: Processor, request: Request
) -> tuple[tuple[float, float], httpx.Response]:
    used, began = processor.used(), time.perf_counter()
    answer = http.get(request[0], params=request[1]).raise_for_status()
    return (1000 * (time.perf_counter() - began), processor.used() - used), answer


def figure(http: httpx.Client, processor: Processor, experiment: int) -> tuple[Times, int, int]:
    """All pages of the largest experiment, as a client reads them: times, rows, bytes."""
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


def say(name: str, times: Times) -> None:
    columns = [sorted(column) for column in zip(*times, strict=True)]
    shown = [
        column[min(len(column) - 1, int(q * len(column)))]
        for column in columns
        for q in (0.5, 0.95)
    ]
    print(f"{name:32} {len(times):5}" + "".join(f"{value:10.0f}" for value in shown), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=200, help="of each sort")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with served(given.data) as (http, processor):
        asked = Asked(http, given.seed)
        sorts: list[tuple[str, Callable[[], Request], int]] = [
            ("list", asked.list, given.requests),
            ("search", asked.search, given.requests),
            ("facets", asked.facets_of, given.requests),
            ("pivot", asked.pivot, given.requests),
            ("points", asked.points, given.requests),
            ("pivot over everything", asked.everything, 5),
        ]
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(
            f"{'milliseconds':32} {'n':>5}{'median':>10}{'95%':>10}{'cpu med.':>10}{'cpu 95%':>10}"
        )
        for name, make, num in sorts:
            timed(http, processor, make())  # the first answer of a process loads what it needs
            say(name, [timed(http, processor, make())[0] for _ in range(num)])
        times, rows, size = figure(http, processor, asked.largest)
        say(f"figure, a page of {rows // len(times)} rows", times)
        whole, busy = (sum(column) / 1000 for column in zip(*times, strict=True))
        print(
            f"figure, all {rows:,} rows: {whole:.1f} s ({busy:.1f} s cpu) in {len(times)} pages, {size / 1e6:.0f} MB"
        )
        print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
