"""The faults of `ucurve chaos`, as far as they apply, against plain Celery and MLflow's run states.

    python benchmarks/chaos_baseline.py --minutes 4 --seed 1 --mlflow VENV/bin/mlflow

Celery on Valkey with an append-only file, with early and with late acknowledgement: a sender
publishes tasks, each of which appends one row to Postgres and retries while Postgres is away.
Broker, database and worker restart a second after their end, as under systemd. After the faults,
everything may finish until nothing has happened for a minute. Every acknowledged task should have
appended exactly one row:

- lost: no row, and the broker no longer holds it
- stuck: no row, and the broker holds it for a worker that is gone (until its visibility timeout,
  an hour by default)
- doubled: more than one row

MLflow: a run is a process that logs a metric per step. After each fault, its state and its steps
are read from the tracking server. stuck: RUNNING although its process has ended.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
from chaos_baseline_mlflow import mlflow_states

from ucurve.chaos.members import BACKEND
from ucurve.chaos.proxy import Link
from ucurve.chaos.schedule import Planned, schedule
from ucurve.lab.embedded import DATABASE, Engines
from ucurve.lab.processes import ChildProcess

KINDS = (
    ("kill", "worker"),
    ("kill", "pool"),  # a process of the worker's pool
    ("kill", "broker"),
    ("kill", "postgres"),
    ("kill", "backend"),
    ("term", "worker"),
    ("term", "broker"),
    ("term", "backend"),
    ("stop", "worker"),
    ("stop", "broker"),
    ("stop", "postgres"),
    ("cut", "broker"),
    ("swallow", "broker"),
    ("flush", "broker"),
    ("immediate", "postgres"),
)
SIGNALS = {
    "kill": signal.SIGKILL,
    "term": signal.SIGTERM,
    "stop": signal.SIGSTOP,
    "immediate": signal.SIGQUIT,
}
TASK_SECONDS = 0.5
SEND_EVERY = 0.5  # seconds: two processes of the pool can do twice as much
QUIET_SECONDS = 60.0


@dataclass
class CeleryBench:
    """Engines, a worker and a sender under faults."""

    folder: Path
    late: bool
    rng: random.Random
    engines: Engines = field(init=False)
    sent: list[int] = field(default_factory=list)  # acknowledged
    num_unanswered: int = 0
    num_faults: int = 0
    _undo: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _restart: dict[str, float] = field(default_factory=dict)

    def run(self, minutes: float, planned: list[Planned]) -> dict[str, int]:
        """Return counts of tasks: sent, lost, stuck, doubled."""
        self.engines = Engines(self.folder / ("late" if self.late else "early"))
        with self.engines:
            self._connect().execute("CREATE TABLE appended (task bigint)").connection.close()
            self._persist_broker()
            self.link = Link("broker", self.engines.sockets / "valkey.sock")
            self.worker = self._worker()
            self.worker.start()
            try:
                self._attack(60 * minutes, planned)
                self._finish()
                return self._counts()
            finally:
                self.worker.stop()
                self.link.close()

    def _persist_broker(self) -> None:
        """Restart the broker with an append-only file: here the messages are the work."""
        broker, folder = self.engines.valkey, self.engines.data / "broker"
        folder.mkdir()
        words = ["yes" if word == "no" else word for word in broker.command]
        broker.stop()
        broker.command = [*words, "--dir", str(folder)]
        broker.start()

    @property
    def database(self) -> str:
        return f"host={self.engines.sockets} user={DATABASE} dbname={DATABASE}"

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.database, autocommit=True, connect_timeout=2)

    def _environment(self, broker: str) -> dict[str, str]:
        return {
            **os.environ,
            "BASELINE_BROKER": broker,
            "BASELINE_DATABASE": self.database,
            "BASELINE_LATE": str(int(self.late)),
        }

    def _worker(self) -> ChildProcess:
        command = ["-m", "celery", "-A", "chaos_baseline_tasks", "worker", "-c", "2"]
        assert self.engines.logs is not None
        return ChildProcess(
            "worker",
            [sys.executable, *command, "--loglevel", "WARNING"],
            self.engines.logs / "worker.log",
            folder=Path(__file__).parent,
            env=self._environment(self.engines.broker_url),
        )

    def _attack(self, seconds: float, planned: list[Planned]) -> None:
        app = self._sender()
        began = time.monotonic()
        left, number, next_send = list(planned), 0, 0.0
        while (now := time.monotonic() - began) < seconds:
            if left and left[0].at <= now:
                self.num_faults += self._inject(left.pop(0))
            if now >= next_send:
                number, next_send = number + 1, now + SEND_EVERY
                try:
                    app.send_task("chaos_baseline_tasks.append", (number, TASK_SECONDS))
                    self.sent.append(number)
                except Exception:  # the sender was told that it failed
                    self.num_unanswered += 1
            self._tick()

    def _sender(self):  # type: ignore[no-untyped-def]
        from celery import Celery

        app = Celery("sender", broker=f"redis://{self.link.host}:{self.link.port}/0")
        app.conf.broker_transport_options = {"socket_timeout": 5, "socket_connect_timeout": 2}
        return app

    def _tick(self) -> None:
        for entry in [entry for entry in self._undo if entry[0] <= time.monotonic()]:
            self._undo.remove(entry)
            entry[1]()
        for child in (*self.engines.children, self.worker):
            if child.alive:
                continue
            due = self._restart.setdefault(child.name, time.monotonic() + 1)
            if time.monotonic() > due:
                del self._restart[child.name]
                child.start()
        time.sleep(0.05)

    def _inject(self, fault: Planned) -> int:
        """Do it; return 1, or 0 when its target does not run."""
        if fault.action == "cut":
            self.link.cut()
            self._undo.append((time.monotonic() + fault.seconds, self.link.restore))
        elif fault.action == "swallow":
            self.link.swallow(self.rng.randint(1, 3), fault.seconds)
        elif fault.action == "flush":
            return self._flush()
        else:
            process = self._target(fault.target)
            if process is None:
                return 0
            process.send_signal(SIGNALS[fault.action])
            if fault.action == "stop":
                self._undo.append((time.monotonic() + fault.seconds, process.resume))
        return 1

    def _flush(self) -> int:
        with socket.socket(socket.AF_UNIX) as broker:
            broker.settimeout(2)
            try:
                broker.connect(str(self.engines.sockets / "valkey.sock"))
                broker.sendall(b"FLUSHALL\r\n")
                return int(broker.recv(16).startswith(b"+OK"))
            except OSError:
                return 0

    def _target(self, name: str) -> psutil.Process | None:
        main = {
            "worker": self.worker,
            "pool": self.worker,
            "broker": self.engines.valkey,
            "postgres": self.engines.postgres,
            "backend": self.engines.postgres,
        }[name]
        if not main.alive:
            return None
        process = psutil.Process(main.pid)
        if name not in ("pool", "backend"):
            return process
        children = process.children()
        if name == "backend":
            children = [c for c in children if " ".join(c.cmdline()).startswith(BACKEND)]
        return self.rng.choice(children) if children else None

    def _finish(self) -> None:
        """Let everything finish until nothing has happened for a minute."""
        for _, undo in self._undo:
            undo()
        self._undo.clear()
        rows, since = -1, time.monotonic()
        while time.monotonic() < since + QUIET_SECONDS:
            self._tick()
            try:
                with self._connect() as session:
                    row = session.execute("SELECT count(*) FROM appended").fetchone()
            except psycopg.Error:
                continue
            assert row is not None
            if row[0] != rows:
                rows, since = int(str(row[0])), time.monotonic()

    def _counts(self) -> dict[str, int]:
        with self._connect() as session:
            rows = Counter(int(str(r[0])) for r in session.execute("SELECT task FROM appended"))
        held = self._held_by_broker()
        missing = [number for number in self.sent if not rows[number]]
        return {
            "faults": self.num_faults,
            "acknowledged": len(self.sent),
            "unanswered": self.num_unanswered,
            "lost": max(0, len(missing) - held),
            "stuck": min(held, len(missing)),
            "doubled": sum(count > 1 for count in rows.values()),
        }

    def _held_by_broker(self) -> int:
        """The number of messages that the broker still holds, delivered or not."""
        import redis

        with redis.Redis(unix_socket_path=str(self.engines.sockets / "valkey.sock")) as broker:
            return int(broker.hlen("unacked")) + int(broker.llen("celery"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="of faults for each way; 0 leaves out Celery"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mlflow", type=Path, help="MLflow's command in a venv of its own")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ucurve-baseline-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for late in (False, True) if args.minutes else ():
            load = os.getloadavg()[0]
            planned = schedule(args.seed, args.minutes, KINDS)
            bench = CeleryBench(folder, late, random.Random(args.seed))
            counts = bench.run(args.minutes, planned)
            acknowledgement = "late" if late else "early"
            print(f"Celery, {acknowledgement} acknowledgement, load {load:.1f}: {counts}")
        if args.mlflow is not None:
            mlflow_states(folder, args.mlflow)


if __name__ == "__main__":
    main()
