"""Does the memory of every process of a lab stay flat while people watch and results arrive?

    python benchmarks/memory.py --viewers 10 --minutes 60 --warm-up 10   # the hour of the table
    python benchmarks/memory.py --viewers 4 --minutes 15 --csv samples.csv

Starts a lab of its own in a temporary folder, opens the viewers in one headless chromium, moves
them from page to page, and submits small experiments without end. Every ten seconds it reads each
process's own memory: private and swapped, so that neither a library another program loads, nor
Postgres's shared buffers, which fill up to a set size, count. Linux only; needs chromium. At the
start many requests arrive at once: the pools, whose size is limited, then have all their
connections, and Postgres does not start backends for them in the middle of the hour.

The rule, fixed before any run: a line is fitted to the means of each minute after the warm-up. A
process is flat when the upper end of the slope's 95 % interval lies below 5 MB or 2 % of its start
per hour, whichever is larger; it grows when the lower end lies above; else the run was too short.
Exits 1 unless every process is flat.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dashboard_load import KINDS, browser
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Page, sync_playwright
from scipy import stats

from ucurve.client import Client, ClientError
from ucurve.lab.launch import free_port

SAMPLE_SECONDS = 10.0
BLOCK_SECONDS = 60.0  # neighbouring samples say nearly the same: the line is fitted to their means
MAX_ACTIVE = 4  # unfinished experiments; more are submitted only below this
REQUESTS_AT_ONCE = 40  # more than the connections that a pool keeps
LIMIT_MB, LIMIT_SHARE = 5.0, 0.02  # per hour
MB = 1e6
NAMES = (  # of processes, by their command line
    (re.compile(r"uvicorn"), "API"),
    (re.compile(r"celery.* -n (\S+)@"), "{}"),
    (re.compile(r"worker\.spare"), "spare worker"),
    (re.compile(r"streamlit"), "dashboard"),
    (re.compile(r"postgres"), "Postgres (all)"),
    (re.compile(r"valkey-server"), "broker"),
    (re.compile(r"ucurve\.cli up"), "supervisor"),
)


@dataclass(frozen=True)
class Sample:
    """Memory of the processes of one name, in bytes, at a time in seconds since the start."""

    seconds: float
    pids: tuple[int, ...]  # the oldest process first
    private: int
    proportional: int


@dataclass(frozen=True)
class Trend:
    """The line through a process's memory after the warm-up; MB and MB per hour."""

    name: str
    start: float
    end: float
    proportional: float  # PSS at the end, shared memory included
    slope: float
    standard_error: float
    low: float
    high: float
    restarted: bool

    @property
    def limit(self) -> float:
        return max(LIMIT_MB, LIMIT_SHARE * self.start)

    @property
    def verdict(self) -> str:
        if self.restarted:
            return "restarted"
        if self.high < self.limit:
            return "flat"
        return "GROWS" if self.low > self.limit else "undetermined"

    def __str__(self) -> str:
        return (
            f"{self.name:<16} {self.start:8.1f} {self.end:8.1f} {self.proportional:8.1f} "
            f"{self.slope:+9.2f} {self.standard_error:7.2f} {self.limit:7.1f}  {self.verdict}"
        )


HEADER = (
    f"{'process':<16} {'start':>8} {'end':>8} {'PSS':>8} {'MB/h':>9} {'± s.e.':>7} {'limit':>7}  "
    "verdict"
)


# ---- reading memory


def descendants(root: int) -> Iterator[int]:
    """Yield a process and all that it started, from /proc."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text()
            except OSError:
                continue  # it has just ended
            parents.setdefault(int(status.rpartition(")")[2].split()[1]), []).append(
                int(folder.name)
            )
    pending = [root]
    while pending:
        pid = pending.pop()
        yield pid
        pending += parents.get(pid, [])


def name_of(pid: int) -> str | None:
    """Return the name under which a process is counted; None for a short-lived helper."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return None
    for pattern, name in NAMES:
        if match := pattern.search(command):
            return name.format(*match.groups())
    return None


def started_at(pid: int) -> int:
    """Return when a process began, in clock ticks since boot: numbers of processes come again."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return sys.maxsize


def memory_of(pid: int) -> tuple[int, int]:
    """Return a process's own memory and its share of everything, in bytes: (private, PSS)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    kilobytes = {name: int(num) for name, num in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
    swapped = kilobytes.get("SwapPss", 0)
    return 1024 * (kilobytes["Pss_Anon"] + swapped), 1024 * (kilobytes["Pss"] + swapped)


def take_samples(root: int, seconds: float) -> dict[str, Sample]:
    """Return one sample per name, the processes of a name added up."""
    groups: dict[str, list[int]] = {}
    for pid in descendants(root):
        if name := name_of(pid):
            groups.setdefault(name, []).append(pid)
    samples = {}
    for name, pids in groups.items():
        sizes = [memory_of(pid) for pid in pids]
        samples[name] = Sample(
            seconds,
            tuple(sorted(pids, key=started_at)),
            sum(size[0] for size in sizes),
            sum(size[1] for size in sizes),
        )
    return samples


# ---- judging it


def trend(name: str, samples: Sequence[Sample], warm_up: float) -> Trend | None:
    """Return the line through the samples after the warm-up; None with fewer than 3 minutes."""
    late = [sample for sample in samples if sample.seconds >= warm_up]
    blocks: dict[int, list[Sample]] = {}
    for sample in late:
        blocks.setdefault(int((sample.seconds - warm_up) // BLOCK_SECONDS), []).append(sample)
    if len(blocks) < 4:
        return None
    hours = [mean([s.seconds for s in block]) / 3600 for block in blocks.values()]
    sizes = [mean([s.private for s in block]) / MB for block in blocks.values()]
    line = stats.linregress(hours, sizes)
    error = 0.0 if math.isnan(line.stderr) else float(line.stderr)  # all sizes are the same
    margin = float(stats.t.ppf(0.975, len(blocks) - 2)) * error
    # Postgres's backends come and go with the pools: its first process tells of a restart.
    firsts = {sample.pids[0] for sample in samples}
    return Trend(
        name,
        sizes[0],
        sizes[-1],
        late[-1].proportional / MB,
        float(line.slope),
        error,
        float(line.slope) - margin,
        float(line.slope) + margin,
        restarted=len(firsts) > 1,
    )


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def trends(history: dict[str, list[Sample]], warm_up: float) -> list[Trend]:
    lines = [trend(name, samples, warm_up) for name, samples in sorted(history.items())]
    return [line for line in lines if line is not None]


# ---- the lab, its viewers and its stream of results


def specs() -> Iterator[dict[str, Any]]:
    """Yield small experiments without end, each with new points."""
    for number in itertools.count(1):
        yield {"kind": "slow_count", "to": [5, 6, 7], "step_seconds": 0.02 + 1e-6 * number}
        yield {"kind": "linear_model", "draws": 2, "width": 16, "num_features": 16, "seed": number}
        yield {
            "kind": "gaussian_perturbation",
            "suite": "tiny",
            "checkpoints": {"log_spaced": 3},
            "gammas": [0.2],
            "draws": 2,
            "seed": number,
        }


def submit_when_idle(client: Client, stream: Iterator[dict[str, Any]]) -> int:
    """Submit experiments until MAX_ACTIVE are unfinished; return the number submitted."""
    active = client.experiments(state=["queued", "running"], limit=1).total
    for _ in range(MAX_ACTIVE - active):
        client.submit(next(stream), name=f"stream {time.time():.0f}")
    return max(0, MAX_ACTIVE - active)


def fill_pools(client: Client) -> None:
    """Send many requests at once, so that the API opens all connections that it keeps."""
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        list(threads.map(lambda _: client.experiments(), range(20 * REQUESTS_AT_ONCE)))


def move(page: Page, turn: int, newest: int) -> None:
    """Let a viewer open the next page."""
    places = ("/", f"/experiment?id={newest}", "/workers", "/explorer", f"/experiment?id={newest}")
    try:
        page.goto(places[turn % len(places)], wait_until="commit", timeout=30_000)
    except BrowserError as error:
        print(f"a viewer could not move: {str(error).splitlines()[0]}", file=sys.stderr)


@contextmanager
def lab(workers: int) -> Iterator[tuple[int, Client, str]]:
    """Run a lab of its own; yield its process, a client and the address of its dashboard."""
    data, port, pages = Path(tempfile.mkdtemp()), free_port(), free_port()
    options = f"--data {data} --port {port} --dashboard-port {pages} --workers {workers} --no-demo"
    up = subprocess.Popen(
        [sys.executable, "-m", "ucurve.cli", "up", *options.split()],
        env={**os.environ, "UCURVE_KINDS": str(KINDS)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert up.stdout
        while "The lab is ready" not in (line := up.stdout.readline()):
            assert line, "the lab did not start"
        yield up.pid, Client(f"http://127.0.0.1:{port}"), f"http://127.0.0.1:{pages}"
    finally:
        up.terminate()
        up.wait(90)
        shutil.rmtree(data, ignore_errors=True)


def watch(
    root: int, client: Client, pages: list[Page], args: argparse.Namespace, file: TextIO | None
) -> dict[str, list[Sample]]:
    """Sample for `args.minutes` while viewers move and results arrive."""
    history: dict[str, list[Sample]] = {}
    writer = csv.writer(file) if file else None
    stream, began, num_submitted = specs(), time.monotonic(), 0
    every = max(1, round(args.move_every / SAMPLE_SECONDS))
    for tick in itertools.count():
        seconds = time.monotonic() - began
        if seconds > 60 * args.minutes:
            break
        for name, sample in take_samples(root, seconds).items():
            history.setdefault(name, []).append(sample)
            if writer and file:
                row = (f"{seconds:.1f}", name, sample.private, sample.proportional)
                writer.writerow(row)
                file.flush()
        try:
            num_submitted += submit_when_idle(client, stream)
        except ClientError as error:
            print(f"nothing submitted: {error}", file=sys.stderr)
        for number, page in enumerate(pages):
            if (tick + number) % every == 0:  # not all at the same moment
                move(page, tick // every + number, max(1, num_submitted - number))
        if tick and tick % 30 == 0:
            report(history, args.warm_up, f"after {seconds / 60:.0f} min, {num_submitted} sent")
        rest = began + (tick + 1) * SAMPLE_SECONDS - time.monotonic()
        pages[0].wait_for_timeout(1e3 * max(0.1, rest))  # and lets the browser's messages through
    return history


def report(history: dict[str, list[Sample]], warm_up: float, title: str) -> list[Trend]:
    lines = trends(history, 60 * warm_up)
    print("\n".join([title, HEADER, *map(str, lines)]), flush=True)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--viewers", type=int, default=10, help="open pages")
    parser.add_argument("--minutes", type=float, default=60, help="length of the run")
    parser.add_argument("--warm-up", type=float, default=10, help="minutes that do not count")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--move-every", type=float, default=60, help="seconds a viewer stays")
    parser.add_argument("--csv", type=Path, help="file for the samples, in bytes")
    args = parser.parse_args()
    file = args.csv.open("w", newline="") if args.csv else None
    with lab(args.workers) as (root, client, address), sync_playwright() as playwright:
        running = browser(playwright)
        fill_pools(client)
        pages = [running.new_context(base_url=address).new_page() for _ in range(args.viewers)]
        history = watch(root, client, pages, args, file)
        running.close()
    title = f"{args.viewers} viewers, {args.minutes:g} minutes, the first {args.warm_up:g} left out"
    lines = report(history, args.warm_up, title)
    return 0 if lines and all(line.verdict == "flat" for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
