"""Several browsers on one experiment: request rate, and delay from commit to mark on the chart.

    python benchmarks/dashboard_load.py --viewers 10      # needs Debian's chromium

Starts a lab of its own in a temporary folder. Requests are counted in the API's access log
(UCURVE_ACCESS_LOG), marks ten times a second in every browser.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from ucurve.client import Client
from ucurve.lab.launch import free_port

ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-background-networking --no-first-run "
    "--disable-component-update --disable-sync"
)
KINDS = Path(__file__).parents[1] / "tests" / "kinds"
# Collects the time of each mark; charts are looked up once, since that takes time too.
WATCH = """() => { window.seen = [];
    const roots = root => [...root.querySelectorAll('*')].filter(element => element.shadowRoot)
        .flatMap(element => [element.shadowRoot, ...roots(element.shadowRoot)]);
    const charts = roots(document).filter(root => root.querySelector('.ucurve-chart'));
    const marks = () => charts.reduce((sum, root) =>
        sum + root.querySelectorAll('.ucurve-chart .mark-symbol.role-mark path').length, 0);
    setInterval(() => { const count = marks();
        while (window.seen.length < count) window.seen.push(Date.now() / 1000); }, 100); }"""
TO = list(range(30, 42))


@dataclass(frozen=True)
class Measured:
    """rates: requests per second for the experiment, its rows, its verdicts.

    waits: seconds from commit to mark, sorted.
    """

    rates: dict[str, float]
    waits: list[float]
    first_chart: float  # seconds until all viewers, who come at once, have a chart

    def __str__(self) -> str:
        rates = ", ".join(
            f"{rate:.2f} {route or 'experiment'}" for route, rate in self.rates.items()
        )
        return (
            f"requests per second: {rates}\ncommit to chart: median "
            f"{self.waits[len(self.waits) // 2]:.2f} s, worst {self.waits[-1]:.2f} s of "
            f"{len(self.waits)}\nall charts drawn after {self.first_chart:.1f} s"
        )


def browser(playwright: object) -> Browser:
    chromium = shutil.which("chromium")
    assert chromium, "this needs Debian's package chromium"
    launch = playwright.chromium.launch  # type: ignore[attr-defined]
    running: Browser = launch(executable_path=chromium, args=ARGUMENTS.split())
    return running


def measure(client: Client, pages: list[Page], log: Path, to: Sequence[int] = TO) -> Measured:
    """Let every page watch an experiment whose numbers arrive one after another."""
    id = client.submit({"kind": "slow_count", "to": [2, *to], "step_seconds": 0.05}).id
    while client.experiment(id).progress.done < 1:
        time.sleep(0.05)
    client.pause(id)
    began = time.monotonic()
    for page in pages:
        page.goto(f"/experiment?id={id}", wait_until="commit")
    for page in pages:
        chart = page.locator(".ucurve-chart").first  # found in its shadow root too
        chart.locator("svg").wait_for(timeout=180_000)
        page.evaluate(WATCH)
    first_chart, earlier = time.monotonic() - began, client.experiment(id).progress.done
    before, began = num_requests(log, id), time.monotonic()
    client.resume(id)
    while client.experiments(limit=1).experiments[0].state not in ("done", "failed"):
        time.sleep(0.5)  # not by a request for the experiment itself, which is counted
    after, seconds = num_requests(log, id), time.monotonic() - began
    committed = sorted(row.finished_at.timestamp() for row in client.rows(id) if row.finished_at)
    waits: list[float] = []
    for page in pages:
        page.wait_for_function(
            "count => window.seen.length >= count", arg=len(committed), timeout=120_000
        )
        seen: list[float] = page.evaluate("window.seen")
        waits += [
            drawn - done for drawn, done in zip(seen[earlier:], committed[earlier:], strict=True)
        ]
    return Measured(
        {route: (after[route] - before[route]) / seconds for route in after},
        sorted(waits),
        first_chart,
    )


def num_requests(log: Path, id: int) -> dict[str, int]:
    """Count the requests for the experiment in the API's log, by route."""
    routes = re.findall(rf'"GET /v1/experiments/{id}(/\w+)?[? ]', log.read_text())
    return {route: routes.count(route) for route in ("", "/measurements", "/verdicts")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=10)
    viewers = parser.parse_args().viewers
    data, port, pages = Path(tempfile.mkdtemp()), free_port(), free_port()
    options = [
        "--data",
        str(data),
        "--port",
        str(port),
        "--dashboard-port",
        str(pages),
        "--workers",
        "1",
        "--no-demo",
    ]
    env = {**os.environ, "UCURVE_KINDS": str(KINDS), "UCURVE_ACCESS_LOG": "1"}
    up = subprocess.Popen(
        [sys.executable, "-m", "ucurve.cli", "up", *options],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert up.stdout
        while "The lab is ready" not in (line := up.stdout.readline()):
            assert line, "the lab did not start"
        with sync_playwright() as playwright:
            running = browser(playwright)
            contexts = [
                running.new_context(base_url=f"http://127.0.0.1:{pages}") for _ in range(viewers)
            ]
            opened, client = (
                [context.new_page() for context in contexts],
                Client(f"http://127.0.0.1:{port}"),
            )
            print(f"{viewers} viewers\n{measure(client, opened, data / 'logs' / 'api.log')}")
            running.close()
    finally:
        up.terminate()
        up.wait(60)
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
