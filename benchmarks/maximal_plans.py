"""Twenty maximal plans at once: memory of the API, and how long a colleague waits for the list.

python benchmarks/maximal_plans.py

Plans are sent by one viewer, then by twenty, each again after a 429. Those above the limit of
points are refused; those just below are answered. Meanwhile a colleague reads the list of
experiments ten times a second. Beside each case: the growth of the API's memory (its peak above the
value before), the latencies of the list, and of single refusals without load.
"""

from __future__ import annotations

import argparse
import collections
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from ucurve.client import Client
from ucurve.lab import launch
from ucurve.lab.embedded import Engines

NUM_PLANS = 20
NUM_EXPERIMENTS = 60  # on the colleague's page of the list
BELOW = {"gammas": [0.01 * n for n in range(1, 11)], "draws": 249}  # 49,810 points on `tiny`
ABOVE = {"gammas": [0.01 * n for n in range(1, 33)], "draws": 1000}  # 640,010
PATIENCE = 600.0  # seconds until a plan is given up


def spec(fields: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"kind": "gaussian_perturbation", "suite": "tiny", **fields}}


class Lab:
    """The API with a database of its own, and users with tokens."""

    def __init__(self, engines: Engines, data: Path) -> None:
        port = launch.free_port()
        self.url = f"http://127.0.0.1:{port}"
        env = launch.environment(engines.database_url, engines.broker_url, self.url, data)
        env |= {"UCURVE_ACCESS": "tokens", "UCURVE_OWNER": "root"}
        self.api = launch.api(env, "127.0.0.1", port, data / "logs")
        self.api.start()
        launch.wait_for(self.api, lambda: launch.answers(f"{self.url}/health/ready"))
        self.admin = Client(self.url, (data / "admin-token").read_text().strip())

    def user(self, name: str) -> str:
        """Return the token of a new viewer."""
        self.admin.set_user(name, role="viewer")
        return self.admin.create_token("benchmark", owner=name).secret

    def megabytes(self) -> float:
        """Return the resident memory of the API."""
        status = Path(f"/proc/{self.api.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


class Watch:
    """Reads the list as a colleague, and the API's memory, until it is stopped."""

    def __init__(self, lab: Lab, token: str) -> None:
        self.lab, self.stopped = lab, threading.Event()
        self.before = self.peak = lab.megabytes()
        self.latencies: list[float] = []
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=lab.url, headers=headers, timeout=120)
        self.threads = [threading.Thread(target=work) for work in (self.read, self.weigh)]

    def read(self) -> None:
        while not self.stopped.wait(0.1):
            start = time.monotonic()
            self.http.get("/v1/experiments").raise_for_status()
            self.latencies.append(1000 * (time.monotonic() - start))

    def weigh(self) -> None:
        while not self.stopped.wait(0.02):
            self.peak = max(self.peak, self.lab.megabytes())

    def __enter__(self) -> Watch:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        self.http.close()


def plan(lab: Lab, token: str, body: dict[str, Any]) -> list[int]:
    """Send a plan until its answer is not 429; return all statuses."""
    statuses: list[int] = []
    headers = {"Authorization": f"Bearer {token}"}
    give_up = time.monotonic() + PATIENCE
    while not statuses or (statuses[-1] == 429 and time.monotonic() < give_up):
        answer = httpx.post(f"{lab.url}/v1/plan", json=body, headers=headers, timeout=PATIENCE)
        statuses.append(answer.status_code)
        if answer.status_code == 429:
            time.sleep(float(answer.headers.get("Retry-After", 1)))
    return statuses


def measure(lab: Lab, name: str, colleague: str, viewers: list[str], fields: Any) -> None:
    start = time.monotonic()
    with Watch(lab, colleague) as watch, ThreadPoolExecutor(NUM_PLANS) as pool:
        senders = [viewers[number % len(viewers)] for number in range(NUM_PLANS)]
        answers = pool.map(lambda token: plan(lab, token, spec(fields)), senders)
        statuses = collections.Counter(status for tried in answers for status in tried)
    took = time.monotonic() - start
    cuts = statistics.quantiles(watch.latencies, n=100) if watch.latencies[1:] else [0.0] * 99
    print(
        f"{name}: {took:.1f} s; answers {dict(sorted(statuses.items()))}; memory "
        f"+{watch.peak - watch.before:.0f} MB; list median {cuts[49]:.0f} ms, 95th percentile "
        f"{cuts[94]:.0f} ms, worst {max(watch.latencies, default=0):.0f} ms "
        f"of {len(watch.latencies)}",
        flush=True,
    )


def idle(lab: Lab, colleague: str) -> None:
    """Print the latency of the list while nobody plans: what the machine is capable of."""
    with Watch(lab, colleague) as watch:
        time.sleep(5)
    cuts = statistics.quantiles(watch.latencies, n=100)
    print(f"nobody plans: list median {cuts[49]:.0f} ms, 95th percentile {cuts[94]:.0f} ms")


def single(lab: Lab, token: str) -> None:
    """Print how long one refusal takes, without load."""
    latencies = []
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=lab.url, headers=headers, timeout=120) as http:
        for _ in range(10):
            start = time.monotonic()
            assert http.post("/v1/plan", json=spec(ABOVE)).status_code == 422
            latencies.append(1000 * (time.monotonic() - start))
    print(f"one refusal: median {statistics.median(latencies):.0f} ms, worst {max(latencies):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Engines(Path(folder)) as engines:
        data = Path(folder)
        launch.migrate(launch.environment(engines.database_url, engines.broker_url, "", data))
        lab = Lab(engines, data)
        try:
            for number in range(NUM_EXPERIMENTS):
                lab.admin.submit({"kind": "linear_model", "seed": number, "draws": 2})
            colleague = lab.user("colleague")
            viewers = [lab.user(f"viewer-{number}") for number in range(NUM_PLANS)]
            idle(lab, colleague)
            single(lab, viewers[0])
            for title, fields in (("refused", ABOVE), ("answered", BELOW)):
                measure(lab, f"{title}, one viewer", colleague, viewers[:1], fields)
                measure(lab, f"{title}, twenty viewers", colleague, viewers, fields)
        finally:
            lab.api.stop()


if __name__ == "__main__":
    main()
