"""MLflow's run states after each fault; a part of chaos_baseline.py."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ucurve.chaos.proxy import Link
from ucurve.lab.embedded import DATABASE, Engines
from ucurve.lab.launch import answers, free_port, wait_for
from ucurve.lab.processes import ChildProcess, kill_group

STEPS, STEP_SECONDS = 30, 0.2
REPEATS = 3
RUN_PATIENCE = 240.0  # seconds: its client retries for minutes
SETTLE_SECONDS = 5.0


@dataclass
class Tracking:
    """A tracking server on Postgres, and runs that log to it over a link."""

    folder: Path
    command: Path
    engines: Engines
    port: int = field(default_factory=free_port)
    server: ChildProcess = field(init=False)
    link: Link = field(init=False)

    def __post_init__(self) -> None:
        store = f"postgresql+psycopg2://{DATABASE}@/mlflow?host={self.engines.sockets}"
        options = ["--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(self.port)]
        self.server = ChildProcess(
            "mlflow",
            [str(self.command), "server", *options, "--workers", "1", "--no-serve-artifacts"],
            self.folder / "mlflow.log",
            env=dict(os.environ),
        )
        self.link = Link("mlflow", ("127.0.0.1", self.port))

    def start(self) -> None:
        self.server.start()
        wait_for(self.server, lambda: answers(f"http://127.0.0.1:{self.port}/health"), 300)

    def measure(self, fault: Callable[[Tracking, subprocess.Popen[str]], None]) -> dict[str, Any]:
        """Do one run with one fault in its middle; return what the server knows afterwards."""
        script = Path(__file__).parent / "chaos_baseline_run.py"
        words = [f"http://{self.link.host}:{self.link.port}", "chaos", STEPS, STEP_SECONDS]
        process = subprocess.Popen(
            [str(self.command.with_name("python")), str(script), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        run = process.stdout.readline().split()[1]
        acknowledged = [int(process.stdout.readline().split()[1]) for _ in range(STEPS // 3)]
        fault(self, process)
        try:
            rest, _ = process.communicate(timeout=RUN_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            rest, _ = process.communicate()
        acknowledged += [
            int(line.split()[1]) for line in rest.splitlines() if line.startswith("acknowledged ")
        ]
        self.link.restore()
        if not self.server.alive:
            self.start()
        time.sleep(SETTLE_SECONDS)
        return self._known(run, acknowledged, process.returncode)

    def _known(self, run: str, acknowledged: list[int], status: int) -> dict[str, Any]:
        api = f"http://127.0.0.1:{self.port}/api/2.0/mlflow"
        got = httpx.get(f"{api}/runs/get", params={"run_id": run}, timeout=60).raise_for_status()
        history = httpx.get(
            f"{api}/metrics/get-history", params={"run_id": run, "metric_key": "value"}, timeout=60
        ).raise_for_status()
        steps = Counter(int(m.get("step", 0)) for m in history.json().get("metrics", []))
        return {
            "state": got.json()["run"]["info"]["status"],
            "exit status": status,
            "lost": sum(step not in steps for step in acknowledged),
            "doubled": sum(count > 1 for count in steps.values()),
            "unfinished": STEPS - len(steps),
        }


def _kill_run(_: Tracking, run: subprocess.Popen[str]) -> None:
    run.kill()


def _stop_run(_: Tracking, run: subprocess.Popen[str]) -> None:
    run.send_signal(signal.SIGTERM)


def _vanish(tracking: Tracking, run: subprocess.Popen[str]) -> None:
    """Its machine loses the network, then ends."""
    tracking.link.cut()
    time.sleep(1)
    run.kill()


def _kill_server(tracking: Tracking, _: subprocess.Popen[str]) -> None:
    kill_group(tracking.server.pid)  # with the process that serves, which would live on
    tracking.server.kill()
    time.sleep(1)
    tracking.start()


def _stop_database(tracking: Tracking, _: subprocess.Popen[str]) -> None:
    tracking.engines.postgres.process.send_signal(signal.SIGQUIT)  # type: ignore[union-attr]
    time.sleep(2)
    tracking.engines.postgres.stop()
    tracking.engines.postgres.start()


def _lose_answers(tracking: Tracking, _: subprocess.Popen[str]) -> None:
    tracking.link.swallow(3, 10)


FAULTS = {
    "kill -9 of the run": _kill_run,
    "SIGTERM of the run": _stop_run,
    "link cut, then the run ends": _vanish,
    "kill -9 of the tracking server, restarted": _kill_server,
    "immediate stop of Postgres, restarted": _stop_database,
    "answers lost": _lose_answers,
}


def mlflow_states(folder: Path, command: Path) -> None:
    """Print a line per fault."""
    with Engines(folder / "mlflow") as engines:
        create_database(engines)
        tracking = Tracking(folder, command, engines)
        try:
            tracking.start()
            for name, fault in FAULTS.items():
                load = os.getloadavg()[0]
                found = [tracking.measure(fault) for _ in range(REPEATS)]
                states = Counter(run["state"] for run in found)
                stuck = states["RUNNING"]
                totals = {key: sum(run[key] for run in found) for key in ("lost", "doubled")}
                print(
                    f"MLflow, {name}, {REPEATS} runs, load {load:.1f}: {stuck} stuck, "
                    f"{totals}, states {dict(states)}, "
                    f"steps missing {[run['unfinished'] for run in found]}",
                    flush=True,
                )
        finally:
            tracking.server.stop()
            tracking.link.close()


def create_database(engines: Engines) -> None:
    """Create MLflow's database."""
    import psycopg

    address = f"host={engines.sockets} user={DATABASE} dbname=postgres"
    with psycopg.connect(address, autocommit=True) as session:
        session.execute("CREATE DATABASE mlflow")
