"""Several browsers on one experiment: how often the API is asked, and how long from a number's commit to its mark on the chart.

    python benchmarks/dashboard_load.py --viewers 10      # starts a lab of its own in a temporary folder; needs Debian's chromium

Questions are counted in the API's own access log (UCURVE_ACCESS_LOG), marks ten times a second in every browser.
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

ARGUMENTS = "--no-sandbox --disable-gpu --disable-background-networking --no-first-run --disable-component-update --disable-sync"
KINDS = Path(__file__).parents[1] / "tests" / "kinds"
WATCH = """() => { window.seen = [];
    const roots = root => [...root.querySelectorAll('*')].filter(one => one.shadowRoot)
        .flatMap(one => [one.shadowRoot, ...roots(one.shadowRoot)]);
    const charts = roots(document).filter(root => root.querySelector('.ucurve-chart'));  // found once: looking costs time, too
    const marks = () => charts.reduce((sum, root) =>
        sum + root.querySelectorAll('.ucurve-chart .mark-symbol.role-mark path').length, 0);
    setInterval(() => { const count = marks();
        while (window.seen.length < count) window.seen.push(Date.now() / 1000); }, 100); }"""  # when each mark was there
TO = list(range(30, 42))


@dataclass(frozen=True)
class Measured:
    """rates: questions per second about the experiment, its rows, its verdicts. waits: seconds from commit to mark, sorted."""

    rates: dict[str, float]
    waits: list[float]
    first_chart: float  # seconds until the last viewer, all coming at once, had a chart

    def __str__(self) -> str:
        rates = ", ".join(f"{rate:.2f} {what or 'experiment'}" for what, rate in self.rates.items())
        return (
            f"questions per second: {rates}\ncommit to chart: median {self.waits[len(self.waits) // 2]:.2f} s, worst "
            f"{self.waits[-1]:.2f} s of {len(self.waits)}\nall charts there after {self.first_chart:.1f} s"
        )


def browser(playwright: object) -> Browser:
    chromium = shutil.which("chromium")
    assert chromium, "this needs Debian's package chromium"
    found: Browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS.split())  # type: ignore[attr-defined]
    return found


def measure(client: Client, pages: list[Page], log: Path, to: Sequence[int] = TO) -> Measured:
    """Let every page watch an experiment whose numbers come one after another."""
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
    before, began = asked(log, id), time.monotonic()
    client.resume(id)
    while client.experiments(limit=1).experiments[0].state not in ("done", "failed"):
        time.sleep(0.5)  # not asked about the experiment itself, which is counted
    after, seconds = asked(log, id), time.monotonic() - began
    committed = sorted(row.finished_at.timestamp() for row in client.rows(id) if row.finished_at)
    waits: list[float] = []
    for page in pages:
        page.wait_for_function(
            "count => window.seen.length >= count", arg=len(committed), timeout=120_000
        )
        seen: list[float] = page.evaluate("window.seen")
        waits += [
            shown - done for shown, done in zip(seen[earlier:], committed[earlier:], strict=True)
        ]
    return Measured(
        {what: (after[what] - before[what]) / seconds for what in after}, sorted(waits), first_chart
    )


def asked(log: Path, id: int) -> dict[str, int]:
    """How often the API was asked about the experiment, by its own log."""
    found = re.findall(rf'"GET /v1/experiments/{id}(/\w+)?[? ]', log.read_text())
    return {what: found.count(what) for what in ("", "/measurements", "/verdicts")}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--viewers", type=int, default=10)
    viewers = given.parse_args().viewers
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
