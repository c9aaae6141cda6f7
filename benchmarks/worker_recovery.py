"""How long a lab measures nothing after `kill -9` of all its workers.

    python benchmarks/worker_recovery.py --rounds 5
    python benchmarks/worker_recovery.py --before /path/to/an/earlier/checkout

One lab of its own (`ucurve up --workers 2`) measures a long experiment. Each round kills all of its
workers, and with --spare also the process that waits to replace one, and takes the time until the
next measurement is stored. With --before, an earlier version takes turns with this one.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ucurve.client import Client
from ucurve.lab.launch import free_port
from ucurve.lab.processes import command_line

HERE = Path(__file__).resolve().parents[1]
SPEC = {"kind": "gaussian_perturbation", "gammas": [0.1, 0.2, 0.3], "draws": 500}
QUIET_SECONDS = 15.0  # between rounds: restarted processes count as stable, the spare is warm


@contextmanager
def lab(checkout: Path, data: Path) -> Iterator[Client]:
    """A running lab of the code in `checkout`."""
    port, dashboard_port = free_port(), free_port()
    ports = ["--port", str(port), "--dashboard-port", str(dashboard_port)]
    with (data / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ucurve.cli", "up", "--data", str(data / "lab")),
                *("--workers", "2", "--no-demo", *ports),
            ],
            env={**os.environ, "PYTHONPATH": str(checkout), "UCURVE_MOST_PLANNED": "1000000"},
            cwd=data,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 180
        while "The lab is ready" not in (data / "up.log").read_text():
            assert process.poll() is None, (data / "up.log").read_text()
            assert time.monotonic() < deadline, (data / "up.log").read_text()
            time.sleep(0.2)
        yield Client(f"http://127.0.0.1:{port}", "")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def spares(client: Client) -> list[int]:
    """Process ids of this lab's spare workers: siblings of its workers."""
    worker = client.workers()[0].pid
    parent = int(Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1])
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    workers = {info.pid for info in client.workers()}
    return [
        pid
        for pid in map(int, children)
        if pid not in workers and "worker.spare" in command_line(pid)
    ]


def recovery(client: Client, experiment: int, kill_spares: bool) -> float:
    """Kill all workers; return the seconds until the next measurement is stored."""
    victims = [info.pid for info in client.workers() if command_line(info.pid)]
    victims += spares(client) if kill_spares else []
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    time.sleep(0.3)  # what was stored before the kill is counted by now
    done = client.experiment(experiment).progress.done
    while client.experiment(experiment).progress.done == done:
        time.sleep(0.05)
    return time.monotonic() - killed


def main() -> None:
    """Measure and print one line per version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--spare", action="store_true", help="kill the spare worker too")
    args = parser.parse_args()
    checkouts = {"before": args.before, "now": HERE} if args.before else {"now": HERE}
    for name, checkout in checkouts.items():
        with tempfile.TemporaryDirectory() as folder, lab(checkout, Path(folder)) as client:
            experiment = client.submit(SPEC).id
            while client.experiment(experiment).progress.done < 5:
                time.sleep(0.1)
            seconds = []
            for _ in range(args.rounds):
                time.sleep(QUIET_SECONDS)
                seconds.append(recovery(client, experiment, args.spare))
            print(
                f"{name}: median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s "
                f"({', '.join(f'{value:.1f}' for value in seconds)})",
                flush=True,
            )


if __name__ == "__main__":
    main()
